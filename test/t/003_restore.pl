# Dump, restore and upgrade: a copy has every event, goes on where the original
# was, is sealed by its first append, and stays quiet until it is adopted.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my $node = new_node('restore', conf => "max_worker_processes = 16\n");

sub query
{
	my ($dbname, $sql, $on) = @_;

	return ($on // $node)->safe_psql($dbname, $sql);
}

sub dump_with
{
	my ($dbname, $file, @options) = @_;

	return $node->command_ok(
		[ 'pg_dump', '--no-sync', '-d', $node->connstr($dbname), '-f', $file, @options ],
		"pg_dump @options of $dbname");
}

sub restore_script
{
	my ($dbname, $file, @options) = @_;

	return $node->command_ok(
		[
			'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1',
			'-d', $node->connstr($dbname), '-f', $file, @options
		],
		"psql -1 restores $dbname");
}

sub restore_archive
{
	my ($dbname, $file, @options) = @_;

	return $node->command_ok(
		[
			'pg_restore', '--exit-on-error', '-d', $node->connstr($dbname), @options, $file
		],
		"pg_restore @options restores $dbname");
}

# A dump without what differs in any two dumps.
sub normalized
{
	my ($file) = @_;

	return join "\n", grep { !/^\\(un)?restrict |^-- (Started|Completed) on / }
	  split /\n/, slurp_file($file);
}

# All that a user can see of the events, of the streams and of privileges.
sub contents
{
	my ($dbname, $on) = @_;
	$on //= $node;

	return join "\n", hash_of_events($on, $dbname),
	  query($dbname,
		q(SELECT count(*), md5(string_agg(s::text, E'\n' ORDER BY s.stream)) FROM evstore.streams s),
		$on),
	  query($dbname, 'SELECT evstore._last_position()', $on),
	  query($dbname,
		'SELECT count(*), md5(string_agg((a.at, a.actor, a.action, a.stream, a.detail)::text, $$|$$ ORDER BY id)) FROM evstore.audit a',
		$on),
	  query($dbname,
		q(SELECT partition, first_position, last_position, guarded FROM evstore.partitions),
		$on),
	  query($dbname, 'SELECT a FROM evstore.aggregates a ORDER BY category', $on),
	  query($dbname, 'SELECT s, n.state FROM evstore.snapshots s JOIN evstore.snapshot n USING (version) ORDER BY 1', $on);
}

# ---- the original ----

query('postgres', 'CREATE ROLE app LOGIN; CREATE ROLE auditor LOGIN; CREATE ROLE operator LOGIN');
query('postgres', 'CREATE ROLE other SUPERUSER LOGIN');
new_store($node, 'original', 100);
query('original', <<'SQL');
SELECT evstore.grant_access('app', 'writer');
SELECT evstore.grant_access('auditor', 'reader');
SELECT evstore.grant_access('operator', 'admin');
SELECT count(evstore.append_one('order-' || i % 37, 'placed', jsonb_build_object('i', i, 'text', 'zwölf''\n"' || i),
	metadata => CASE WHEN i % 3 = 0 THEN '{"m": 1}'::jsonb END, correlation_id => CASE WHEN i % 5 = 0 THEN 'c' || i END,
	tags => CASE WHEN i % 7 = 0 THEN ARRAY['a', 'b,"c"'] END, source => CASE WHEN i % 2 = 0 THEN '/s' END))
FROM generate_series(1, 1000) i;
BEGIN; SELECT evstore.append('hole-1', 'x'); ROLLBACK;
SELECT evstore.append('big-1', 'x', jsonb_build_object('toast', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 2000) i)));
SELECT evstore.append('gone-1', 'x'), evstore.append('closed-1', 'x');
SELECT evstore.delete_stream('gone-1');
SELECT evstore.tombstone_stream('closed-1', reason => 'done');
SELECT evstore.truncate_stream('order-3', 5);
SELECT evstore.set_stream('order-4', max_count => 3, metadata => '{"owner": "me"}');
CREATE FUNCTION public.add_up(state jsonb, e evstore.event) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(state::bigint + coalesce((e.data ->> $$i$$)::bigint, 0))';
SELECT evstore.create_aggregate('order', '0', 'public.add_up(jsonb,evstore.event)', 7, '{"keep": 5, "transitions": [{"type": "placed"}]}');
SELECT evstore.save_snapshot('order-6', version, state, state_version) FROM evstore.load_aggregate('order-6');
SQL
my $original = contents('original');
my $last = query('original', 'SELECT evstore._last_position()');
my $order5 = query('original', "SELECT evstore.stream_version('order-5')");
cmp_ok(query('original', 'SELECT count(*) FROM evstore.partitions'),
	'>=', 10, 'the original has many partitions');

