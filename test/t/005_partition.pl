# Partitions are made when they are needed, whatever stands in the way: ahead by
# a worker, by the append itself where there is no worker, and with an error
# that says what to do where neither can.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('partition', conf => "max_worker_processes = 16\n");
my ($store, $n, $observer);

# A new store for each part, so that nothing of the one before stays in the way.
sub begin
{
	my ($size) = @_;

	$observer->close if $observer;
	$store = new_store($node, 'part_' . ++$n, $size);
	$observer = session($node, $store);
	return;
}

sub partitions
{
	return $observer->query('SELECT count(*) FROM evstore.partitions');
}

sub append
{
	my ($stream) = @_;

	return "SELECT version FROM evstore.append('$stream', 'x')";
}

# As if all partitions were full: the next append needs one that is missing.
# The partitions are so large that nothing is made ahead of need.
sub fill_partition
{
	$observer->query(append('fill-1'));
	$observer->query(
		q(SELECT setval('evstore.position_seq', max(last_position)) FROM evstore.partitions));
	return;
}

sub no_worker
{
	return poll(
		sub {
			$observer->query(
				"SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'evstore%'") == 0;
		});
}

sub sound
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(
		$observer->query(
			'SELECT check_name, detail FROM evstore.verify() WHERE NOT ok
			 UNION ALL SELECT check_name, detail FROM evstore.health() WHERE NOT ok'),
		'',
		$name);
}

# ---- ahead of need ----

begin(100);
my $session = session($node, $store);
$session->query(append('a-1'));
is(partitions(), 2, 'the first append waits for a partition, and gets one to spare');
$session->query("SELECT evstore.append_arrays('a-1', array_fill('x'::text, ARRAY[149]))");
is($observer->query('SELECT evstore._last_position()'), 150,
	'the second partition is half full');
$session->query(append('a-1'));
ok(poll(sub { partitions() >= 3 }), 'the third is made before it is needed');
cmp_ok($observer->query('SELECT evstore._last_position()'),
	'<=', 200, 'while the second still has room');
my $own = $observer->query(
	q(SELECT count(*) FROM pg_class c JOIN pg_class p ON p.oid = 'evstore.event_log'::regclass
	  WHERE c.relname ~ '^event_log_' AND c.relowner <> p.relowner));
is($own, 0, 'partitions belong to who owns the log');

# An append in a transaction that is rolled back does not take it away.
$session->query("BEGIN; SELECT evstore.append_arrays('a-1', array_fill('x'::text, ARRAY[200]))");
my $made = partitions();
cmp_ok($made, '>=', 4, 'a large batch gets all the partitions that it needs');
$session->query('ROLLBACK');
is(partitions(), $made, 'they stay when it is rolled back');
is($session->query(append('a-1')), 151, 'and the versions go on without a gap');
sound('the store is sound');
$session->close;

# ---- an append holds no lock that the next partition needs ----

begin(10);
my $first = session($node, $store);
my $second = session($node, $store);
$first->query('BEGIN; ' . append('a-1'));
my @results = map { ref $_ ? "$_->{C} $_->{M}" : $_ }
  map { $second->try("SET lock_timeout = '10s'; " . append('b-1')) } 1 .. 50;
is_deeply(\@results, [ 0 .. 49 ],
	'an open transaction with an append does not hold up the making of partitions');
is(partitions() >= 5, 1, 'many of them');
$first->query('COMMIT');
sound('the store is sound');
$_->close for $first, $second;

# ---- a reader in a transaction, and pg_dump ----

begin(10);
my $reader = session($node, $store);
$first = session($node, $store);
$first->query(append('a-1'));
$reader->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM evstore.events');
$first->query("SET lock_timeout = '10s'");
for my $i (1 .. 40) { $first->query(append('a-1')); }
is($reader->query('SELECT count(*) FROM evstore.events_uncapped'), 1,
	'a reader with an old snapshot keeps it while partitions are made');
is($reader->query('SELECT count(*) FROM evstore.read_all()'), 41,
	'read_all() sees the new ones');
$reader->query('COMMIT');

