# The life of projections' workers: who gets one, what ends them, and what their
# handlers must not be able to do.
#
# A handler that is "held" waits for an advisory lock that the test has.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('projection_workers',
	conf => "shared_preload_libraries = 'evstore'\nmax_worker_processes = 24\nfsync = off\n"
	  . "evstore.max_workers = 12\nmax_connections = 40\n");
new_store($node, 'store');
my $session = session($node, 'store');
my @roles = map { "role_$_" } 1 .. 5;

sub becomes
{
	my ($expected, $got, $name, $seconds) = @_;
	my $last;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll(sub { ($last = $got->()) eq $expected }, $seconds // 30);
	return is($last, $expected, $name);
}

sub handled
{
	my ($name) = @_;

	return $session->query("SELECT count(*) || '|' || count(DISTINCT \"position\") FROM app.seen WHERE name = '$name'");
}

sub projection
{
	my ($name, $columns) = @_;

	return $session->query("SELECT " . ($columns // 'state') . " FROM evstore.projections WHERE projection = '$name'");
}

# A handler that notes what it has been called with, and who it is, after some statements.
sub handler
{
	my ($name, $body) = @_;

	return qq(CREATE OR REPLACE FUNCTION app.$name(e evstore.event) RETURNS void LANGUAGE plpgsql AS \$f\$
		DECLARE x text;
		BEGIN
			$body
			INSERT INTO app.seen (name, "position", who) VALUES ('$name', e.position, session_user || ' ' || current_user);
		END \$f\$);
}

sub create
{
	my ($role, $name, $body, $options) = @_;

	$options //= '';
	$session->query("SET ROLE $role");
	$session->query(handler($name, $body));
	$session->query("SELECT evstore.create_projection('$name', 'app.$name(evstore.event)', options => '{$options}')");
	$session->query('RESET ROLE');
	return;
}

sub append
{
	my ($n) = @_;

	return $session->query(
		"SELECT max(a.\"position\") FROM generate_series(1, $n) i, LATERAL evstore.append('a-' || i % 7, 't') a");
}

sub has_come
{
	my ($name, $seconds) = @_;

	$seconds //= 30;
	return $session->query("SELECT evstore.wait_for_projection('$name', NULL, '$seconds seconds')");
}

sub set_guc
{
	my ($setting) = @_;

	$session->query("ALTER SYSTEM SET $setting");
	$node->reload;
	return;
}

sub pid_of
{
	my ($role) = @_;

	return $session->query(
		"SELECT pid FROM evstore.workers WHERE kind = 'projection' AND owner = '$role' AND pid IS NOT NULL LIMIT 1");
}

sub take_lock
{
	my ($number) = @_;
	my $holder = session($node, 'store');

	$holder->query("SELECT pg_advisory_lock($number)");
	return $holder;
}

# Does a handler wait for the lock?
sub is_held
{
	my ($number) = @_;

	return poll(
		sub {
			$session->query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $number
				AND classid = 0 AND NOT granted") > 0;
		});
}

sub hold
{
	return "PERFORM pg_advisory_xact_lock_shared($_[0]);";
}

# ---- one worker a role, also of a role that may not log in ----

$session->query($_)
  for (map { "CREATE ROLE $_ NOLOGIN" } @roles),
  (map { "SELECT evstore.grant_access('$_', 'admin')" } @roles),
  'CREATE SCHEMA app', 'GRANT ALL ON SCHEMA app TO PUBLIC',
  'CREATE TABLE app.seen (id bigint GENERATED ALWAYS AS IDENTITY, name text, "position" bigint, who text)',
  'GRANT ALL ON app.seen TO PUBLIC';
create($_, "of_$_", '') for @roles;
append(20);
is(has_come("of_$_"), 't', "$_: its projection comes to the end") for @roles;
is($session->query("SELECT string_agg(DISTINCT name || ' ' || who, ', ' ORDER BY name || ' ' || who) FROM app.seen"),
	join(', ', map { "of_$_ $_ $_" } @roles), 'each runs as its owner, who is the user of the session');
is(handled("of_$_"), '20|20', "$_: each event once") for @roles;
is( $session->query(
		"SELECT kind, state, owner, failures, pid IS NOT NULL FROM evstore.workers WHERE kind = 'projection' ORDER BY owner"),
	join("\n", map { "projection|running|$_|0|t" } @roles),
	'the view of workers tells whose they are');

# ---- fewer workers than roles ----

set_guc('evstore.max_workers = 2');
becomes('t', sub { $session->query("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'evstore projection worker'") <= 2 ? 't' : 'f' },
	'workers end when there are to be fewer');
for my $round (1 .. 2)
{
	append(10);
	is(has_come("of_$_"), 't', "two workers for five roles: $_ gets its turn, round $round") for @roles;
}
is(handled("of_$_"), '40|40', "$_: each event once") for @roles;

# ---- none ----

set_guc('evstore.max_workers = 0');
becomes(0, sub { $session->query("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'evstore projection worker'") },
	'max_workers = 0: none');
# there may have been none between two turns, before the dispatcher had read it
$session->query('SELECT evstore.stop()');
$session->query('SELECT evstore.start()');
append(5);
is($session->query("SELECT evstore.run_projection('of_role_1')"), 5, 'run_projection() does without');
is(handled('of_role_1'), '45|45', 'it has handled the events');
is(handled('of_role_2'), '40|40', 'nobody handles those of another one');
set_guc('evstore.max_workers = 12');
is(has_come("of_$_"), 't', "a reload raises it: $_ goes on") for @roles;
is(handled("of_$_"), '45|45', "$_: each event once") for @roles;

# ---- handlers that do not end ----

my $retry = '"statement_timeout": 0.2, "retry": {"max_attempts": 2, "initial": 0.05, "max": 0.1}';
create('role_1', 'loops', "IF e.type = 'loop' THEN LOOP x := x || 'x'; END LOOP; END IF;", $retry);
create('role_1', 'waits', "IF e.type = 'wait' THEN " . hold(4711) . ' END IF;', $retry);
is(has_come($_), 't', "$_: nothing to loop or wait for yet") for 'loops', 'waits';
my $holder = take_lock(4711);
for my $case ([ 'loop', 'loops' ], [ 'wait', 'waits' ])
{
	my ($type, $name) = @$case;
	my $position = $session->query("SELECT position FROM evstore.append('bad-1', '$type')");

	append(1);
	becomes('stopped', sub { projection($name) }, "$name: a handler that does not end stops its projection");
	like(projection($name, 'last_error'), qr/ended after 200 ms/, "$name: the view says why");
	is(projection($name, 'last_error_position'), $position, "$name: and where");
	is( $session->query(
			"SELECT e.attempts, e.retry_at IS NULL FROM evstore.projection_error e JOIN evstore.subscription s ON s.id = e.projection_id WHERE s.name = '$name'"),
		'2|t', "$name: after as many attempts as it may have");
	is_error($session, "SELECT evstore.wait_for_projection('$name')", 'VS012', qr/stopped by an error/,
		"$name: who waits is told");
	is(has_come('of_role_1'), 't', "$name: another projection of its role goes on");
	$session->query("SELECT evstore.resume_projection('$name')");
	becomes('stopped', sub { projection($name) }, "$name: again");
	$session->query('SET ROLE role_1');
	$session->query(handler($name, ''));
	$session->query("SELECT evstore.resume_projection('$name')");
	$session->query('RESET ROLE');
	is(has_come($name), 't', "$name: resumed, with a better handler");
	is(projection($name), 'running', "$name: it runs");
	is(handled($name), projection($name, q((SELECT count(*) || '|' || count(*) FROM evstore.events))),
		"$name: each event once");
}
$holder->close;

# ---- one that takes long does not hold up others of its role ----

create('role_2', 'slow', "IF e.type = 'slow' THEN " . hold(4712) . ' END IF;', '"statement_timeout": 0');
is(has_come('slow'), 't', 'slow: nothing to wait for yet');
$holder = take_lock(4712);
$session->query("SELECT evstore.append('bad-1', 'slow')");
ok(is_held(4712), 'slow: its handler waits');
append(3);
my ($result, $pid);
my $began = time;
is(has_come('of_role_2', 20), 't', 'another projection of the role goes on with its second worker');
cmp_ok(time - $began, '<', 5, 'soon');
is($session->query("SELECT count(*) FROM evstore.workers WHERE owner = 'role_2' AND state = 'running'"), 2,
	'the role has two, one for each');

# ---- a worker is terminated in the middle of a call ----

my ($slow_pid) = $session->query(
	"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 4712 AND NOT granted");
$session->query("SELECT pg_terminate_backend($slow_pid)");
ok(poll(sub { !is_running($slow_pid) }), 'a worker that is terminated ends in the middle of a call');
$holder->close;
is(has_come('slow'), 't', 'another one does its work');
is(handled('slow'), projection('slow', q((SELECT count(*) || '|' || count(*) FROM evstore.events))),
	'nothing is lost, nothing done twice');
is(projection('slow', 'last_error'), '', 'which is not the fault of an event');
for my $round (1 .. 3)
{
	$pid = pid_of('role_3');

	append(200);
	$session->query("SELECT pg_terminate_backend($pid)") if $pid;
	is(has_come('of_role_3', 60), 't', "terminated while events come, round $round");
}
is(handled('of_role_3'), projection('slow', q((SELECT count(*) || '|' || count(*) FROM evstore.events))),
	'each event once');

# ---- its role goes ----

create('role_5', 'orphan', '');
is(has_come('orphan'), 't', 'orphan: it runs');
$session->query($_)
  for "SELECT evstore.drop_projection('of_role_5')", 'REASSIGN OWNED BY role_5 TO role_4', 'DROP OWNED BY role_5', 'DROP ROLE role_5';
append(2);
is(has_come('of_role_4'), 't', 'a role is dropped: other projections go on');
is($session->query("SELECT evstore.wait_for_projection('orphan', NULL, '0.1 seconds')"), 'f', 'its own does not');
is(projection('orphan', 'state, owner'), 'failing|role_5', 'which the view shows');
like(projection('orphan', 'last_error'), qr/role "role_5".* does not exist/, 'with the reason');
is_error($session, "SELECT evstore.run_projection('orphan')", '42704',
	qr/role "role_5", which owned projection "orphan", does not exist.*alter_projection/s, 'run_projection() says it');
$session->query('SET ROLE role_1');
is_error($session, "SELECT evstore.alter_projection('orphan', owner => 'role_1')", '42501', qr/act as role/,
	'an admin cannot take it over');
$session->query('RESET ROLE');
is($session->try("SELECT evstore.alter_projection('orphan', owner => 'role_4')"), '', 'a superuser gives it away');
is(has_come('orphan'), 't', 'and it goes on');
is(projection('orphan', 'state, owner, last_error'), 'running|role_4|', 'which the view shows');

# ---- what a hostile handler must not do ----

$session->query($_)
  for 'CREATE ROLE hostile NOLOGIN', "SELECT evstore.grant_access('hostile', 'admin')",
  'CREATE TABLE app.tries (id bigint GENERATED ALWAYS AS IDENTITY, name text, what text, result text)',
  'GRANT ALL ON app.tries TO PUBLIC',
  'CREATE TABLE public.secret (owner text)', q(INSERT INTO public.secret VALUES ('superuser')),
  'GRANT USAGE, CREATE ON SCHEMA public TO hostile', 'GRANT role_1 TO hostile WITH ADMIN OPTION';
my $me = $session->query('SELECT session_user');
my $try = q(CREATE FUNCTION app.try(name text, what text) RETURNS void LANGUAGE plpgsql AS $f$
	BEGIN
		EXECUTE what;
		INSERT INTO app.tries (name, what, result) VALUES (name, what, 'done as ' || session_user || ' ' || current_user);
	EXCEPTION WHEN OTHERS THEN
		INSERT INTO app.tries (name, what, result) VALUES (name, what, SQLSTATE);
	END $f$);
my @attempts = ("SET ROLE $me", "SET ROLE role_1", 'RESET ROLE', 'RESET SESSION AUTHORIZATION', "SET SESSION AUTHORIZATION $me",
	"SET LOCAL SESSION AUTHORIZATION DEFAULT", 'SET ROLE NONE', 'SELECT * FROM public.secret',
	"SET session_replication_role = replica", "SET evstore.notify = off", 'DISCARD ALL', 'COMMIT');
sub attempts
{
	my ($name) = @_;

	return join ' ', map { "PERFORM app.try('$name', \$q\$$_\$q\$);" } @attempts;
}

# At the end of a transaction, too.
$session->query('SET ROLE hostile');
$session->query($_)
  for $try,
  'CREATE TABLE app.trap (n bigint)',
  'CREATE FUNCTION app.spring() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN ' . attempts('deferred') . ' RETURN NULL; END $f$',
  'CREATE CONSTRAINT TRIGGER spring AFTER INSERT ON app.trap DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.spring()',
  # one that defers again what it finds made immediate, to get behind the last look
  'CREATE TABLE app.trap_again (n bigint)',
  'CREATE FUNCTION app.spring_again() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN
		IF NEW.n < 2 THEN
			SET CONSTRAINTS ALL DEFERRED;
			INSERT INTO app.trap_again VALUES (NEW.n + 1);
		ELSE
			' . attempts('twice deferred') . q(
			SET default_transaction_read_only = on;
			SET search_path = nowhere;
		END IF;
		RETURN NULL; END $f$),
  'CREATE CONSTRAINT TRIGGER spring AFTER INSERT ON app.trap_again DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.spring_again()';
$session->query('RESET ROLE');

create('hostile', 'hostile', 'IF e.type = \'t\' THEN ' . attempts('handler') . q(
	INSERT INTO app.trap VALUES (e.position);
	INSERT INTO app.trap_again VALUES (1);
	END IF;));
is(has_come('hostile'), 't', 'a hostile handler comes to its end, too') or diag(projection('hostile', '*'));
is( $session->query(
		"SELECT DISTINCT name || ': ' || what || ' ' || result FROM app.tries WHERE result LIKE 'done%' AND what NOT IN ('RESET ROLE') ORDER BY 1"),
	'', 'nothing that it tries is done');
cmp_ok($session->query("SELECT count(DISTINCT name) FROM app.tries"), '==', 3, 'it has tried at all three places');
is( $session->query("SELECT DISTINCT who FROM app.seen WHERE name = 'hostile'"),
	'hostile hostile', 'it has been nobody else');
is($session->query("SELECT rolsuper FROM pg_roles WHERE rolname = 'hostile'"), 'f', 'and has become no more');

# What it leaves behind in its session meets nobody, not even its role's other projections.
create('hostile', 'leaves', q(
	PERFORM set_config('search_path', 'nowhere', false);
	PERFORM set_config('default_transaction_read_only', 'on', false);
	PERFORM set_config('default_transaction_isolation', 'serializable', false);
	PERFORM set_config('statement_timeout', '1', false);
	PERFORM set_config('lock_timeout', '1', false);
	PERFORM set_config('application_name', 'left behind', false);
	CREATE TEMP TABLE IF NOT EXISTS seen (name text, "position" bigint, who text);
	CREATE TEMP TABLE IF NOT EXISTS projection (id bigint, name text);
	CREATE TEMP TABLE IF NOT EXISTS event_log (id bigint);
	CREATE OR REPLACE FUNCTION pg_temp.count(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 0';));
create('hostile', 'finds', q(
	INSERT INTO app.tries (name, what, result) VALUES ('finds', current_setting('application_name'),
		current_setting('search_path') || ' ' || current_setting('default_transaction_read_only')
		|| ' ' || current_setting('transaction_isolation') || ' ' || current_setting('transaction_read_only')
		|| ' ' || current_setting('lock_timeout') || ' ' || current_setting('evstore.now_override'));
	INSERT INTO seen (name, "position", who) VALUES ('finds by path', e.position, '');), '"schema": "app"');
for my $round (1 .. 3)
{
	append(3);
	is(has_come($_), 't', "$_: it comes to its end, round $round") for 'leaves', 'finds', 'hostile';
}
is($session->query("SELECT DISTINCT what || ': ' || result FROM app.tries WHERE name = 'finds'"),
	': app, pg_temp off read committed off 0 ', 'settings are what they have been before');
is(handled('finds by path'), handled('finds'), 'temporary tables do not hide others');

# Nor in a session of others: by run_projection(), and inline in their appends.
set_guc('evstore.max_workers = 0');
becomes(0, sub { $session->query("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'evstore projection worker'") },
	'without workers');
$session->query('TRUNCATE app.tries');
append(1);
$result = $session->send("SELECT evstore.run_projection('hostile')")->result;
like($result->{error}{M} // $result->{notices}[0]{M} // '', qr/security-restricted operation/,
	"a superuser's run_projection() runs no trigger of the handler's owner at its end");
is($session->query("SELECT session_user || current_user"), $me x 2, 'it is still who it was');
is($session->query("SELECT count(*) FROM app.tries WHERE result LIKE 'done%' AND result NOT LIKE 'done as $me hostile' OR name LIKE '%deferred'"),
	0, 'and nothing was done as the superuser');
$session->query("SELECT evstore.drop_projection('hostile')");

$session->query('SET ROLE hostile');
$session->query(handler('in_line', "IF e.type = 'trap' THEN INSERT INTO app.trap VALUES (e.position); END IF; "
	  . attempts('inline')
	  . q(SET search_path = nowhere; SET default_transaction_read_only = on;)));
$session->query(q(SELECT evstore.create_projection('in_line', 'app.in_line(evstore.event)', start => 'end',
	options => '{"mode": "inline", "schema": "app"}')));
$session->query('RESET ROLE');
is($session->try("SELECT version FROM evstore.append('inline-1', 't')"), 0, "a superuser's append with a hostile inline projection");
is($session->query("SELECT DISTINCT who FROM app.seen WHERE name = 'in_line'"), "$me hostile", 'it has run as its owner');
is( $session->query("SELECT DISTINCT what FROM app.tries WHERE name = 'inline' AND result LIKE 'done%' AND what <> 'RESET ROLE'"),
	'', 'nothing that it tries is done');
is_error($session, "SELECT evstore.append('inline-1', 'trap')", '42501', qr/security-restricted operation/,
	'it cannot leave a trigger for the end of the transaction');
is($session->query("SELECT current_setting('search_path') || current_setting('default_transaction_read_only')"),
	'"$user", publicoff', 'nor settings');
is($session->query("SELECT count(*) FROM evstore.read_stream('inline-1')"), 1, 'what failed is not there');
$session->query("SELECT evstore.drop_projection('in_line')");

# Who may change whose projection.
$session->query(handler('precious', ''));
$session->query("SELECT evstore.create_projection('precious', 'app.precious(evstore.event)')");
$session->query('SET ROLE hostile');
$session->query(handler('instead', ''));
for my $change ("handler => 'app.instead(evstore.event)'", q(options => '{"schema": "public"}'), 'owner => \'hostile\'')
{
	is_error($session, "SELECT evstore.alter_projection('precious', $change)", '42501', qr/act as role/,
		"an admin cannot change a superuser's projection: $change");
}
is_error($session, "SELECT evstore.alter_projection('leaves', owner => '$me')", '42501', qr/act as role/,
	'nor give his own to a superuser');
is($session->try("SELECT evstore.alter_projection('leaves', owner => 'role_1')"), '', 'but to a role that he is in');
$session->query('RESET ROLE');
$session->query("SELECT evstore.drop_projection('$_')") for 'precious', 'leaves', 'finds';
set_guc('evstore.max_workers = 12');

# ---- what does not hold up others, and what is forgotten ----

new_store($node, 'others');
{
	my $store = $session;

	$session = session($node, 'others');
	$session->query($_) for 'CREATE SCHEMA app',
	  'CREATE TABLE app.seen (id bigint GENERATED ALWAYS AS IDENTITY, name text, "position" bigint, who text)',
	  'CREATE FUNCTION app.forever() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN LOOP END LOOP; END $$',
	  'CREATE CONSTRAINT TRIGGER forever AFTER INSERT ON app.seen DEFERRABLE INITIALLY DEFERRED'
	  . " FOR EACH ROW WHEN (NEW.name = 'ends') EXECUTE FUNCTION app.forever()";
	$session->query(handler('parks', q(IF e.type = 'bad' THEN RAISE 'bad'; END IF;)));
	$session->query("SELECT evstore.create_projection('parks', 'app.parks(evstore.event)', options => '{\"on_error\": \"park\", \"retry\": {\"initial\": 600, \"max\": 600, \"jitter\": 0}}')");
	$session->query("SELECT evstore.append('bad-1', 'bad')");
	becomes('1', sub { projection('parks', 'retrying') }, 'an event is to be retried');
	append(3);
	becomes('3|3', sub { handled('parks') }, 'those of other streams do not wait until then');
	$session->query("SELECT evstore.drop_projection('parks')");

	$session->query(handler('ends', ''));
	$session->query("SELECT evstore.create_projection('ends', 'app.ends(evstore.event)', start => 'end', options => '{\"statement_timeout\": 0.2, \"retry\": \"none\"}')");
	append(1);
	becomes('the handler was ended after 200 ms', sub { projection('ends', 'last_error') }, 'a deferred trigger without end is ended');

	# nothing for it in less than a thousand positions, so its slot is as it was made
	my $anew = q(SELECT evstore.create_projection('anew', 'app.anew(evstore.event)', '{"categories": ["b"]}'));
	$session->query("SELECT evstore.drop_projection('ends')");
	$session->query('DROP EXTENSION evstore CASCADE');
	$session->query('CREATE EXTENSION evstore');
	$session->query(handler('anew', ''));
	$session->query($anew);
	append(900);
	is(has_come('anew'), 't', 'nothing for it yet');
	my $then = $session->query('SELECT clock_timestamp()');
	becomes('t', sub { $session->query("SELECT bool_or(state = 'idle' AND state_change > '$then') FROM pg_stat_activity
			WHERE datname = 'others' AND backend_type LIKE 'evstore projection%'") }, 'its worker has looked');
	$session->query($_) for 'BEGIN', 'SET LOCAL client_min_messages = error', 'DROP EXTENSION evstore CASCADE',
	  'CREATE EXTENSION evstore';
	$session->query(handler('anew', ''));
	$session->query($_) for $anew, 'COMMIT',
	  "SELECT count(*) FROM generate_series(1, 10) i, LATERAL evstore.append('b-' || i, 't')";
	append(900);
	is(has_come('anew'), 't', 'a new store');
	is(handled('anew'), '10|10', 'a worker does not take it for the old one');
	$session->close;
	$session = $store;
}
$node->safe_psql('postgres', 'DROP DATABASE others WITH (FORCE)');

# ---- stop() and start(), shutdown, DROP ----

sub begin_long_call
{
	my ($number) = @_;

	$session->query('SELECT evstore.append(\'bad-1\', \'slow\')');
	return is_held($number);
}

$holder = take_lock(4712);
ok(begin_long_call(4712), 'a long call');
my $stopper = session($node, 'store');
$stopper->send('SELECT evstore.stop()');
becomes('0|1', sub { $session->query("SELECT count(*) FILTER (WHERE wait_event_type IS DISTINCT FROM 'Lock'), count(*)
		FROM pg_stat_activity WHERE backend_type LIKE 'evstore projection%'") },
	'stop() ends the workers that are not in a call');
$holder->close;
is(ref $stopper->outcome(30), '', 'and waits for the one that is');
$stopper->close;
# the process itself goes a moment after it has given its place back
becomes(0, sub { $session->query("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'evstore projection%'") },
	'which ends, too');
append(3);
is($session->query("SELECT evstore.wait_for_projection('slow', NULL, '0.1 seconds')"), 'f', 'nothing is handled after stop()');
is($session->try('SELECT evstore.start()'), '', 'start()');
is(has_come('slow'), 't', 'it goes on');

$holder = take_lock(4712);
ok(begin_long_call(4712), 'another long call');
$began = time;
$node->stop('fast');
cmp_ok(time - $began, '<', 10, sprintf 'fast shutdown during a call without limit: %.1f s', time - $began);
$node->start;
$session = session($node, 'store');
is(has_come('slow'), 't', 'after the restart it goes on');
is(handled('slow'), projection('slow', q((SELECT count(*) || '|' || count(*) FROM evstore.events))),
	'nothing is lost, nothing done twice');

# While a rebuild runs.
my $model = 'CREATE FUNCTION app.model(e evstore.event) RETURNS void LANGUAGE plpgsql AS '
  . '$$ BEGIN INSERT INTO model VALUES (e.position); END $$';
$session->query($_)
  for 'CREATE TABLE app.model ("position" bigint)',
  $model;
for my $point ('projection_event', 'rebuild_finish')
{
	$session->query("SELECT evstore.create_projection('model', 'app.model(evstore.event)', options => '{\"tables\": [\"model\"]}')");
	append(10);
	is(has_come('model'), 't', 'a projection with a table');
	$holder = session($node, 'store');
	$holder->query("SELECT pg_advisory_lock(hashtextextended('evstore.$point', 0))");
	$session->query("SELECT evstore.rebuild_projection('model')");
	ok( poll(sub { $session->query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") > 0 }),
		"a rebuild stands at $point");
	my $dropper = session($node, 'store');
	$dropper->query('SET client_min_messages = warning');
	$dropper->send('DROP EXTENSION evstore CASCADE');
	ok($dropper->waits($session), 'DROP EXTENSION waits for the batch');
	$holder->close;
	my $outcome = $dropper->outcome(60);
	is(ref $outcome ? "$outcome->{C} $outcome->{M}" : $outcome, '', 'and is done');
	$dropper->close;
	is($session->query("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'evstore%'"), 0,
		'the shadows are gone with it');
	is($session->query('SELECT count(*) > 0 FROM app.model'), 't', 'the table is not');
	becomes(0, sub { $session->query("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'evstore projection%' OR backend_type LIKE 'evstore disp%'") },
		'nor is any worker left');
	$session->query('CREATE EXTENSION evstore');
	$session->query($_) for 'TRUNCATE app.model', $model;
}
$session->query("SELECT evstore.create_projection('model', 'app.model(evstore.event)', options => '{\"tables\": [\"model\"]}')");
append(10);
is(has_come('model'), 't', 'a projection in the new store');
$session->close;
$began = time;
is($node->psql('postgres', 'DROP DATABASE store'), 0, 'DROP DATABASE');
cmp_ok(time - $began, '<', 4.5, sprintf 'its workers go at once: %.1f s', time - $began);

# ---- without preloading ----

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
new_store($node, 'plain');
$session = session($node, 'plain');
$session->query($_) for 'CREATE SCHEMA app',
  'CREATE TABLE app.seen (id bigint GENERATED ALWAYS AS IDENTITY, name text, "position" bigint, who text)';
$session->query(handler('plain', ''));
$session->query("SELECT evstore.create_projection('plain', 'app.plain(evstore.event)')");
append(10);
is($session->query("SELECT evstore.run_projection('plain', 4)"), 4, 'not preloaded, no worker: run_projection() takes some');
is($session->query("SELECT evstore.run_projection('plain')"), 6, 'and the rest');
is(has_come('plain'), 't', 'wait_for_projection() sees it');
append(10);
is($session->query("SELECT evstore.wait_for_projection('plain', NULL, '0.1 seconds')"), 'f', 'nobody else does it');
is($session->try('SELECT evstore.start()'), '', 'start()');
is(has_come('plain'), 't', 'starts a worker');
is(handled('plain'), '20|20', 'each event once');
$pid = $session->query("SELECT pid FROM evstore.workers WHERE kind = 'projection'");
$session->query("SELECT pg_terminate_backend($pid)");
append(10);
is(has_come('plain'), 't', 'one that was terminated comes back');
is(handled('plain'), '30|30', 'each event once');
$session->query('SELECT evstore.stop()');
is($session->query("SELECT string_agg(state, ' ') FROM evstore.workers WHERE pid IS NOT NULL"), '', 'stop() ends all');
becomes(0, sub { $session->query("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'evstore %'") },
	'and no process is left');
$session->close;
$node->stop;
done_testing();
