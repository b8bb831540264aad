# The life of sagas' workers: who gets one, what they do in which order, what ends them,
# and that whatever is killed in between, each step has its effect once.
#
# A step that is "held" waits for an advisory lock that the test has.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('saga_workers',
	conf => "shared_preload_libraries = 'evstore'\nmax_worker_processes = 24\nfsync = off\n"
	  . "evstore.max_workers = 8\nmax_connections = 40\nrestart_after_crash = on\n");
crash_on_purpose($node);
new_store($node, 'store');
my $session = session($node, 'store');
my @roles = map { "role_$_" } 1 .. 3;

sub becomes
{
	my ($expected, $got, $name, $seconds) = @_;
	my $last;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll(sub { ($last = eval { $got->() } // 'lost') eq $expected }, $seconds // 60);
	return is($last, $expected, $name);
}

sub as_role
{
	my ($role, @statements) = @_;

	$session->query("SET ROLE $role");
	$session->query($_) for @statements;
	$session->query('RESET ROLE');
	return;
}

# A saga of n steps, which note what they are called with.
sub chain
{
	my ($n, $options) = @_;
	my @steps = map { qq({"name": "s$_", "resource": "evstore:sql:app.act", "parameters": {"input.\$": "\$", "step": $_}, "result_path": "\$.s$_"}) } 1 .. $n;

	return '{"steps": [' . join(', ', @steps) . '], "options": {' . ($options // '') . '}}';
}

sub create
{
	my ($role, $name, $definition) = @_;

	as_role($role, "SELECT evstore.create_saga('$name', '$definition')");
	return;
}

sub start
{
	my ($name, $input, $more) = @_;

	return $session->query("SELECT evstore.start_saga('$name', '" . ($input // '{}') . "'" . ($more // '') . ')');
}

sub status
{
	my ($id, $columns) = @_;

	return $session->query('SELECT ' . ($columns // 'status') . " FROM evstore.sagas WHERE saga_id = '$id'");
}

sub workers
{
	my ($columns, $where) = @_;

	return $session->query("SELECT $columns FROM evstore.workers WHERE kind = 'saga'" . ($where ? " AND $where" : ''));
}

sub take_lock
{
	my ($number) = @_;
	my $holder = session($node, 'store');

	$holder->query("SELECT pg_advisory_lock($number)");
	return $holder;
}

# Who waits for the lock?
sub held_by
{
	my ($number) = @_;
	my $pid = '';

	poll(
		sub {
			($pid = $session->query("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $number
				AND classid = 0 AND NOT granted LIMIT 1")) ne '';
		});
	return $pid;
}

# ---- one worker a role, also of a role that may not log in ----

$session->query($_)
  for (map { "CREATE ROLE $_ NOLOGIN" } @roles),
  (map { "SELECT evstore.grant_access('$_', 'admin')" } @roles),
  'CREATE SCHEMA app', 'GRANT USAGE ON SCHEMA app TO PUBLIC',
  'CREATE TABLE app.done (n bigint GENERATED ALWAYS AS IDENTITY, saga_id uuid, state text, who text, data jsonb)',
  'CREATE TABLE app.unique_later (x int UNIQUE DEFERRABLE INITIALLY DEFERRED)',
  'GRANT ALL ON app.done, app.unique_later TO PUBLIC',
  q(CREATE FUNCTION app.act(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $f$
	DECLARE
		step jsonb := evstore.current_saga_step();
		input jsonb := COALESCE(data -> 'input', data);
	BEGIN
		IF input ? 'hold' AND step ->> 'state' = 's2' THEN
			PERFORM pg_advisory_xact_lock_shared((input ->> 'hold')::bigint);
		ELSIF input ? 'later' THEN
			INSERT INTO app.unique_later VALUES (1), (1);
		ELSIF input ? 'append' THEN
			PERFORM evstore.append('of-step', 'Acted');
		END IF;
		INSERT INTO app.done (saga_id, state, who, data)
		VALUES ((step ->> 'saga_id')::uuid, step ->> 'state', session_user || ' ' || current_user, data);
		RETURN to_jsonb(true);
	END $f$);
create($_, "of_$_", chain(2)) for @roles;
my %of = map { $_ => start("of_$_") } @roles;
becomes('succeeded', sub { status($of{$_}) }, "$_: its saga comes to the end") for @roles;
is($session->query("SELECT string_agg(DISTINCT who, ', ' ORDER BY who) FROM app.done"),
	join(', ', map { "$_ $_" } @roles), 'each step runs as the owner, who is the user of the session');
is(workers('owner, state, failures, pid IS NOT NULL', 'true ORDER BY owner'),
	join("\n", map { "$_|running|0|t" } @roles), 'the view of workers tells whose they are');

# A worker that sleeps is woken by a start: by himself he would look once a second.
my $began = time;
my $id;
for (1 .. 5)
{
	$id = start('of_role_1');
	poll(sub { status($id) eq 'succeeded' });
}
is(status($id), 'succeeded', 'sagas that are started are run');
cmp_ok(time - $began, '<', 3, 'before anybody would have looked by himself');

# And when something is due.
create('role_1', 'waits', '{"StartAt": "W", "States": {"W": {"Type": "Wait", "TimestampPath": "$.at", "End": true}}}');
$session->query("SELECT count(evstore.start_saga('waits', jsonb_build_object('at', to_char((now() + make_interval(secs => 1 + i * 0.13)) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))))
	FROM generate_series(1, 9) i");
becomes('0', sub { $session->query("SELECT count(*) FROM evstore.sagas WHERE saga = 'waits' AND status <> 'succeeded'") }, 'timers fire');
my ($early, $late) = split /\|/, $session->query("SELECT min(late), percentile_cont(0.5) WITHIN GROUP (ORDER BY late)
	FROM (SELECT extract(epoch FROM ended_at - (input ->> 'at')::timestamptz) AS late FROM evstore.sagas WHERE saga = 'waits') t");
cmp_ok($early, '>=', 0, 'not too early');
cmp_ok($late, '<', 0.3, 'nor when somebody looks by chance');

# ---- several workers, priorities ----

create('role_2', 'wide', chain(3, '"workers": 3'));
becomes(3, sub { workers('count(*)', "owner = 'role_2' AND state = 'running'") }, 'a saga may want several workers');
$session->query("SELECT count(evstore.start_saga('wide')) FROM generate_series(1, 300)");
becomes('0', sub { $session->query("SELECT count(*) FROM evstore.sagas WHERE saga = 'wide' AND status <> 'succeeded'") },
	'three workers, three hundred instances');
is($session->query("SELECT count(*) || ' ' || count(DISTINCT (saga_id, state)) FROM app.done
		WHERE saga_id IN (SELECT saga_id FROM evstore.sagas WHERE saga = 'wide')"),
	'900 900', 'each step once');
create('role_2', 'wide', chain(3));
becomes(1, sub { workers('count(*)', "owner = 'role_2'") }, 'and then fewer');

$session->query("SELECT evstore.pause_saga('of_role_3')");
start('of_role_3', '{}', ', priority => 9') for 1 .. 5;
my $first = start('of_role_3', '{}', ', priority => 0');
start('of_role_1');
becomes('', sub { workers('pid', "owner = 'role_3'") }, 'a role all of whose sagas are paused needs no worker');
is(status($first, 'transitions'), 0, 'nor has it done anything');
$session->query("SELECT evstore.resume_saga('of_role_3')");
becomes('0', sub { $session->query("SELECT count(*) FROM evstore.sagas WHERE saga = 'of_role_3' AND status <> 'succeeded'") },
	'it is resumed');
is($session->query("SELECT s.saga_id FROM evstore.sagas s JOIN app.done d USING (saga_id) WHERE s.saga = 'of_role_3'
		AND s.saga_id <> '$of{role_3}' ORDER BY d.n LIMIT 1"), $first, 'the one with the highest priority first');

# ---- errors that would come at the end of the transaction ----

$id = start('of_role_1', '{"later": true}');
becomes('failed', sub { status($id) }, 'a constraint that is checked at the end is an error of the step');
like(status($id, 'error'), qr/^SQL\.23505$/, 'by its name');

# ---- a step is interrupted ----

my $holder = take_lock(4711);
create('role_1', 'held', chain(3));
$id = start('held', '{"hold": 4711}');
my $pid = held_by(4711);
isnt($pid, '', 'a step is under way');
is(status($id, 'transitions'), 1, 'the one before has been committed');
my $other = start('of_role_2');
becomes('succeeded', sub { status($other) }, 'workers of other roles go on');
is($session->query("SELECT evstore.run_sagas(saga => 'held')"), 0, 'nobody else takes the instance');
$session->query("SELECT pg_terminate_backend($pid)");
ok(poll(sub { !is_running($pid) }), 'a worker that is terminated ends in the middle of a step');
is(status($id, 'transitions, last_error'), '1|', 'the step has not happened, which is nobody\'s fault');
isnt(held_by(4711), '', 'the next worker begins it anew');
$holder->close;
becomes('succeeded', sub { status($id) }, 'and it goes on');
is($session->query("SELECT string_agg(state, ' ' ORDER BY n) FROM app.done WHERE saga_id = '$id'"), 's1 s2 s3', 'each step once');

# ---- owners ----

my $before = workers('pid', "owner = 'role_1'");
$session->query("SELECT evstore.alter_saga('held', 'role_2')");
$id = start('held');
becomes('succeeded', sub { status($id) }, 'a saga that is given away is run');
is($session->query("SELECT DISTINCT who FROM app.done WHERE saga_id = '$id'"), 'role_2 role_2', 'as its new owner');
$session->query($_) for "SELECT evstore.create_saga('orphan', '" . chain(1) . "')", "SELECT evstore.alter_saga('orphan', 'role_3')",
  "SELECT evstore.drop_saga('of_role_3')", 'DROP OWNED BY role_3', 'DROP ROLE role_3';
becomes('', sub { workers('pid', 'owner IS NULL OR owner = \'role_3\'') }, 'the worker of a role that is dropped ends');
is_error($session, "SELECT evstore.start_saga('orphan')", '42704', qr/role "role_3", which owned saga "orphan", does not exist/,
	'its saga cannot be started');
like($session->query("SELECT detail FROM evstore.health() WHERE check_name = 'sagas go on'"), qr/orphan: role "role_3"/, 'which health() tells');
$session->query("SELECT evstore.alter_saga('orphan', 'role_1')");
$id = start('orphan');
becomes('succeeded', sub { status($id) }, 'until somebody else has it');

# ---- an instance that is broken does not stop the others ----

$session->query("SELECT evstore.pause_saga('of_role_1')");
my $broken = start('of_role_1');
$session->query("UPDATE evstore.saga_instance SET execution = '{\"t\": [{\"s\": \"nowhere\"}]}' WHERE id = '$broken'");
$id = start('of_role_1');
$session->query("SELECT evstore.resume_saga('of_role_1')");
becomes('succeeded', sub { status($id) }, 'the others go on');
becomes('t', sub { $session->query("SELECT last_error IS NOT NULL AND failures > 1 FROM evstore.saga_instance WHERE id = '$broken'") },
	'it is tried again now and then');
is($session->query("SELECT reason FROM evstore.stuck_sagas WHERE saga_id = '$broken'"), 'cannot go on', 'and shown');
$session->query("DELETE FROM evstore.saga_instance WHERE id = '$broken'");

# ---- waiting instances cost nothing ----

create('role_1', 'sleeps', '{"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 86400, "End": true}}}');
$session->query("SELECT count(evstore.start_saga('sleeps', priority => i % 10)) FROM generate_series(1, 3000) i");
becomes(3000, sub { $session->query("SELECT count(*) FROM evstore.saga_instance i JOIN evstore.saga s ON s.id = i.definition_id
	WHERE s.name = 'sleeps' AND i.next_due > now()") }, 'three thousand timers are set');
$session->query('VACUUM ANALYZE evstore.saga_instance');

# What workers have read so far; they tell it a second later at most.
sub counts
{
	return split /\|/, $session->query("SELECT t.seq_tup_read, i.idx_tup_read, i.idx_scan
		FROM pg_stat_user_tables t JOIN pg_stat_user_indexes i USING (relid) WHERE i.indexrelname = 'saga_instance_due_idx'");
}

# Looks are counted, a hundred at a time: the first ones may tell of what was done before.
my (@start, @end);
ok( poll(
		sub {
			@start = counts();
			poll(sub { (@end = counts())[2] > $start[2] + 100 });
			return $end[1] - $start[1] <= $end[2] - $start[2];
		}),
	'the workers look around, and of the index they read what is due next');
is($end[0], $start[0], 'nothing of the table');

# ---- retention ----

create('role_1', 'short', chain(1, '"retention": 0'));
$id = start('short');
becomes('0', sub { $session->query("SELECT count(*) FROM evstore.sagas WHERE saga = 'short' AND status <> 'succeeded'") }, 'an instance that is not to be kept');
$session->query("SELECT pg_terminate_backend(pid) FROM evstore.workers WHERE kind = 'saga' AND owner = 'role_1'");
becomes('0', sub { $session->query("SELECT count(*) FROM evstore.saga_instance WHERE id = '$id'") }, 'a worker removes it');
is($session->query("SELECT count(*) FROM evstore.saga_step WHERE saga_id = '$id'"), 0, 'with its steps');

# ---- killed at any moment ----

$session->query("SELECT evstore.drop_saga('sleeps', true)");
create('role_1', 'crash', chain(4, '"workers": 2'));
sub crash_ended
{
	return $session->query("SELECT count(*) FROM evstore.saga_instance i JOIN evstore.saga s ON s.id = i.definition_id
		WHERE s.name = 'crash' AND i.ended_at IS NOT NULL");
}

sub reconnect
{
	ok(poll(sub { $session = eval { session($node, 'store') } }), 'the server is there again');
	return;
}

my $ended = 0;
for my $round (1 .. 4)
{
	$session->query("SELECT count(evstore.start_saga('crash', '{\"append\": true}')) FROM generate_series(1, 150)");
	ok(poll(sub { crash_ended() > $ended + 20 }), "round $round: some have ended");
	if ($round % 2)
	{
		my $victim = workers('min(pid)', "owner = 'role_1'");

		kill 'KILL', $victim;
		ok(poll(sub { !is_running($victim) }), 'a worker is killed');
		ok(poll(sub { !defined eval { $session->query('SELECT 1') } }), 'so all sessions end');
	}
	else
	{
		$node->stop('immediate');
		$node->start;
	}
	reconnect();
	$ended = crash_ended();
	cmp_ok($ended, '<', $round * 150, 'others were under way');
	becomes($round * 150, \&crash_ended, "round $round: all come to their end");
	$ended = $round * 150;
}
is($session->query("SELECT count(*), count(DISTINCT (d.saga_id, d.state)) FROM app.done d JOIN evstore.sagas s USING (saga_id) WHERE s.saga = 'crash'"),
	'2400|2400', 'each step has had its effect once');
is($session->query("SELECT DISTINCT string_agg(status || ' ' || state, ', ' ORDER BY step) FROM evstore.saga_steps WHERE saga = 'crash' GROUP BY saga_id"),
	'succeeded s1, succeeded s2, succeeded s3, succeeded s4', 'as its steps say');
is($session->query("SELECT DISTINCT string_agg(e.type, ' ' ORDER BY e.version) FROM evstore.sagas s JOIN evstore.events e ON e.stream = 'saga-' || s.saga_id
		WHERE s.saga = 'crash' GROUP BY s.saga_id"),
	'SagaStarted' . ' StepStarted StepSucceeded' x 4 . ' SagaSucceeded', 'and its history');
is($session->query("SELECT count(*), count(DISTINCT causation_id) FROM evstore.read_stream('of-step', max_count => 10000)"), '2400|2400', 'what steps append is there once, too');

# ---- copies ----

create('role_1', 'copied', '{"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 1, "Next": "S"}, "S": {"Type": "Task", "Resource": "evstore:sql:app.act", "End": true}}}');
$session->query("SELECT evstore.pause_saga('copied')");
$id = start('copied');
my $dump = "$PostgreSQL::Test::Utils::tmp_check/sagas.sql";
$node->command_ok([ 'pg_dump', '--no-sync', '-d', $node->connstr('store'), '-f', $dump ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'psql', '-Xqv', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $dump ], 'restored');
my $copy = session($node, 'copy');
$copy->query("SELECT evstore.resume_saga('copied')");
becomes('not adopted', sub { $node->reload; $copy->query("SELECT state FROM evstore.workers WHERE kind = 'dispatcher'") }, 'a copy is quiet');
becomes(0, sub { $copy->query("SELECT count(*) FROM evstore.workers WHERE kind = 'saga'") }, 'it has no workers');
is_error($copy, 'SELECT evstore.run_sagas()', '55000', qr/this database is a copy.*adopt\(\)/s, 'nor does run_sagas() do anything there');
is($copy->query("SELECT transitions FROM evstore.sagas WHERE saga_id = '$id'"), 0, 'nothing has been done there');
$copy->query('SELECT evstore.adopt()');
becomes('succeeded', sub { $copy->query("SELECT status FROM evstore.sagas WHERE saga_id = '$id'") }, 'until it is adopted: then its instances go on');
is(status($id, 'transitions'), 0, 'those of the original are others');
$copy->close;

# ---- the extension goes ----

$before = workers('min(pid)');
isnt($before, '', 'there are workers');
$session->query('DROP VIEW evstore.drop_guard');
$session->query('DROP EXTENSION evstore CASCADE');
ok(poll(sub { !is_running($before) }), 'they end with the extension');
$session->query('CREATE EXTENSION evstore');
$session->query("SELECT evstore.create_saga('again', '{\"StartAt\": \"A\", \"States\": {\"A\": {\"Type\": \"Pass\", \"End\": true}}}')");
$id = start('again');
becomes('succeeded', sub { status($id) }, 'and come again with it');

$session->close;
$node->stop;
done_testing();
