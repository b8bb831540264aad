# Events and sagas, with workers: an event starts an instance, another one comes to the
# step that waits for it, and what has arrived is deleted when nobody can need it.
# A crash at any time loses none and brings none twice.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('saga_events',
	conf => "shared_preload_libraries = 'evstore'\nmax_worker_processes = 24\n"
	  . "evstore.max_workers = 8\n");
new_store($node, 'store');

sub query
{
	return $node->safe_psql('store', join ';', "LOAD 'evstore'", @_);
}

sub becomes
{
	my ($expected, $sql, $name) = @_;
	my $last;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll(sub { ($last = eval { query($sql) } // '') eq $expected }, 120);
	return is($last, $expected, $name);
}

my $ended = 'SELECT status, count(*) FROM evstore.saga_instance GROUP BY 1 ORDER BY 1';

query(q(SELECT evstore.create_saga('ship', '{
	"asl": {"StartAt": "Packed", "States": {"Packed": {"Type": "Task", "Resource": "evstore:event:Packed", "ResultPath": "$.packed", "Next": "Note"},
		"Note": {"Type": "Task", "Resource": "evstore:append", "Parameters": {"stream": "shipped", "type": "Shipped", "data": {"id.$": "$.id"}}, "End": true}}},
	"options": {"business_key": "$.id", "start_on": [{"type": "OrderPlaced"}], "correlate": {"Packed": "$.data.id"}}}')));

# ---- workers do it ----

query(q(SELECT evstore.append('order-1', 'OrderPlaced', '{"id": 1}')));
becomes('1', 'SELECT count(*) FROM evstore.saga_wait', 'an event starts an instance, which waits');
query(q(SELECT evstore.append('box-1', 'Packed', '{"id": 1}')));
becomes('succeeded|1', $ended, 'an event comes to it');

# ---- crashes ----

for my $round (1 .. 5)
{
	my $first = $round * 100;

	query("SELECT count(evstore.append('order-' || i, 'OrderPlaced', jsonb_build_object('id', i))) FROM generate_series($first, $first + 99) i");
	query("SELECT count(evstore.append('box-' || i, 'Packed', jsonb_build_object('id', i))) FROM generate_series($first, $first + 99) i");
	# somewhere in the middle
	poll(sub { query('SELECT count(*) FROM evstore.saga_taken') >= $first - 99 + $round * 10 }, 120);
	$node->stop('immediate');
	$node->start;
}
becomes('succeeded|501', $ended, 'after five crashes all instances are there, and have had their events');
is(query(q(SELECT count(*), count(DISTINCT data ->> 'id') FROM evstore.events WHERE type = 'Shipped')), '501|501', 'each once');
is(query('SELECT (SELECT count(*) FROM evstore.saga_taken), (SELECT count(*) FROM evstore.saga_wait), (SELECT count(*) FROM evstore.saga_mail)'), '501|0|0', 'nothing is left to be done');
is(query('SELECT count(*) FROM evstore.saga_arrival'), '501', 'what has arrived is kept');

# ---- a week later ----

$node->append_conf('postgresql.conf', "evstore.now_override = '" . query("SELECT now() + interval '8 days'") . "'");
$node->restart;
becomes('0', 'SELECT count(*) FROM evstore.saga_arrival', 'workers delete what nobody can need');

done_testing();