# What every copy has to be.  Leaves one more event in it.
sub check_copy
{
	my ($dbname, $how, $on, $privileges) = @_;
	my $session = session($on // $node, $dbname);

	is(contents($dbname, $on), $original, "$how: all is equal to the original");
	is($session->query('SELECT evstore.safe_position()'),
		$last, "$how: the safe position is the last position");
	is( $session->query(
			'SELECT check_name FROM evstore.verify() WHERE NOT ok
			 UNION ALL SELECT check_name FROM evstore.health() WHERE NOT ok'),
		'this database is adopted',
		"$how: the copy is sound, but not adopted");

	# a restore can go on until the first append
	my $insert = 'INSERT INTO evstore.event_log SELECT * FROM evstore.event_log WHERE false';
	ok(!ref $session->try($insert), "$how: INSERT is possible before the first append");
	is_error($session, 'DELETE FROM evstore.event_log', 'VS006', qr/append-only/,
		"$how: DELETE is not");
	is( $session->query(
			"SELECT version, position > $last FROM evstore.append('order-5', 'more')"),
		($order5 + 1) . '|t',
		"$how: an append goes on with the next version, above all positions");
	is_error($session, $insert, 'VS006', qr/append-only/,
		"$how: INSERT is refused after it");
	my $leaf = $session->query('SELECT min(partition) FROM evstore.partitions');
	is_error($session, "INSERT INTO evstore.$leaf SELECT * FROM evstore.$leaf WHERE false",
		'VS006', qr/append-only/, "$how: also into a partition");
	is_error($session, "SELECT evstore.append('closed-1', 'x')", 'VS002', qr/closed/,
		"$how: a closed stream stays closed");

	my $adopted = q(SELECT ok FROM evstore.health() WHERE check_name = 'this database is adopted');
	is($session->query($adopted), 'f', "$how: an append does not adopt");
	$session->query('SELECT evstore.adopt()');
	is($session->query($adopted), 't', "$how: adopt() does");
	is($session->query('SELECT count(*) FROM evstore.health() WHERE NOT ok'),
		0, "$how: and then all is well");
	is_error($session, 'DROP EXTENSION evstore', '2BP01', qr/drop_guard/,
		"$how: DROP EXTENSION without CASCADE is refused");

	check_privileges($dbname, $how, $on) if $privileges // 1;
	$session->close;
	return;
}

# What grant_access() gave.
sub check_privileges
{
	my ($dbname, $how, $on) = @_;
	my %may = (
		app => 'SELECT t, INSERT t, UPDATE f',
		auditor => 'SELECT t, INSERT f, UPDATE f',
		operator => 'SELECT t, INSERT t, UPDATE t');

	for my $role (sort keys %may)
	{
		is( query($dbname, qq(SELECT string_agg(p || ' ' || left(has_table_privilege('$role', 'evstore.events', p)::text, 1), ', ' ORDER BY n)
			FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) WITH ORDINALITY AS x (p, n)), $on),
			$may{$role},
			"$how: rights of $role");
	}
	my $app = session($on // $node, $dbname, user => 'app');
	ok(!ref $app->try("SELECT evstore.append('app-1', 'x')"), "$how: a writer appends");
	ok($app->query('SELECT count(*) FROM evstore.read_all(max_count => 5)') == 5,
		"$how: and reads");
	$app->close;
	my $auditor = session($on // $node, $dbname, user => 'auditor');
	is_error($auditor, "SELECT evstore.append('app-1', 'x')", '42501',
		qr/permission denied/, "$how: a reader does not append");
	$auditor->close;
	return;
}

# ---- plain, in one transaction, and the dump of the copy ----

dump_with('original', "$tmp/plain.sql");
query('postgres', 'CREATE DATABASE plain');
restore_script('plain', "$tmp/plain.sql");
dump_with('plain', "$tmp/plain2.sql");
is(normalized("$tmp/plain2.sql"), normalized("$tmp/plain.sql"),
	'the dump of the copy is identical to that of the original');
check_copy('plain', 'psql -1');
dump_with('plain', "$tmp/plain3.sql");
query('postgres', 'CREATE DATABASE third');
restore_script('third', "$tmp/plain3.sql");
is(contents('third'), contents('plain'), 'a copy of a copy that has been appended to');
is(query('third', 'SELECT count(*) FROM evstore.instance'), 0, 'is not adopted');

# ---- other formats ----

dump_with('original', "$tmp/custom.dump", '-Fc');
query('postgres', 'CREATE DATABASE custom');
restore_archive('custom', "$tmp/custom.dump");
check_copy('custom', '-Fc');

dump_with('original', "$tmp/directory", '-Fd', '-j4');
query('postgres', 'CREATE DATABASE directory');
restore_archive('directory', "$tmp/directory", '-j4');
check_copy('directory', '-Fd -j4');

dump_with('original', "$tmp/inserts.sql", '--inserts', '--load-via-partition-root',
	'--rows-per-insert=100');
query('postgres', 'CREATE DATABASE inserts');
restore_script('inserts', "$tmp/inserts.sql");
check_copy('inserts', '--inserts --load-via-partition-root');

# ---- by another superuser, without owners and privileges ----

dump_with('original', "$tmp/bare.dump", '-Fc', '--no-owner', '--no-acl');
query('postgres', 'CREATE DATABASE bare');
restore_archive('bare', "$tmp/bare.dump", '-U', 'other', '--no-owner', '--no-acl');
is( query('bare',
		q(SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class
		  WHERE relnamespace = 'evstore'::regnamespace)),
	'other',
	'all belongs to who restored it');
check_copy('bare', '--no-owner --no-acl', undef, 0);
is(query('bare', q(SELECT has_schema_privilege('app', 'evstore', 'USAGE'))),
	'f', 'and nobody else may use it');

# Partitions keep their owner, the extension gets who restores it as its own.
query('postgres', 'CREATE DATABASE mixed');
restore_script('mixed', "$tmp/plain.sql", '-U', 'other');
check_copy('mixed', 'another superuser');
query('mixed', q(SELECT evstore.append_arrays('fill-1', array_fill('x'::text, ARRAY[300]))));
is(query('mixed', 'SELECT count(*) FROM evstore.health() WHERE NOT ok'),
	0, 'partitions that are made then are as good');

# ---- data only is not possible ----

dump_with('original', "$tmp/data.sql", '--data-only');
new_store($node, 'dataonly');
$node->command_fails_like(
	[
		'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-d',
		$node->connstr('dataonly'), '-f', "$tmp/data.sql"
	],
	qr/relation "evstore.event_log_1" does not exist/,
	'--data-only into a new store fails at the first partition');
is(query('dataonly', 'SELECT count(*) FROM evstore.stream'), 0, 'and leaves nothing');

# ---- the dump of an empty store ----

new_store($node, 'empty');
dump_with('empty', "$tmp/empty.sql");
query('postgres', 'CREATE DATABASE empty2');
restore_script('empty2', "$tmp/empty.sql");
is(query('empty2', q(SELECT version, position FROM evstore.append('a', 'x'))),
	'0|1', 'a copy of an empty store is an empty store');

# ---- while appenders run ----

# Whoever follows by position takes the checkpoint along and goes on in the copy:
# no event twice, none left out.
new_store($node, 'busy', 50);
query('busy', 'CREATE TABLE checkpoint (at bigint); INSERT INTO checkpoint VALUES (0);
	CREATE TABLE seen (event_id uuid PRIMARY KEY)');
my $step = 'WITH e AS (SELECT position, event_id FROM evstore.read_all((SELECT at FROM checkpoint), 20)),
	s AS (INSERT INTO seen SELECT event_id FROM e)
	UPDATE checkpoint SET at = COALESCE((SELECT max(position) FROM e), at)';
my @writers = map { session($node, 'busy') } 1 .. 4;
my $follower = session($node, 'busy');
my $dumps = 0;

sub write_some
{
	my ($i) = @_;

	$_->send("SELECT evstore.append('w-' || i % 7, 'x'), evstore.append('v-' || i % 5, 'y')
		FROM generate_series(1, 10 + random() * 20) i")
	  for @writers;
	$follower->query($step);
	return map { $_->result } @writers;
}

for my $i (1 .. 3)
{
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		exec 'pg_dump', '--no-sync', '-d', $node->connstr('busy'), '-f', "$tmp/busy$i.sql";
	}
	my $appended = 0;
	my $done = 0;
	while (!$done)
	{
		for my $result (write_some($i))
		{
			$result->{error} ? diag($result->{error}{M}) : $appended++;
		}
		$done = waitpid($pid, POSIX::WNOHANG()) > 0;
	}
	is($?, 0, "dump $i, taken while $appended statements appended");

	# one append is in flight over the end of a dump, for good measure
	query('postgres', "CREATE DATABASE busy$i");
	restore_script("busy$i", "$tmp/busy$i.sql");
	my $copy = session($node, "busy$i");
	is($copy->query('SELECT count(*) FROM evstore.verify() WHERE NOT ok'),
		0, "copy $i is sound");
	my $before = $copy->query('SELECT at FROM checkpoint');
	is($copy->query(
			'SELECT count(*) FROM evstore.events_uncapped WHERE position <= (SELECT at FROM checkpoint)'),
		$copy->query('SELECT count(*) FROM seen'),
		"copy $i: below the checkpoint is what was seen");
	$copy->query("SELECT evstore.append('w-1', 'in the copy')");
	poll(
		sub {
			$copy->query($step);
			$copy->query('SELECT at = evstore.safe_position() FROM checkpoint') eq 't';
		});
	is($copy->query(
			'SELECT count(*), count(s.event_id), count(e.event_id)
			 FROM evstore.events_uncapped e FULL JOIN seen s USING (event_id)
			 WHERE e.event_id IS NULL OR s.event_id IS NULL'),
		'0|0|0',
		"copy $i: the follower goes on from $before without a skip or a double");
	$copy->close;
}
$_->close for @writers, $follower;

# A dump while an append is in flight: its positions are holes in the copy.
my $open = session($node, 'busy');
$open->query("BEGIN; SELECT evstore.append('open-1', 'x')");
query('busy', "SELECT evstore.append('w-1', 'later')");
dump_with('busy', "$tmp/open.sql");
$open->query('COMMIT');
$open->close;
query('postgres', 'CREATE DATABASE open_copy');
restore_script('open_copy', "$tmp/open.sql");
is( query('open_copy',
		"SELECT evstore.stream_version('open-1'), evstore.safe_position() = evstore._last_position()"),
	'-1|t',
	'an append in flight is not in the dump, and holds up nobody in the copy');

# ---- the original ----

is(contents('original'), $original, 'the original is untouched by all this');
my $session = session($node, 'original');
is($session->query('SELECT count(*) FROM evstore.health() WHERE NOT ok'),
	0, 'and still adopted');
is_error($session, 'DROP EXTENSION evstore', '2BP01', qr/drop_guard/,
	'DROP EXTENSION without CASCADE is refused there');
$session->close;
for my $dbname ('original', 'plain')
{
	# the work of this test is done on a copy
	query('postgres', "CREATE DATABASE ${dbname}_dropped TEMPLATE $dbname");
	query("${dbname}_dropped", 'SET client_min_messages = error; DROP EXTENSION evstore CASCADE');
	is( query("${dbname}_dropped",
			"SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			 WHERE n.nspname = 'evstore'"),
		0,
		"with CASCADE it drops everything in $dbname");
	query("${dbname}_dropped", 'CREATE EXTENSION evstore');
	is( query("${dbname}_dropped",
			q(SELECT version, position FROM evstore.append('a', 'x'))),
		'0|1',
		'and then evstore can be made again');
}
is(contents('original'), $original, 'still untouched');

# ---- a clone inside the cluster ----

query('postgres', 'CREATE DATABASE clone TEMPLATE original');
is( query('clone',
		q(SELECT ok FROM evstore.health() WHERE check_name = 'this database is adopted')),
	'f',
	'a clone by CREATE DATABASE is not adopted either');

# ---- pg_upgrade ----

# Only the databases that matter, so that it does not take long.
for my $dbname (split /\n/, query('postgres',
		q(SELECT datname FROM pg_database WHERE NOT datistemplate
		  AND datname NOT IN ('postgres', 'original', 'empty'))))
{
	query('postgres', "DROP DATABASE $dbname");
}
$node->stop;
my $new = new_node('upgraded', started => 0, conf => "max_worker_processes = 16\n");
my @upgrade = (
	'pg_upgrade', '--no-sync',
	'-d', $node->data_dir, '-D', $new->data_dir,
	'-b', $node->config_data('--bindir'), '-B', $new->config_data('--bindir'),
	'-s', $new->host, '-p', $node->port, '-P', $new->port);
chdir $tmp or die "$tmp: $!";
command_ok([ @upgrade, '--check' ], 'pg_upgrade --check');
command_ok(\@upgrade, 'pg_upgrade in copy mode');
$new->start;
# A physical copy: sealed and adopted rows come along, the identity does not.
is(contents('original', $new), $original, 'pg_upgrade: all is equal to the original');
$session = session($new, 'original');
is_error($session,
	'INSERT INTO evstore.event_log SELECT * FROM evstore.event_log WHERE false',
	'VS006', qr/append-only/, 'pg_upgrade: the store stays sealed');
is( $session->query(
		"SELECT version, position > $last FROM evstore.append('order-5', 'more')"),
	($order5 + 1) . '|t',
	'pg_upgrade: an append goes on with the next version, above all positions');
is( $session->query(
		'SELECT check_name FROM evstore.verify() WHERE NOT ok
		 UNION ALL SELECT check_name FROM evstore.health() WHERE NOT ok'),
	'this database is adopted',
	'pg_upgrade: the new cluster has another identity');
$session->query('SELECT evstore.adopt()');
is($session->query('SELECT count(*) FROM evstore.health() WHERE NOT ok'),
	0, 'pg_upgrade: adopt() settles that');
is_error($session, 'DROP EXTENSION evstore', '2BP01', qr/drop_guard/,
	'pg_upgrade: DROP EXTENSION without CASCADE is refused');
$session->query(q(SELECT evstore.append_arrays('fill-1', array_fill('x'::text, ARRAY[300]))));
is($session->query('SELECT count(*) FROM evstore.verify() WHERE NOT ok'),
	0, 'pg_upgrade: new partitions fit');
check_privileges('original', 'pg_upgrade', $new);
is(query('empty', q(SELECT version, position FROM evstore.append('a', 'x')), $new),
	'0|1', 'pg_upgrade: of an empty store');
$session->close;

done_testing();
