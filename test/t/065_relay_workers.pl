# The life of relays' workers: who gets one, what ends them, and what they notice.
#
# The doubles write down what arrives in files below the data directory.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('relay_workers',
	conf => "shared_preload_libraries = 'evstore'\nmax_worker_processes = 24\nfsync = off\n"
	  . "evstore.max_workers = 12\nmax_connections = 40\n");
new_store($node, 'store');
my $session = session($node, 'store');
my $n = 0;

sub becomes
{
	my ($expected, $got, $name, $seconds) = @_;
	my $last;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll(sub { ($last = $got->() // '') eq $expected }, $seconds // 30);
	return is($last, $expected, $name);
}

# What has arrived in a file: positions, or another column.
sub arrived
{
	my ($file, $column) = @_;
	my $path = $node->data_dir . "/evstore_relay/$file";

	return '' unless -e $path;
	return join ' ', map { (split / /)[ $column // 0 ] } split /\n/, slurp_file($path);
}

sub relay
{
	my ($name, $columns, $in) = @_;

	return ($in // $session)->query("SELECT " . ($columns // 'state') . " FROM evstore.relays WHERE relay = '$name'");
}

sub create
{
	my ($name, $config, $options, $sink) = @_;

	$config = ", $config" if $config;
	$sink //= 'double';
	$options //= '';
	return $session->query("SELECT evstore.create_relay('$name', '$sink', '{\"record\": \"$name\"$config}', "
		  . "start => 'end', options => '{$options}')");
}

# So many events of a stream; their positions.
sub append
{
	my ($count, $stream, $in) = @_;
	my @positions = map { ($in // $session)->query("SELECT position FROM evstore.append('" . ($stream // 'a-1') . "', 't', '{}')") } 1 .. $count;

	return join ' ', @positions;
}

sub worker_of { my ($name) = @_; return relay($name, 'pid'); }

# ---- definitions, while it runs ----

create('first', '');
becomes('running', sub { relay('first') }, 'a relay gets a worker');
my $sent = append(3);
becomes($sent, sub { arrived('first') }, 'it sends');
is($session->query("SELECT application_name FROM pg_stat_activity WHERE pid = " . worker_of('first')), 'first', 'under its name');
is_error($session, "SELECT evstore.run_relay('first')", '55000', qr/being run by its worker/, 'nobody else can run it');
$session->query("SELECT evstore.pause_relay('first')");
becomes('paused|', sub { relay('first', 'state, pid') }, 'paused, it has no worker');
my $more = append(2);
$session->query("SELECT evstore.resume_relay('first')");
becomes("$sent $more", sub { arrived('first') }, 'resumed, it goes on');
$session->query(q(SELECT evstore.alter_relay('first', '{"record": "second"}')));
$more = append(2);
becomes($more, sub { arrived('second') }, 'changed, it does it from then on');
my ($first) = split / /, $sent;
$session->query("SELECT evstore.seek_relay('first', '" . ($first - 1) . "')");
becomes(5 + 2 + 2, sub { scalar(() = arrived('second') =~ /\d+/g) }, 'begun anew, it sends all again');
$session->query(q(SELECT evstore.alter_relay('first', filter => '{"streams": ["b-1"]}')));
append(1);
$more = append(1, 'b-1');
becomes($more, sub { (split / /, arrived('second'))[-1] }, 'with another filter');
unlike(arrived('second'), qr/\b@{[ $more - 1 ]}\b/, '... what it has no place for is not sent');
$session->query("SELECT evstore.drop_relay('first')");
becomes('0', sub { $session->query("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'first'") }, 'dropped, its worker ends');
create('first', '"delay": 1');
$more = append(1);
becomes($more, sub { (split / /, arrived('first'))[-1] }, 'made again under its name, it runs');

# ---- failures, with the clock of the wall ----

create('unsteady', '"script": "all:retry*3"', '"retry": {"max_attempts": 10, "initial": 0.01, "max": 0.05}', 'gated');
$more = append(2);
becomes($more, sub { arrived('unsteady') }, 'what fails is tried again');
is(arrived('unsteady', 1), '4 1', 'as often as it takes');

create('parking', '"script": "all:permanent*1"');
$more = append(1);
becomes('1', sub { relay('parking', 'parked') }, 'parked');
becomes('0', sub { relay('parking', 'lag_events') }, 'and idle');
$session->query("SELECT evstore.replay_parked_relay('parking')");
becomes($more, sub { arrived('parking') }, 'an idle worker notices that it is to send it again');
create('waiting', '"script": "all:permanent*1"');
append(1);
becomes('1', sub { relay('waiting', 'parked') }, 'parked again');
$more = append(2);
becomes('2', sub { relay('waiting', 'waiting') }, 'others wait for it');
$session->query("SELECT evstore.discard_parked('waiting')");
becomes($more, sub { arrived('waiting') }, 'until it is discarded');

create('outage', '"script": "all:outage*4"', '"circuit": {"failures": 2, "open_for": 0.05, "max_open_for": 0.1}');
$more = append(3);
becomes($more, sub { arrived('outage') }, 'after an outage all come, in order');
becomes('closed|0|0', sub { relay('outage', 'circuit, outages, failures') }, 'the circuit is closed again, and no attempt was counted');
is(relay('outage', 'opened'), 3, 'it has opened with the second outage, and twice more');
create('long_outage', '"script": "all:outage*0"', '"circuit": {"failures": 1, "open_for": 600, "max_open_for": 600}');
$more = append(2);
becomes('circuit open', sub { relay('long_outage') }, 'an open circuit shows');
$session->query(q(SELECT evstore.alter_relay('long_outage', '{"record": "long_outage"}')));
$session->query(q(SELECT evstore.pause_relay('long_outage'), evstore.resume_relay('long_outage')));
becomes($more, sub { arrived('long_outage') }, 'resume_relay() tries at once');
create('fatal', '"script": "all:fatal*0"');
append(1);
becomes('stopped|', sub { relay('fatal', 'state, pid') }, 'a sink that says it is pointless stops the relay');
$session->query(q(SELECT evstore.alter_relay('fatal', '{"record": "fatal"}'), evstore.resume_relay('fatal')));
becomes('running|0', sub { relay('fatal', 'state, lag_events') }, 'until it is resumed');
$session->query("SELECT evstore.drop_relay(relay) FROM evstore.relays WHERE relay <> 'first'");

# ---- its role, and who it is ----

$session->query($_)
  for 'CREATE SCHEMA app', 'CREATE ROLE relayer NOLOGIN', "SELECT evstore.grant_access('relayer', 'admin')",
  'GRANT USAGE ON SCHEMA app TO PUBLIC',
  q(CREATE FUNCTION app.who(e evstore.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('who', session_user || ' ' || current_user) $$),
  'CREATE ROLE heir NOLOGIN', "SELECT evstore.grant_access('heir', 'admin')",
  'CREATE TABLE app.secrets (x int)',
  q(CREATE FUNCTION app.peek(e evstore.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(count(*)) FROM app.secrets $$);
$session->query('SET ROLE relayer');
create('owned', '', '"format": "raw", "transform": "app.who(evstore.event)"');
create('curious', '', '"transform": "app.peek(evstore.event)"');
$session->query('RESET ROLE');
append(1);
becomes(length '{"who": "relayer relayer"}', sub { arrived('owned', 5) }, 'a role that may not log in has relays, and the transform runs as it');
becomes('failing', sub { relay('curious') }, 'it can do no more than its owner');
like(relay('curious', 'last_error'), qr/permission denied for table secrets/, '... which the view shows');
like($session->query("SELECT detail FROM evstore.health() WHERE check_name = 'relays go on' AND NOT ok"), qr/curious: .*permission denied/, '... and monitoring');
$session->query('GRANT SELECT ON app.secrets TO relayer');
becomes('running|0', sub { relay('curious', 'state, lag_events') }, '... until it may', 60);
$session->query("SELECT evstore.drop_relay('curious')");
$session->query('DROP OWNED BY relayer; DROP ROLE relayer');
becomes('failing|', sub { relay('owned', 'state, pid') }, 'without its role it does not run');
like(relay('owned', 'last_error'), qr/role "relayer".* does not exist/, 'and says so');
$session->query("SELECT evstore.alter_relay('owned', owner => 'heir')");
append(1);
becomes('26 20', sub { arrived('owned', 5) }, 'given to another role, it runs as that');
$session->query("SELECT evstore.drop_relay('owned')");

# ---- secrets ----

$session->query("SELECT evstore.create_secret('token', 'one')");
create('secretive', '"secret": {"secret": "token"}');
append(1);
becomes('one', sub { arrived('secretive', 1) =~ /^(\S+)/ ? $1 : '' }, 'a secret reaches the sink');
my $pid = worker_of('secretive');
$session->query("SELECT evstore.alter_secret('token', 'two')");
append(1);
becomes('one 1 two 1', sub { arrived('secretive', 1) }, 'and its new value, when it is changed');
is(worker_of('secretive'), $pid, '... without a new worker');
$session->query("SELECT evstore.drop_relay('secretive')");

# ---- workers that end, and settings ----

$pid = worker_of('first');
$node->append_conf('postgresql.conf', "log_min_messages = info\n");
$node->reload;
$more = append(1);
becomes($more, sub { (split / /, arrived('first'))[-1] }, 'after a reload it goes on');
is(worker_of('first'), $pid, '... the same worker');
$session->query("SELECT pg_terminate_backend($pid)");
$more = append(1);
becomes($more, sub { (split / /, arrived('first'))[-1] }, 'terminated, it has a successor');
isnt(worker_of('first'), $pid, '... another process');
$session->query('SELECT evstore.stop()');
is($session->query("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'first'"), '0', 'stop() ends them');
$more = append(2);
is($session->query("SELECT evstore.run_relay('first')"), 2, '... so it can be run by hand');
$session->query('SELECT evstore.start()');
becomes('running', sub { relay('first') }, 'start() starts them');
$more = append(1);
becomes($more, sub { (split / /, arrived('first'))[-1] }, '... and they go on');

$session->query("SELECT evstore.create_relay('r_$_', 'gated', start => 'end')") for 1 .. 5;
becomes('5', sub { $session->query("SELECT count(*) FROM evstore.relays WHERE relay LIKE 'r\\_%' AND state = 'running'") }, 'several relays have several workers');
append(10);
becomes('0', sub { $session->query("SELECT sum(lag_events) FROM evstore.relays") }, '... and each sends all');

# what idle ones do while another waits for some seconds to try again; one of them has
# nothing to send after an outage but what waits for a parked event
create('blocked', '"script": "key=s-1:permanent*1,key=s-1:outage*1"', '"circuit": {"failures": 1, "open_for": 0.01}');
append(2, 's-1');
becomes('1|1', sub { relay('blocked', 'parked, waiting') }, 'one has nothing that it could send');
becomes('0', sub { $session->query("SELECT sum(lag_events) FROM evstore.relays") }, 'all are idle');
create('soon', '"script": "all:retry*1"', '"retry": {"initial": 3, "jitter": 0}');
create('late', '"script": "all:retry*1"', '"retry": {"initial": 6, "jitter": 0}');
my $transactions = "SELECT pg_stat_clear_snapshot(), xact_commit FROM pg_stat_database WHERE datname = 'store'";
$more = append(1, 'p-1');
becomes('2', sub { $session->query("SELECT count(*) FROM evstore.relays WHERE relay IN ('soon', 'late') AND retrying = 1") }, 'two wait');
$session->query('SELECT pg_stat_force_next_flush()');
becomes($more, sub { arrived('soon') }, 'what all have done before is counted by the time that one goes on');
my ($before) = $session->query($transactions) =~ /(\d+)$/;
is(arrived('late'), '', 'the other waits still');
becomes($more, sub { arrived('late') }, '... until it is time');
my ($after) = $session->query($transactions) =~ /(\d+)$/;
cmp_ok($after - $before, '<', 250, 'meanwhile all of them make few transactions');
note($after - $before, ' transactions');
$session->query("SELECT evstore.drop_relay(x) FROM unnest(ARRAY['blocked', 'soon', 'late']) x");

# most places taken by messages without an answer do not keep the others from going out
create('stuck', '"never": "h-"', '"in_flight": 64', 'gated');
append(1, "q-$_") for 1 .. 100;
becomes('100', sub { scalar(() = arrived('stuck', 3) =~ /q-/g) }, 'answers come soon');
append(1, "h-$_") for 1 .. 60;
append(1, "b-$_") for 1 .. 30;
becomes('30', sub { scalar(() = arrived('stuck', 3) =~ /b-/g) }, 'free places are used while most wait for an answer in vain', 10);
$session->query("SELECT evstore.drop_relay('stuck')");

# ---- more relays than workers ----

$node->append_conf('postgresql.conf', "evstore.max_workers = 2\n");
$node->reload;
becomes('2', sub { $session->query("SELECT count(pid) FROM evstore.relays") }, 'with fewer workers than relays some wait', 180);
append(5);
becomes('0', sub { $session->query("SELECT sum(lag_events) FROM evstore.relays") }, '... and have their turn', 180);
# two at a time, and each for a second at least: so many there can be, on a slow machine fewer
my %turns;
my $began = $session->query('SELECT clock_timestamp()');
poll(sub {
	$turns{$_}++ for split /\n/, $session->query('SELECT pid FROM evstore.relays WHERE pid IS NOT NULL');
	return keys %turns >= 12;
});
my $seconds = $session->query("SELECT extract(epoch FROM clock_timestamp() - '$began')");
cmp_ok(scalar(keys %turns), '<=', 2 * $seconds + 4, '... which is not over before it has begun');
$node->append_conf('postgresql.conf', "evstore.max_workers = 12\n");
$node->reload;
becomes('6', sub { $session->query("SELECT count(pid) FROM evstore.relays") }, 'with more all have one', 180);
$session->query("SELECT evstore.drop_relay('r_$_')") for 1 .. 5;

# ---- databases ----

new_store($node, 'other');
my $other = session($node, 'other');
$other->query(q(SELECT evstore.create_relay('first', 'gated', '{"record": "other"}')));
my $there = append(2, 'a-1', $other);
$more = append(1);
becomes($there, sub { arrived('other') }, 'a relay of another database has the same name, and sends its own');
becomes($more, sub { (split / /, arrived('first'))[-1] }, '... as this one does');
$node->safe_psql('postgres', 'CREATE DATABASE emptied');
$node->safe_psql('emptied', q(CREATE EXTENSION evstore; SELECT evstore.create_relay('gone', 'gated')));
becomes('1', sub { $session->query("SELECT count(*) FROM pg_stat_activity WHERE datname = 'emptied' AND application_name = 'gone'") }, 'a third one');
$node->safe_psql('emptied', 'DROP EXTENSION evstore CASCADE');
becomes('0', sub { $session->query("SELECT count(*) FROM pg_stat_activity WHERE datname = 'emptied' AND application_name = 'gone'") }, 'without the extension its worker ends');
$node->safe_psql('emptied', q(CREATE EXTENSION evstore; SELECT evstore.create_relay('back', 'gated', '{"record": "back"}'); SELECT evstore.append('a-1', 't', '{}')));
becomes('1', sub { arrived('back') }, 'with it again there is one');
$node->safe_psql('postgres', 'DROP DATABASE emptied WITH (FORCE)');
becomes('0', sub { $session->query("SELECT count(*) FROM pg_stat_activity WHERE datname = 'emptied'") }, 'a database with relays is dropped');

# a restored copy sends nothing
my $dump = "$PostgreSQL::Test::Utils::tmp_check/store.sql";
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('other') ], 'a dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'psql', '-Xqv', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $dump ], 'and a copy made of it');
my $copy = session($node, 'copy');
append(1, 'a-1', $copy);
becomes('not adopted', sub { $copy->query("SELECT state FROM evstore.workers WHERE kind = 'dispatcher'") }, 'the copy stays quiet');
is(arrived('other'), $there, '... its relay has not sent anything');
$copy->query('SELECT evstore.adopt()');
becomes("$there 3", sub { arrived('other') }, 'until it is adopted: then what is new there');

# ---- shutdown, and start without a sink ----

create('slow', '"delay": 700');
becomes('running', sub { relay('slow') }, 'a slow sink');
$more = append(5, 's-1');
my ($first) = split / /, $more;
becomes($first, sub { (split / /, arrived('slow'))[0] // '' }, 'with the result of one the next is on its way');
$session->close;
$_->close for $other, $copy;
$node->stop('fast');
my $drained = arrived('slow');
$node->start;
$session = session($node, 'store');
becomes($more, sub { arrived('slow') }, 'what is on its way when the server is shut down is waited for, and not sent again');
becomes('0', sub { relay('slow', 'lag_events') }, '... it goes on');
isnt($drained, $first, '... which is not only because nothing was');

$node->append_conf('postgresql.conf', "evstore.sink_path = '/nowhere'\n");
$session->close;
$node->restart;
$session = session($node, 'store');
becomes('failing', sub { relay('first') }, 'a relay whose module has gone does not run');
like(relay('first', 'last_error'), qr/sink "double" is not available/, '... and says why');
like($session->query("SELECT detail FROM evstore.health() WHERE check_name = 'relays go on' AND NOT ok"), qr/first: .*not available/, '... to monitoring, too');
$more = append(1);
$node->append_conf('postgresql.conf', "evstore.sink_path = '\$libdir'\n");
$node->reload;
becomes($more, sub { (split / /, arrived('first'))[-1] }, 'when it is there again, it goes on', 90);
becomes('running', sub { relay('first') }, '... and says so');

$session->close;
$node->stop('fast');
done_testing();
