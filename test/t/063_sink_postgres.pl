# The sink "postgres" against a second server: whatever is killed, and whenever,
# each message is in the table, or the other evstore, exactly once, and those of a
# key are in order.
#
# The relay's part is played by sink_harness.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsChaos;
use EvsBroker;
use EvsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $module = sink_module('postgres') or plan skip_all => 'the sink postgres was not built';

my $node = new_node('target', started => 0, conf => "max_worker_processes = 20\n");
run_postmaster($node);
my $session = wait_for_server($node, 'postgres');
crash_on_purpose($node);
my $me = $session->query('SELECT current_user');
$session->query('CREATE DATABASE store');
$session = session($node, 'store');
$session->query('CREATE EXTENSION evstore');
$session->query('CREATE SCHEMA app');

# n is the order of arrival.  For the relay it is the first of all tables.
sub new_table
{
	my ($name, $more) = @_;

	$session->query("DROP TABLE IF EXISTS app.evstore_relay_$_") for qw(position ledger);
	$session->query("CREATE TABLE app.$name (n bigint GENERATED ALWAYS AS IDENTITY, pos bigint NOT NULL,
		id uuid NOT NULL, kind varchar(20), key text, at timestamptz, body jsonb" . ($more // '') . ')');
	return;
}

sub settings
{
	my ($user, @more) = @_;

	return ($module, 'host=' . $node->host, 'port:=' . $node->port, 'dbname=store', "user=$user", @more);
}

sub table
{
	my ($name, @more) = @_;

	return ('--format=raw', '--directory=/', settings($me, 'target=table', "table=app.$name", 'create:=true',
		'columns.pos=position', 'columns.id=id', 'columns.kind=type', 'columns.key=key', 'columns.at=time',
		'columns.body=data', @more));
}

sub other_evstore
{
	return ('--format=cloudevents-binary', settings($me, @_));
}

# Each once, from $first to $last but for those that $without says, and in order for each key.
sub is_whole
{
	my ($name, $table, $first, $last, $without) = @_;

	$without //= 'false';
	my $wrong = $session->query(
		qq(SELECT string_agg(what, E'\\n') FROM (
		SELECT pos || ' is there ' || count(*) || ' times' FROM app.$table GROUP BY pos HAVING count(*) > 1
		UNION ALL
		SELECT p || ' is missing' FROM generate_series($first, $last) p
		WHERE NOT ($without) AND NOT EXISTS (SELECT FROM app.$table t WHERE t.pos = p)
		UNION ALL
		SELECT pos || ' should not be there' FROM app.$table t, LATERAL (SELECT t.pos AS p) x
		WHERE ($without) OR pos NOT BETWEEN $first AND $last
		UNION ALL
		SELECT pos || ' comes after ' || before FROM (SELECT pos, lag(pos) OVER (PARTITION BY key ORDER BY n) AS before
		FROM app.$table) o WHERE before > pos LIMIT 10) w(what)));
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($wrong, '', $name);
	return;
}

# ---- a table ----

new_table('plain');
my $run = harness('--messages=3000', '--test', table('plain'));
is($run->{status}, 0, 'table: all delivered, no violation') or diag($run->{out});
is($run->{resume_after}, 3000, 'the position row tells where to go on');
is($session->query('SELECT count(*) FROM app.plain WHERE pos = 0'), 1, 'the test message is written');
$session->query('DELETE FROM app.plain WHERE pos = 0');
is_whole('table: all there, once and in order', 'plain', 1, 3000);
is($session->query(q(SELECT count(*) FROM app.plain WHERE body IS NOT NULL AND at IS NOT NULL AND kind <> '')), 3000,
	'columns have their values');
$run = harness('--messages=3500', table('plain'));
is($run->{count}{duplicate}, 3000, 'what comes again is a duplicate') or diag($run->{out});
is_whole('and not written again', 'plain', 1, 3500);

new_table('replayed');
$run = harness('--messages=500', '--replay=50', table('replayed'));
is($run->{status}, 0, 'replayed messages are taken') or diag($run->{out});
is($session->query('SELECT count(*), count(DISTINCT pos) FROM app.replayed'), '550|500', 'a replay is a delivery of its own');

$session->query('TRUNCATE app.evstore_relay_position, app.evstore_relay_ledger');
$session->query('CREATE TABLE app.bytes (pos int8, "odd ""name" bytea)');
$run = harness('--edge', '--messages=50', '--format=raw', settings($me, 'target=table', 'table=app.bytes',
		'columns.pos=position', 'columns.odd "name=data'));
is($run->{count}{ok}, 50, 'odd messages into a bytea') or diag($run->{out} . $run->{results});
is($session->query('SELECT count(*), max(length("odd ""name")) > 16777215 FROM app.bytes'), '50|t', 'byte for byte');

# ---- messages that the table refuses ----

new_table('poison', ', CHECK (pos % 100 <> 7)');
$run = harness('--messages=1000', table('poison'));
is($run->{count}{permanent}, 10, 'only what is wrong is refused') or diag($run->{out});
like($run->{results}, qr/^107 \S+ permanent 0 1 \[23514\] /m, 'the error names the code');
is_whole('the others are there, once and in order', 'poison', 1, 1000, 'p % 100 = 7');
is($run->{resume_after}, 6, 'resume() stops below the first that was passed over');
$session->query('ALTER TABLE app.poison DROP CONSTRAINT poison_pos_check');
$run = harness('--messages=1000', table('poison'));
is($run->{count}{ok}, 10, 'those that were passed over are written when they come again') or diag($run->{out});
is($session->query('SELECT count(*), count(DISTINCT pos) FROM app.poison'), '1000|1000', 'and the others are not');
is($run->{resume_after}, 1000, 'then nothing is passed over any more');

# The trigger refuses a message twice: later ones of its key must not overtake it.
new_table('stubborn');
$session->query($_) for 'CREATE SEQUENCE app.tries', q(CREATE FUNCTION app.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.pos = 300 AND nextval('app.tries') < 6 THEN RAISE 'not yet'; END IF;
		RETURN NEW;
	END $$), 'CREATE TRIGGER refuse BEFORE INSERT ON app.stubborn FOR EACH ROW EXECUTE FUNCTION app.refuse()';
$run = harness('--messages=1000', '--attempts=20', table('stubborn'));
is($run->{status}, 0, 'a message that fails a few times') or diag($run->{out});
cmp_ok($run->{count}{retry}, '>', 1, 'which is its own failure');
is_whole('none overtakes it', 'stubborn', 1, 1000);

new_table('torn');
$run = harness('--messages=1', '--format=raw', settings($me, 'target=table', 'table=app.torn', 'create:=true',
		'columns.pos=type', 'columns.id=id'));
like($run->{results}, qr/permanent 0 1 \[22P02\]/, 'a value that does not fit its column');

# ---- outages that somebody repairs ----

# Something is broken while the relay pauses, and repaired when that has been noticed.
sub is_repaired
{
	my ($name, $code, $table, $break, $repair) = @_;

	new_table($table);
	$run = start_harness('--messages=300', '--pause-at=100', '--submit=10', '--give-up=60', '--retry-delay=20', table($table));
	wait_for_pause($run);
	$break->();
	go_on($run);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(poll(sub { slurp_file($run->{log}) =~ $code }), "$name: an outage") or diag($run->{out} . slurp_file($run->{log}));
	$repair->();
	finish_harness($run);
	is($run->{status}, 0, "$name: repaired") or diag($run->{out});
	is_whole("$name: all there, once and in order", $table, 1, 300);
	return;
}

is_repaired('a missing table', qr/retry_sink 0 1 \[42P01\]/, 'missing',
	sub { $session->query('ALTER TABLE app.missing RENAME TO away') },
	sub { $session->query('ALTER TABLE app.away RENAME TO missing') });
my $other = session($node, 'store');
is_repaired('another relay of the name', qr/retry_sink 0 1 another session has the lock/, 'locked',
	sub {
		$other->send(q(SELECT pg_advisory_lock(hashtextextended('evstore relay harness', 0))));
		$session->query(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'evstore relay harness'));
		$other->result;
	},
	sub { $other->close });