# pg_dump holds AccessShareLock on all tables: hold the same while it runs
my $dumped = "$PostgreSQL::Test::Utils::tmp_check/dump.sql";
my $dumps = 0;
my $before = partitions();
for my $attempt (1 .. 20)
{
	my $pid = fork // die "fork: $!";
	exec 'pg_dump', '--no-sync', '-d', $node->connstr($store), '-f', $dumped if $pid == 0;
	my $appends = 0;
	until (waitpid($pid, POSIX::WNOHANG()) > 0)
	{
		$first->query(append('a-1'));
		$appends++;
	}
	is($?, 0, 'pg_dump succeeds while partitions are made') if $dumps++ == 0 || $?;
	last if $appends > 10;
}
cmp_ok(partitions(), '>', $before, 'partitions are made while pg_dump runs');
sound('the store is sound');
$_->close for $reader, $first;

# ---- DDL is refused by an event trigger ----

begin(10);
$observer->query(<<'SQL');
CREATE FUNCTION frozen() RETURNS event_trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'DDL is frozen'; END $$;
SQL
$observer->query('CREATE EVENT TRIGGER frozen ON ddl_command_start EXECUTE FUNCTION frozen()');
$observer->query('CREATE EVENT TRIGGER frozen_end ON ddl_command_end EXECUTE FUNCTION frozen()');
is_error($observer, 'CREATE TABLE t ()', 'P0001', qr/frozen/, 'DDL is frozen');
$session = session($node, $store);
@results = map { $session->try(append('a-1')) } 1 .. 35;
is_deeply(\@results, [ 0 .. 34 ], 'partitions are made all the same');
is_error($session, 'CREATE TABLE t ()', 'P0001', qr/frozen/, 'and DDL is still frozen');
is($session->query('SHOW session_replication_role'), 'origin',
	'session_replication_role is as it was');
$session->close;

# ---- ANALYZE in a transaction that stays open ----

# It holds the lock that ATTACH PARTITION needs.  The worker gives up after a
# second; then the append waits itself, and its own timeouts count.
begin(1000);
$session = session($node, $store);
$session->query(append('fill-1'));
fill_partition();
my $full = partitions();
my $analyze = session($node, $store);
$analyze->query('BEGIN; ANALYZE evstore.event_log');
is_error($session, "SET lock_timeout = '100ms'; " . append('a-1'),
	'55P03', qr/lock timeout/, 'ANALYZE in an open transaction: lock_timeout counts');
is_error($session, "SET lock_timeout = 0; SET statement_timeout = '300ms'; " . append('a-1'),
	'57014', qr/statement timeout/, 'statement_timeout counts');
$session->query('RESET statement_timeout');
$session->send(append('a-1'));
ok($session->waits($observer, 'Lock'),
	'else the append waits, after the worker has given up');
is($observer->query(
		"SELECT count(*) FROM pg_stat_activity WHERE $analyze->{pid} = ANY (pg_blocking_pids(pid)) AND pid = $session->{pid}"),
	1,
	'and can be seen to wait for the transaction with the ANALYZE');
$analyze->query('COMMIT');
is($session->outcome, 0, 'until that ends');
cmp_ok(partitions(), '>', $full, 'with a new partition');
sound('the store is sound');
$analyze->close;

# ---- cancel while waiting for the worker ----

