# evstore works the same whether the server preloads its library or not, and its
# settings may stand wherever PostgreSQL's may.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('settings');
my $conf = $node->data_dir . '/postgresql.conf';
my $plain = slurp_file($conf);

# Start the server again with these lines in postgresql.conf.
sub restart_with
{
	my ($lines) = @_;

	unlink $conf;
	append_to_file($conf, "$plain\n$lines");
	$node->restart;
	return;
}

$node->safe_psql('postgres', 'CREATE ROLE app LOGIN');

# ---- the same with and without ----

my $work = <<'SQL';
SELECT * FROM evstore.append('a-1', 'x', '{"n": 1}', event_id => '11111111-1111-4111-8111-111111111111');
SELECT * FROM evstore.append('a-1', 'x', '{"n": 1}', event_id => '11111111-1111-4111-8111-111111111111');
SELECT * FROM evstore.append_arrays('b-1', array_fill('x'::text, ARRAY[25]));
SELECT * FROM evstore.append_streams('[{"stream": "c", "events": [{"type": "t"}]}, {"stream": "a-1", "events": [{"type": "t"}]}]');
SELECT ok, actual_version FROM evstore.try_append('a-1', '[{"type": "x"}]', 7);
SELECT evstore.delete_stream('c');
SELECT position, stream, version, type, data FROM evstore.read_all(max_count => NULL);
SELECT position, stream, version FROM evstore.events;
SELECT partition, first_position, last_position, guarded FROM evstore.partitions;
SELECT evstore.safe_position(), evstore.stream_version('b-1');
SELECT * FROM evstore.health();
SELECT * FROM evstore.verify();
SQL
my %output;
for my $preload ('', 'evstore')
{
	restart_with("shared_preload_libraries = '$preload'\n");
	my $dbname = new_store($node, 'preload_' . ($preload || 'none'), 10);
	my $session = session($node, $dbname);
	$output{$preload} = join "\n", map { $session->query($_) } split /;\n/, $work;
	is_error($session, "SELECT evstore.append('a-1', 'x', expected_version => 0)",
		'VS001', qr/wrong expected version/, "preload '$preload': an error is the same");
	$session->close;
}
is($output{evstore}, $output{''}, 'with preload evstore gives the same as without');
like($output{''}, qr/^0\|1\n0\|1\n0\|24\|26\n/, 'and it is what it should be');
for my $dbname ('preload_none', 'preload_evstore')
{
	is($node->safe_psql($dbname, "SELECT version FROM evstore.append('a-1', 'x')"),
		2, "$dbname: goes on with preload");
}
is($node->safe_psql('postgres', "SHOW evstore.partition_size"), 10000000,
	'with preload the settings are known in every database');

# ---- settings in postgresql.conf ----