# A role of its own, since the test's may do everything.
new_table('forbidden');
harness('--messages=1', table('forbidden'));
$session->query($_) for 'CREATE ROLE writer LOGIN', 'GRANT USAGE ON SCHEMA app TO writer',
  'GRANT SELECT, INSERT, UPDATE ON app.evstore_relay_position, app.evstore_relay_ledger TO writer';
$run = start_harness('--messages=300', '--give-up=60', '--retry-delay=20', '--format=raw',
	settings('writer', 'target=table', 'table=app.forbidden', 'columns.pos=position', 'columns.id=id', 'columns.key=key'));
ok(poll(sub { -e $run->{log} && slurp_file($run->{log}) =~ /retry_sink 0 1 \[42501\]/ }), 'a missing right: an outage');
$session->query('GRANT INSERT ON app.forbidden TO writer');
finish_harness($run);
is($run->{status}, 0, 'a missing right: repaired') or diag($run->{out});
is_whole('a missing right: all there, once and in order', 'forbidden', 1, 300);

# ---- another evstore ----

$run = harness('--messages=2000', other_evstore('stream=copy-{topic}', '--topic={key}'));
is($run->{status}, 0, 'evstore: all delivered, no violation') or diag($run->{out});
is($session->query('SELECT count(*), count(DISTINCT stream) FROM evstore.events'), '2000|10', 'in streams of their own');
$run = harness('--messages=2100', other_evstore('stream=copy-{topic}', '--topic={key}'));
is($session->query('SELECT count(*) FROM evstore.events'), 2100, 'what is there already is not appended again')
  or diag($run->{out});
