# Who follows the log by position sees every committed event exactly once, in
# order, whatever writers do: EvsFollow.pm says who they are.
#
# EVS_NO_SKIP_SECONDS   how long the writers of the first part work (default 30)

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsFollow;
use EvsTest;
use Test::More;

my $seconds = $ENV{EVS_NO_SKIP_SECONDS} || 30;

my $node = new_node(
	'no_skip',
	conf => q(
fsync = off
max_connections = 50
max_prepared_transactions = 50
max_worker_processes = 16
deadlock_timeout = 50ms
));

follow_writers($node, 'no_skip', $seconds, 'plain');

# The lock table is what the safe position is read from.
$node->append_conf('postgresql.conf', 'max_locks_per_transaction = 1000');
$node->restart;
my $locker = session($node, 'postgres');
$locker->query('SELECT count(pg_advisory_lock(n)) FROM generate_series(1, 50000) n');
follow_writers($node, 'no_skip_locks', int($seconds / 4) + 1, '50,000 foreign locks');
$locker->close;

$node->stop;
done_testing();