no_worker();
fill_partition();
$analyze = session($node, $store);
$analyze->query('BEGIN; ANALYZE evstore.event_log');
my $version = $session->query("SELECT evstore.stream_version('a-1')");
$session->send(append('a-1'));
ok( poll(
		sub {
			$observer->query(
				"SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'evstore%'
				 AND wait_event_type = 'Lock'");
		}),
	'a worker waits for the lock');
$session->cancel;
my $error = $session->outcome;
EvsTest::error_is($error, '57014', qr/user request/, 'the append that waits for it can be cancelled');
$analyze->query('COMMIT');
$analyze->close;
is($session->query(append('a-1')), $version + 1, 'and tried again');
no_worker();
is($observer->query('SELECT evstore.safe_position() = evstore._last_position()'), 't',
	'nothing is left in flight');
sound('the store is sound');

# ---- the same transaction holds the lock ----

fill_partition();
$session->query("SET statement_timeout = '60s'; BEGIN; ANALYZE evstore.event_log");
is($session->query(append('own-1')), 0,
	'after an ANALYZE of its own the append makes the partition itself');
$session->query('COMMIT');
sound('the store is sound');
fill_partition();
$session->query('BEGIN; LOCK TABLE evstore.event_log IN ACCESS EXCLUSIVE MODE');
is($session->query(append('own-1')), 1, 'likewise after LOCK TABLE');
$session->query('COMMIT');
sound('the store is sound');
$session->close;

# ---- CREATE EXTENSION and append in one transaction ----

$node->safe_psql('postgres', 'CREATE DATABASE one_transaction');
$session = session($node, 'one_transaction');
$session->query('BEGIN; CREATE EXTENSION evstore; SET LOCAL evstore.partition_size = 10');
@results = map { $session->query(append('a-1')) } 1 .. 25;
is_deeply(\@results, [ 0 .. 24 ],
	'CREATE EXTENSION and 25 appends over three partitions in one transaction');
$session->query('COMMIT');
is($session->query(append('a-1')), 25, 'and on it goes');
$session->close;
$observer->close;
$observer = session($node, 'one_transaction');
sound('the store is sound');
$node->safe_psql('postgres', 'CREATE DATABASE rolled_back');
$session = session($node, 'rolled_back');
$session->query('BEGIN; CREATE EXTENSION evstore; ' . append('a-1') . '; ROLLBACK');
$session->query('CREATE EXTENSION evstore');
is($session->query(append('a-1')), 0, 'and rolled back, and made again, by the same session');
$session->close;
$observer->close;
$observer = session($node, 'rolled_back');
sound('the store is sound');

# ---- the first append is rolled back ----

begin(10);
$session = session($node, $store);
$session->query('BEGIN; ' . append('a-1') . '; ROLLBACK');
is($session->query(append('a-1')), 0, 'a first append that is rolled back');
sound('leaves a sound store, which is no copy');
begin(10);
$observer->query('SELECT evstore.create_partitions(2)');
$session->close;
$session = session($node, $store);
$session->query(append('a-1'));
sound('so does create_partitions() before the first append');
$session->close;

# ---- the extension is dropped while a worker is on its way ----

# Stop the worker at the lock that makes them go one by one.
begin(1000);
$observer->query(append('fill-1'));
no_worker();
fill_partition();
my $holder = session($node, $store);
$holder->query('BEGIN; SELECT evstore.create_partitions(1)');
$session = session($node, $store);
$session->query("SET lock_timeout = '10s'");
$holder->query('ROLLBACK; BEGIN; SET client_min_messages = error; DROP EXTENSION evstore CASCADE');
$session->send(append('fill-1'));
ok($session->waits($observer), 'an append waits for DROP EXTENSION');
$holder->query('COMMIT');
$error = $session->outcome;
EvsTest::error_is($error, '42704', qr/not installed|CREATE EXTENSION/,
	'and then fails, as there is no evstore any more')
  or diag explain $error;
no_worker();

# A worker that was asked for by an append, and finds nothing when it comes.
$holder->query('CREATE EXTENSION evstore');
my $asked = session($node, $store);
$asked->query(
	"SET evstore.partition_size = 10; BEGIN; SELECT evstore.append_arrays('a-1', array_fill('x'::text, ARRAY[7]))");
no_worker();
my $blocker = session($node, $store);
$blocker->query('BEGIN; ANALYZE evstore.event_log');
$asked->query("SELECT evstore.append_arrays('a-1', array_fill('x'::text, ARRAY[9])); COMMIT");
$blocker->query('COMMIT; SET client_min_messages = error; DROP EXTENSION evstore CASCADE');
ok(no_worker(), 'a worker ends by itself when the extension has gone');
is($observer->query("SELECT count(*) FROM pg_class WHERE relname ~ '^event_log'"),
	0, 'and leaves nothing behind');
$holder->query('CREATE EXTENSION evstore');
is($session->query(append('a-1')), 0, 'the sessions that knew it work with the new one');
is($asked->query(append('a-1')), 1, 'all of them');
$_->close for $session, $holder, $asked, $blocker;
sound('the store is sound');
ok(!$node->log_contains('worker.*exited with exit code [1-9]'),
	'no worker has ended with an error');

# ---- no worker slot is free ----

$node->append_conf('postgresql.conf', 'max_worker_processes = 0');
$observer->close;
$observer = undef;
$node->restart;
begin(10);
$session = session($node, $store);
@results = map { $session->query(append('a-1')) } 1 .. 35;
is_deeply(\@results, [ 0 .. 34 ], 'without workers the append makes partitions itself');
is(partitions() >= 4, 1, 'as many as needed');
sound('the store is sound');
$session->query("SELECT evstore.append_arrays('b-1', array_fill('x'::text, ARRAY[55]))");
sound('also for a batch over several');

# The one who makes it holds the lock to the end of its transaction.
fill_partition();
$session->query('BEGIN; ' . append('a-1'));
$second = session($node, $store);
is_error($second, "SET lock_timeout = '100ms'; SELECT evstore.append_arrays('c-1', array_fill('x'::text, ARRAY[30]))",
	'55P03', qr/lock timeout/, 'another append that needs a new one too waits for its end');
$second->query("SET lock_timeout = 0");
$second->send("SELECT first_version, version FROM evstore.append_arrays('c-1', array_fill('x'::text, ARRAY[30]))");
ok($second->waits($observer), 'and waits');
$session->query('ROLLBACK');
is($second->outcome, '0|29', 'then makes its own');
is($session->query(append('a-1')), 35, 'a rollback takes the partition along, no version is lost');
sound('the store is sound');

# A statement that reads the log cannot make a partition of it.
fill_partition();
is_error(
	$session,
	"SELECT evstore.append('copy-1', e.type) FROM evstore.events e WHERE e.position > 0 LIMIT 1",
	'55006',
	qr/event_log.*(statement of its own|create_partitions)/s,
	'a statement that reads the log and appends: error with a hint');
is($session->query('SELECT evstore.create_partitions(1)'), 1, 'what the hint says');
is( $session->query(
		"SELECT count(evstore.append('copy-1', e.type)) FROM evstore.events e WHERE e.position > 0 AND e.position < 3"),
	2,
	'helps');
sound('the store is sound');

# An event trigger does not stop it either.
$observer->query('CREATE FUNCTION frozen() RETURNS event_trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION $m$DDL is frozen$m$; END $$;');
$observer->query('CREATE EVENT TRIGGER frozen ON ddl_command_start EXECUTE FUNCTION frozen()');
my $next = $session->query("SELECT evstore.stream_version('a-1') + 1");
@results = map { $session->try(append('a-1')) } 1 .. 25;
is_deeply(\@results, [ $next .. $next + 24 ], 'without workers DDL may be frozen too');
is_error($session, 'CREATE TABLE t ()', 'P0001', qr/frozen/, 'and it still is');
$_->close for $session, $second, $observer;

# ---- all worker slots in use ----

$node->append_conf('postgresql.conf', "max_worker_processes = 1\n"
	  . "max_logical_replication_workers = 0\nmax_parallel_workers = 1\n");
$node->restart;
$observer = undef;
begin(1000);
$session = session($node, $store);
$session->query(append('a-1'));
fill_partition();
$analyze = session($node, $store);
# one worker waits for the lock of the ANALYZE, and so fills the only slot
$analyze->query('BEGIN; ANALYZE evstore.event_log');
$session->send(append('a-1'));
ok( poll(
		sub {
			$observer->query(
				"SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'evstore%'");
		}),
	'the only worker slot is in use');
$second = session($node, $store);
$second->send(append('b-1'));
ok($second->waits($observer), 'a second append that needs a partition waits for the lock');
$analyze->query('COMMIT');
is($session->outcome, 1, 'both go on');
is($second->outcome, 0, 'when it is free');
sound('the store is sound');
$_->close for $session, $second, $analyze, $observer;

done_testing();