is($session->query('SELECT count(*) FROM evstore.events WHERE metadata = $${}$$ OR source IS NULL'), 0,
	'events have their source, and headers as metadata');
$run = harness('--messages=1', other_evstore('stream=elsewhere'));
like($run->{results}, qr/permanent 0 1 \[VS003\]/, 'an id that is another event is refused');

# ---- killed ----

new_table('killed');
for my $target ('table', 'evstore')
{
	my $n = 6000;
	my @options = ("--messages=$n", '--rate=4000', '--timeout=2000', '--give-up=100', '--first=10001',
		$target eq 'table' ? table('killed') : (other_evstore('stream=killed-{topic}'), '--topic={key}'));
	my $count = $target eq 'table' ? 'SELECT count(*) FROM app.killed' :
	  q(SELECT count(*) FROM evstore.events WHERE stream LIKE 'killed-%');

	$run = start_harness(@options);
	for my $share (0.2, 0.4, 0.6)
	{
		poll(sub { $session->query($count) >= $n * $share }) or die 'nothing arrives';
		kill_server($node, 'everything');
		$session = wait_for_server($node, 'store');
	}
	finish_harness($run);
	is($run->{status}, 0, "$target: the server is killed") or diag($run->{out});
	cmp_ok($run->{count}{retry_sink}, '>', 0, "$target: which was an outage");
	is($session->query($count), $n, "$target: each is there once");
}
is_whole('table: all there, once and in order', 'killed', 10001, 16000);
is($session->query(q(SELECT count(*) FROM (SELECT position, lag(position) OVER w AS before, (metadata ->> 'x-header-0') AS h
	FROM evstore.events WHERE stream LIKE 'killed-%' WINDOW w AS (PARTITION BY stream ORDER BY version)) o
	WHERE before > position)), 0, 'evstore: streams are in order');

new_table('relay');
my @options = ('--messages=6000', '--rate=20000', table('relay'));
is(harness('--kill-at=2000', @options)->{status}, -9, 'the relay is killed');
$run = harness('--resume', '--destroy-at=2000', @options);
is($run->{status}, 0, 'resumed, and ended in the middle') or diag($run->{out});
$run = harness('--resume', @options);
is($run->{status}, 0, 'resumed to the end') or diag($run->{out});
is_whole('all there, once and in order', 'relay', 1, 6000);

# ---- settings ----

my @base = ($module, 'host=' . $node->host, 'port:=' . $node->port, 'dbname=store', "user=$me");
for (
	[ 'sslmode=prefer', qr/"sslmode"/ ],
	[ 'password=text', qr/secret/ ],
	[ 'target=file', qr/"target"/ ],
	[ 'table=app.x', qr/for the target table/ ],
	[ 'stream=', qr/"stream"/ ],
	[ 'target=table', qr/"table" must be/ ],
	[ '--format=cloudevents', qr/format raw or/ ],
	[ '--deny=unix', qr/not allowed/ ])
{
	my ($what, $pattern) = @$_;
	$run = harness('--invalid', ($what =~ /^--/ ? $what : ()), ($what =~ /format/ ? () : '--format=raw'), @base, ($what =~ /^--/ ? () : $what));
	like($run->{out}, $pattern, "refused: $what");
}
$run = harness('--messages=1', '--give-up=1', '--retry-delay=100', '--format=raw', '--deny=127.0.0.1', '--deny=::1',
	$module, 'host=localhost', 'dbname=store', "user=$me");
like($run->{results}, qr/retry_sink 0 1 .*not allowed/, 'the address of a name is checked, too');
$run = harness('--messages=1', '--give-up=1', '--retry-delay=100', '--format=raw',
	$module, 'host=127.0.0.1', 'port:=1', 'dbname=store', "user=$me");
like($run->{results}, qr/retry_sink 0 1 .*refused/, 'nobody there');

done_testing();