for my $preload ('', 'evstore')
{
	my $how = "preload '$preload'";

	restart_with("shared_preload_libraries = '$preload'
evstore.partition_size = 20
evstore.max_batch = 30
evstore.actor = 'the server'
evstore.capture_context = on
");
	my $dbname = new_store($node, 'conf_' . ($preload || 'none'));
	my $session = session($node, $dbname);
	is_error($session, "SELECT evstore.append_arrays('a-1', array_fill('x'::text, ARRAY[31]))",
		'VS005', qr/30/, "$how: max_batch from postgresql.conf counts at the first call");
	$session->query("SELECT evstore.append_arrays('a-1', array_fill('x'::text, ARRAY[30]))");
	is( $session->query(
			'SELECT DISTINCT last_position - first_position + 1 FROM evstore.partitions'),
		20,
		"$how: partition_size too, also in the worker");
	is( $session->query(
			"SELECT metadata ->> 'actor', metadata -> 'context' ->> 'application_name' FROM evstore.read_stream('a-1', 0, 1)"),
		'the server|evstore test',
		"$how: what settings add to events is added");

	# closer settings win
	$node->safe_psql('postgres', "ALTER DATABASE $dbname SET evstore.actor = 'the database'");
	$node->safe_psql('postgres',
		"ALTER ROLE app IN DATABASE $dbname SET evstore.actor = 'the role'");
	$node->safe_psql($dbname, "SELECT evstore.grant_access('app', 'writer')");
	my $actor = "SELECT evstore.append('a-1', 'x'); SELECT metadata ->> 'actor' FROM evstore.read_stream('a-1', max_count => 1, direction => 'backward')";
	my $other = session($node, $dbname);
	like($other->query($actor), qr/\nthe database$/, "$how: ALTER DATABASE");
	$other->close;
	$other = session($node, $dbname, user => 'app');
	like($other->query($actor), qr/\nthe role$/, "$how: ALTER ROLE IN DATABASE");
	$other->query("SET evstore.actor = 'the session'");
	like($other->query($actor), qr/\nthe session$/, "$how: SET");
	like($other->query("BEGIN; SET LOCAL evstore.actor = 'the transaction'; $actor"),
		qr/\nthe transaction$/, "$how: SET LOCAL");
	like($other->query("ROLLBACK; $actor"), qr/\nthe session$/, "$how: and its end");
	$other->close;
	$other = session($node, $dbname, user => 'app', 'evstore.actor' => 'the connection');
	like($other->query($actor), qr/\nthe connection$/, "$how: a connection's own");
	$other->close;

	# a reload reaches open sessions
	append_to_file($conf, "evstore.max_batch = 40\n");
	$node->reload;
	ok( poll(
			sub {
				$session->query('SHOW evstore.max_batch') == 40;
			}),
		"$how: a reload reaches open sessions");
	is($session->query(
			"SELECT version FROM evstore.append_arrays('b-1', array_fill('x'::text, ARRAY[40]))"),
		39, "$how: and counts there");

	# ---- who may not set what ----

	# Without preload a setting can be given before the library is loaded and
	# checks it; it must not slip in that way.
	my $version = $session->query('SELECT evstore.version()');
	$session->close;
	my %default = (
		'evstore.partition_size' => 10000000,
		'evstore.max_batch' => 100000,
		'evstore.capture_context' => 'off');
	my @protected = (
		[ 'evstore.now_override', '2001-01-01 00:00:00+00' ],
		[ 'evstore.partition_size', '1000' ],
		[ 'evstore.max_batch', '1000000' ],
		[ 'evstore.max_event_size', '1000000' ],
		[ 'evstore.id_window', '1' ],
		[ 'evstore.egress_allow', '*' ],
		[ 'evstore.sink_path', '/tmp' ],
		[ 'evstore.file_directory', '/tmp' ],
		[ 'evstore.capture_context', 'off' ]);
	for my $setting (@protected)
	{
		my ($name, $value) = @$setting;
		my $app = session($node, $dbname, user => 'app');
		my $before = $app->query("SELECT evstore.version(); SHOW $name");
		is_error($app, "SET $name = '$value'", '42501', qr/permission denied/,
			"$how: a user may not set $name");
		$app->close;

		$app = session($node, $dbname, user => 'app');
		$app->try("SET $name = '$value'");
		is($app->query("SELECT evstore.version(); SHOW $name"), $before,
			"$how: nor before the first call");
		$app->close;

		# In the connection's options; with preload that is an error at once.
		# Without, PostgreSQL 15 refuses the user's value when the library is
		# loaded, but has forgotten that of postgresql.conf.
		$app = eval { session($node, $dbname, user => 'app', $name => $value) };
		if ($app)
		{
			my $is = $app->query("SELECT evstore.version(); SHOW $name");
			ok($is eq $before || $is eq "$version\n$default{$name}",
				"$how: nor with the connection, at most get the built-in default")
			  or diag($is);
			$app->close;
		}
		else
		{
			like($@, qr/permission denied/, "$how: nor with the connection");
		}
	}
	my $app = eval { session($node, $dbname, user => 'app', 'evstore.now_override' => '2001-01-01 00:00:00+00') }
	  // session($node, $dbname, user => 'app');
	is( $app->query(
			"SELECT FROM evstore.append('t-1', 'x');
			 SELECT recorded_at > '2020-01-01' FROM evstore.read_stream('t-1')") =~ s/^\n//r,
		't',
		"$how: the time of an event is the server's");
	is_error($app, 'SET evstore.nonsense = 1', '42602', qr/evstore.*reserved prefix/,
		"$how: SET of an unknown setting is refused");
	is_error($app, "SET evstore.correlation_id = '" . ('x' x 600) . q('), '22023',
		qr/512/, "$how: so is a wrong value of a known one");
	$app->close;
}

# ---- unknown or wrong settings in postgresql.conf ----

# The server removes unknown settings of a reserved prefix when the library is
# loaded: at start with preload, in each session else.
restart_with("shared_preload_libraries = 'evstore'\nevstore.nonsense = 1\n");
ok($node->log_contains(
		'WARNING:  invalid configuration parameter name "evstore.nonsense", removing it'),
	'with preload an unknown setting in postgresql.conf is removed with a warning');
is($node->safe_psql('postgres', "SELECT current_setting('evstore.nonsense', true)"),
	'', 'and not there');
restart_with("evstore.nonsense = 1\n");
my $session = session($node, 'conf_none');
my $result = $session->send('SELECT evstore.version()')->result;
ok( (grep { $_->{M} =~ /"evstore.nonsense", removing it/ } @{ $result->{notices} // [] }),
	'without preload when a session loads the library');
is_error($session, 'SHOW evstore.nonsense', '42704', qr/unrecognized/, 'and not there');
$session->close;

restart_with("evstore.partition_size = 3\n");
$session = session($node, 'conf_none');
is($session->query('SELECT evstore.version(); SHOW evstore.partition_size') =~ s/.*\n//r,
	10000000, 'without preload a wrong value is left out');
is($session->query("SELECT evstore.append('z-1', 'x') IS NOT NULL"), 't', 'appends go on');
$session->close;

restart_with("shared_preload_libraries = 'evstore'\nevstore.partition_size = 3\n");
is($node->safe_psql('conf_none', 'SHOW evstore.partition_size'), 10000000,
	'with preload too');
ok($node->log_contains(
		'WARNING:  3 is outside the valid range for parameter "evstore.partition_size"'),
	'with a warning in the log');
restart_with('');
is($node->safe_psql('conf_none', 'SELECT count(*) FROM evstore.verify() WHERE NOT ok'),
	0, 'after all that the store is sound');

# ---- evstore.notify = commit: each transaction that appends tells listeners, once ----

my $out = $node->safe_psql('conf_none', q(
	LISTEN evstore;
	LOAD 'evstore';
	SET evstore.notify = commit;
	BEGIN;
	SELECT evstore.append('z-2', 'x') IS NOT NULL;
	SELECT evstore.append('z-3', 'x') IS NOT NULL;
	COMMIT;));
is(scalar(() = $out =~ /^Asynchronous notification "evstore" with payload "\d+" received/mg), 1, 'once a transaction');
$out = $node->safe_psql('conf_none', q(
	LISTEN evstore;
	LOAD 'evstore';
	SET evstore.notify = commit;
	BEGIN;
	SELECT evstore.append('z-2', 'x') IS NOT NULL;
	ROLLBACK;
	SET evstore.notify = off;
	SELECT evstore.append('z-2', 'x') IS NOT NULL;));
is(scalar(() = $out =~ /^Asynchronous notification/mg), 0, 'not if it is rolled back, and not when off');

# ---- a database without the extension ----

$session = session($node, 'postgres');
$session->query("LOAD 'evstore'");
is($session->query('SELECT 1'), 1, 'the library can be loaded where the extension is not');
$session->close;

done_testing();
