# How durable an append is: as the transaction's synchronous_commit says, for
# one append, for a session, for a role.  A commit that waits has flushed the
# WAL up to itself when it returns; one that does not has left that to the WAL
# writer, which here comes by too seldom to be seen.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use Test::More;

my $node = new_node('durability', conf => join "\n",
	'wal_writer_delay = 10s', 'wal_writer_flush_after = 1GB', 'autovacuum = off',
	'bgwriter_lru_maxpages = 0', 'checkpoint_timeout = 1h', 'synchronous_commit = on', '');
new_store($node, 'store', 1000);
my $session = session($node, 'store');
$session->query("SELECT version FROM evstore.append('a-1', 'first')");

# Has the commit record of what was just appended been flushed?  The position of
# the WAL is taken inside of the transaction, so its commit record is behind it.
sub flushed_after
{
	my ($setting) = @_;

	$session->query('BEGIN');
	$session->query($setting) if $setting;
	my $version = $session->query("SELECT version FROM evstore.append('a-1', 'x')");
	my $written = $session->query('SELECT pg_current_wal_insert_lsn()');
	$session->query('COMMIT');
	my $flushed = $session->query("SELECT pg_current_wal_flush_lsn() > '$written'");
	return ($version, $flushed);
}

my ($version, $flushed) = flushed_after(undef);
is($version, 1, 'an append as the server is set');
is($flushed, 't', 'is on disk when its commit returns');

($version, $flushed) = flushed_after('SET LOCAL synchronous_commit = off');
is($version, 2, 'one append that does not wait');
is($flushed, 'f', 'is not');
is($session->query("SELECT max(version) FROM evstore.read_stream('a-1')"), 2,
	'but readers see it');

($version, $flushed) = flushed_after(undef);
is($version, 3, 'the next append of the session');
is($flushed, 't', 'is on disk, and with it all before it');

# What was committed and waited for is there after a crash.
$node->stop('immediate');
$node->start;
$session = session($node, 'store');
is($session->query("SELECT count(*) FROM evstore.read_stream('a-1')"), 4,
	'all of it is there after a crash');
is($session->query("SELECT count(*) FROM evstore.verify() WHERE NOT ok"), 0,
	'and the store is sound');
$session->close;
$node->stop;
done_testing();
