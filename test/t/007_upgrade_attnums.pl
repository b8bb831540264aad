# After an upgrade that has dropped and added a column of the log, columns have
# other numbers in old partitions, in new ones, and in the log itself.  Nothing
# that evstore does may notice.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use File::Basename;
use PostgreSQL::Test::Utils;
use Test::More;

my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my $tree = "$FindBin::Bin/../..";

# ---- an installation of our own, with one more update script ----

# PostgreSQL finds its files relative to its programs.
sub pg_config
{
	my ($what) = @_;
	my ($out, $err) = run_command([ 'pg_config', "--$what" ]);

	return $out;
}

my %dirs = map { $_ => pg_config($_) } qw(bindir sharedir pkglibdir);
my $prefix = $dirs{bindir};
$prefix = dirname($prefix)
  while grep { substr($_, 0, length "$prefix/") ne "$prefix/" } @dirs{qw(sharedir pkglibdir)};
my %mine = map { $_ => "$tmp/inst" . substr($dirs{$_}, length $prefix) } keys %dirs;

system_or_bail('mkdir', '-p', values %mine);
system_or_bail("cp -p $dirs{bindir}/* $mine{bindir}/");
system_or_bail('cp', '-rs', "$dirs{$_}/.", "$mine{$_}/") for qw(sharedir pkglibdir);

my ($version) = slurp_file("$tree/evstore.control") =~ /^default_version\s*=\s*'(.*)'/m;
my $script = join "\n", map { slurp_file($_) } sort glob "$tree/sql/modules/[5-9]*.sql";
append_to_file("$mine{sharedir}/extension/evstore--$version--$version.attnums.sql", <<"SQL");
\\echo Use "ALTER EXTENSION evstore UPDATE" to load this file. \\quit
SET LOCAL search_path TO pg_catalog, pg_temp;
DROP VIEW evstore.events_uncapped CASCADE;
ALTER TABLE evstore.event_log DROP COLUMN schema_version;
ALTER TABLE evstore.event_log ADD COLUMN schema_version integer NOT NULL DEFAULT 1;
ALTER TABLE evstore.event_log ALTER COLUMN schema_version DROP DEFAULT;
$script
SQL

my $node = new_node('attnums', new => { install_path => dirname($mine{bindir}) });
new_store($node, 'store', 20);

# ---- before ----

my $session = session($node, 'store');
my $fill = q(SELECT evstore.append('a-' || i % 3, 'type ' || i % 2, jsonb_build_object('i', i),
	metadata => CASE WHEN i % 4 = 0 THEN '{"m": 1}'::jsonb END,
	event_id => md5('id ' || i)::uuid,
	correlation_id => CASE WHEN i % 5 = 0 THEN 'c' END,
	causation_id => CASE WHEN i % 6 = 0 THEN md5('cause ' || i)::uuid END,
	schema_version => 1,
	occurred_at => CASE WHEN i % 7 = 0 THEN '2020-01-01 00:00:00+00'::timestamptz END,
	source => CASE WHEN i % 8 = 0 THEN '/source' END,
	tags => CASE WHEN i % 9 = 0 THEN ARRAY['x', 'y'] END)
	FROM generate_series(%d, %d) i);
$session->query(sprintf $fill, 1, 30);
is($session->query('SELECT count(*) FROM evstore.partitions'), 2, 'two old partitions');
my $before = hash_of_events($node, 'store');

# ---- the upgrade; the session stays connected over it ----

$node->safe_psql('store', "ALTER EXTENSION evstore UPDATE TO '$version.attnums'");
is(hash_of_events($node, 'store'), $before, 'after the upgrade the events are the same');
my $log_before = $session->query('SELECT count(*) FROM evstore.read_all(max_count => NULL)');
is($log_before, 30, 'also for a session that was connected before');
$session->query(sprintf $fill, 31, 75);
cmp_ok($session->query('SELECT count(*) FROM evstore.partitions'),
	'>=', 4, 'there are new partitions');

my $numbers = q(SELECT string_agg(a.attnum::text, ' ' ORDER BY a.attnum) FROM pg_attribute a
	WHERE a.attrelid = 'evstore.%s'::regclass AND a.attname IN ('event_id', 'data', 'tags', 'schema_version'));
is($session->query(sprintf $numbers, 'event_log'), '6 9 15 16', 'numbers of columns in the log');
is($session->query(sprintf $numbers, 'event_log_1'), '6 9 15 16', 'in an old partition');
is($session->query(sprintf $numbers, 'event_log_41'), '5 8 14 15', 'in a new one: others');

# What the events have to be, from the loop that made them.
my $wrong = q(SELECT e.position FROM evstore.%s e
	WHERE (e.stream, e.type, e.data, e.metadata, e.event_id, e.schema_version, e.tags, e.source, e.correlation_id)
		IS DISTINCT FROM ('a-' || e.position % 3, 'type ' || e.position % 2, jsonb_build_object('i', e.position),
			CASE WHEN e.position % 4 = 0 THEN '{"m": 1}'::jsonb ELSE '{}' END,
			md5('id ' || e.position)::uuid, 1,
			CASE WHEN e.position % 9 = 0 THEN ARRAY['x', 'y'] END,
			CASE WHEN e.position % 8 = 0 THEN '/source' END,
			CASE WHEN e.position % 5 = 0 THEN 'c' END)
		OR (e.position % 7 = 0) <> (e.occurred_at = '2020-01-01 00:00:00+00')
		OR (e.position % 6 = 0 AND e.causation_id IS DISTINCT FROM md5('cause ' || e.position)::uuid)
		OR e.recorded_at < now() - interval '1 hour');

sub check_store
{
	my ($on, $dbname, $how, $n) = @_;
	my $session = session($on, $dbname);
	my $query = sub { $session->query($_[0]) };

	for my $from ('events', 'read_all(max_count => NULL)')
	{
		is($query->("SELECT count(*) FROM evstore.$from e"), $n, "$how: all of $from");
		is($query->(sprintf $wrong, $from), '', "$how: each of $from is right");
	}
	is($query->("SELECT count(*), max(version) FROM evstore.read_stream('a-1')"),
		$n / 3 . '|' . ($n / 3 - 1), "$how: read_stream()");
	is($query->("SELECT string_agg(version::text, ' ') FROM evstore.read_stream('a-1', 3, 12)"),
		join(' ', 3 .. 14), "$how: read_stream() over partitions");
	is($query->("SELECT min(version) FROM evstore.read_stream('a-1', NULL, 20, 'backward')"),
		$n / 3 - 20, "$how: and backward");
	is($query->("SELECT count(*) FROM evstore.read_category('a', 0, NULL)"), $n,
		"$how: read_category()");
	is($query->("SELECT count(*) FROM evstore.read_correlation('c')"), $n / 5,
		"$how: read_correlation()");
	is($query->("SELECT count(*) FROM evstore.read_all(0, NULL, '{\"types\": [\"type 1\"], \"tags\": [\"x\"]}')"),
		scalar(grep { $_ % 2 && $_ % 9 == 0 } 1 .. $n), "$how: a filter");
	is($query->("SELECT count(*) FROM generate_series(1, $n) i, evstore.get_event(md5('id ' || i)::uuid) e WHERE e.position = i"),
		$n, "$how: get_event() of each");
	is($query->("SELECT evstore.stream_version('a-2')"), $n / 3 - 1, "$how: stream_version()");

	# the retry of all appends finds them all, in every partition
	my $last = $query->('SELECT evstore._last_position()');
	$query->(sprintf $fill, 1, $n);
	is($query->('SELECT evstore._last_position()'), $last,
		"$how: repeating all appends appends nothing");
	is_error($session,
		"SELECT evstore.append('a-1', 'other', event_id => md5('id 1')::uuid)",
		'VS003', qr/exist/, "$how: an id of an old partition is taken");
	is($query->(
			'SELECT check_name, detail FROM evstore.verify() WHERE NOT ok
			 UNION ALL SELECT check_name, detail FROM evstore.health() WHERE NOT ok AND check_name !~ $$adopted$$'),
		'', "$how: the store is sound");
	$session->close;
	return;
}

check_store($node, 'store', 'after the upgrade', 75);
$session->close;
$node->restart;
check_store($node, 'store', 'in new sessions', 75);
$session = session($node, 'store');
is( $session->query(
		"SELECT version FROM evstore.append('b-1', 'x', schema_version => 7)"),
	0,
	'another schema version');
is($session->query("SELECT schema_version FROM evstore.read_stream('b-1')"), 7, 'is stored');
is( $session->query(
		"SELECT version FROM evstore.append_arrays('b-1', array_fill('x'::text, ARRAY[60]))"),
	60,
	'a batch over several partitions');
is_error($session, "SELECT evstore.append('b-1', 'x', expected_version => 3)", 'VS001',
	qr/stream version: 60/, 'a conflict is one');
is_error($session, 'UPDATE evstore.event_log SET type = $$x$$', 'VS006', qr/append-only/,
	'guards are in place');
is_error($session, 'DROP EXTENSION evstore', '2BP01', qr/drop_guard/, 'and the drop guard');
# Not to be in the way of what follows.
$session->query("SELECT evstore.delete_stream('b-1')");
$session->close;

# ---- dump and restore ----

# CREATE EXTENSION gives the copy a log with the numbers of a new installation,
# its partitions come from the dump with numbers of their own.
command_ok([ 'pg_dump', '--no-sync', '-d', $node->connstr('store'), '-f', "$tmp/dump.sql" ],
	'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
command_ok(
	[
		'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-d',
		$node->connstr('copy'), '-f', "$tmp/dump.sql"
	],
	'restore');
is(hash_of_events($node, 'copy'), hash_of_events($node, 'store'), 'the events are the same');
$session = session($node, 'copy');
is($session->query(sprintf $numbers, 'event_log'), '5 6 9 15',
	'numbers of columns in the log of the copy');
is($session->query(sprintf $numbers, 'event_log_1'), '5 8 14 15', 'in its partitions: others');
check_store($node, 'copy', 'the copy', 75);
is( $session->query(
		"SELECT version FROM evstore.append_arrays('c-1', array_fill('x'::text, ARRAY[60]))"),
	59,
	'a batch over old and new partitions of the copy');
is( $session->query(
		"SELECT count(*), min(schema_version), max(schema_version) FROM evstore.read_stream('c-1')"),
	'60|1|1',
	'is stored right');
is( $session->query(
		'SELECT count(DISTINCT (SELECT string_agg(a.attname || a.attnum, $$ $$ ORDER BY a.attnum)
			FROM pg_attribute a WHERE a.attrelid = i.inhrelid AND a.attnum > 0))
		 FROM pg_inherits i WHERE i.inhparent = $$evstore.event_log$$::regclass'),
	2,
	'partitions of two shapes');
$session->query("SELECT evstore.delete_stream('c-1')");
$session->close;
check_store($node, 'copy', 'the copy with new partitions', 75);

done_testing();
