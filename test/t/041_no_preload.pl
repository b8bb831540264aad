# Without shared_preload_libraries everything works but the automatic start:
# a dispatcher is started by hand, and who waits without one looks by itself.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my $node = new_node('no_preload',
	conf => "max_worker_processes = 4\nmax_logical_replication_workers = 0\n"
	  . "max_prepared_transactions = 5\nmax_locks_per_transaction = 20\nmax_connections = 30\n");
new_store($node, 'store');
my $session = session($node, 'store');
my $observer = session($node, 'store');

sub workers
{
	return $observer->query(
		'SELECT kind, state, pid IS NOT NULL, failures, retry_at IS NOT NULL FROM evstore.workers');
}

sub dispatchers
{
	return $observer->query(
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'evstore dispatcher'");
}

# A waiting session gets what is appended; how many seconds it took.
sub round_trip
{
	my ($name) = @_;

	$session->query("SELECT evstore.seek('s', 'end'); SELECT evstore.fetch('s', 'c', 0)");
	$session->query("SELECT evstore.fetch('s', 'c', 1)");
	$session->send("SELECT stream FROM evstore.fetch('s', 'c', 1, 60000)");
	$session->waits($observer, 'Extension') or die 'does not wait';
	my $began = Time::HiRes::time();
	$observer->query("SELECT evstore.append('a-1', 'x')");
	is($session->outcome(70), 'a-1', $name);
	return Time::HiRes::time() - $began;
}

# ---- without a dispatcher ----

is(workers(), 'dispatcher|not started|f|0|f', 'nothing runs, and the view says so');
$observer->query("SELECT evstore.create_subscription('s', options => '{\"lease\": 3600, \"notify\": true}')");
my $took = round_trip('who waits gets its event without a dispatcher');
cmp_ok($took, '<', 3, sprintf 'soon: %.3f s', $took);
$session->send("CALL evstore.wait_for_events('s', 60000)");
is($session->outcome(10), '', 'wait_for_events() works too');
$session->query("SELECT evstore.seek('s', 'end')");
$session->send("CALL evstore.wait_for_events('s', 60000)");
ok($session->waits($observer, 'Extension'), 'it waits');
is($observer->query("SELECT backend_xmin IS NULL FROM pg_stat_activity WHERE pid = $session->{pid}"),
	't', 'without a snapshot');
$observer->query("SELECT evstore.append('a-1', 'x')");
is($session->outcome(10), '', 'and ends with an event');
is($observer->try('SELECT evstore.stop()'), '', 'stop() of nothing');
is(workers(), 'dispatcher|stopped|f|0|f', 'is remembered');
is($observer->try('SELECT evstore.adopt()'), '', 'adopt() asks nobody');

# ---- with one, started by hand ----

is($observer->try('SELECT evstore.start()'), '', 'start() launches the dispatcher');
is(workers(), 'dispatcher|running|t|0|f', 'it runs');
is(dispatchers(), 1, 'one');
is($observer->try('SELECT evstore.start()'), '', 'start() again');
is(dispatchers(), 1, 'still one');
$took = round_trip('who waits gets its event from the dispatcher');
cmp_ok($took, '<', 3, sprintf 'soon: %.3f s', $took);

# Many in a row: none of them may have to wait for the next regular look, which
# is up to a second away.
my $slow = 0;
$session->query("SELECT evstore.seek('s', 'end'); SELECT evstore.fetch('s', 'c', 0)");
$session->query("SELECT evstore.fetch('s', 'c', 1)");
for my $round (1 .. 200)
{
	my $began = Time::HiRes::time();

	$session->send(
		"SELECT evstore.ack('s', slot, epoch, position) FROM evstore.fetch('s', 'c', 10, 60000)");
	$observer->query("SELECT evstore.append('a-1', 'x')");
	1 until $session->outcome(70) ne ''
	  || !$session->send("SELECT evstore.ack('s', slot, epoch, position) FROM evstore.fetch('s', 'c', 10, 60000)");
	$slow++ if Time::HiRes::time() - $began > 0.4;
}
cmp_ok($slow, '<', 20, "200 round trips, $slow of them slow");

# Idle in a transaction, prepared, rolled back: as with preloading.
$session->query("SELECT evstore.seek('s', 'end')");
my $holder = session($node, 'store');
for my $end ('COMMIT', 'ROLLBACK', 'ROLLBACK TO s')
{
	$session->query("SELECT evstore.seek('s', 'end'); SELECT evstore.fetch('s', 'c', 1)");
	$holder->query("BEGIN; SAVEPOINT s; SELECT evstore.append('held-1', 'x')");
	$observer->query("SELECT evstore.append('a-1', 'x')");
	$session->send("SELECT count(*) > 0 FROM evstore.fetch('s', 'c', 1, 60000)");
	ok($session->waits($observer, 'Extension'), "an append in flight holds back ($end)");
	my $began = Time::HiRes::time();
	$holder->query($end);
	is($session->outcome(70), 't', "$end frees");
	cmp_ok(Time::HiRes::time() - $began, '<', 3.5, 'and wakes');
	$holder->query('COMMIT');
}
$session->query("SELECT evstore.seek('s', 'end'); SELECT evstore.fetch('s', 'c', 1)");
$holder->query("BEGIN; SELECT evstore.append('held-1', 'x'); PREPARE TRANSACTION 'p'");
$session->send("SELECT count(*) > 0 FROM evstore.fetch('s', 'c', 1, 60000)");
ok($session->waits($observer, 'Extension'), 'a prepared append holds back');
my $began = Time::HiRes::time();
$observer->query("COMMIT PREPARED 'p'");
is($session->outcome(70), 't', 'COMMIT PREPARED frees');
cmp_ok(Time::HiRes::time() - $began, '<', 4, 'soon');

# ---- NOTIFY ----

my $listener = session($node, 'store');
$listener->query('LISTEN evstore');
$listener->query('LISTEN evstore_sub_s');

sub hears
{
	my ($seconds) = @_;
	my $deadline = Time::HiRes::time() + $seconds;

	while (1)
	{
		my ($type, $body) = eval { $listener->read_message($deadline) };
		return '' unless defined $type;
		return join ' ', unpack 'x4 Z* Z*', $body if $type eq 'A';
	}
}

my $position = $observer->query("SELECT position FROM evstore.append('a-1', 'x')");
like(hears(20), qr/^evstore(_sub_s)? $position$/, 'the dispatcher sends NOTIFY');
like(hears(20), qr/^evstore(_sub_s)? $position$/, 'for the subscription, too');
is($observer->try('SELECT evstore.stop()'), '', 'stop()');
is(dispatchers(), 0, 'ends it');
1 while hears(0.1) ne '';
$observer->query("SELECT evstore.append('a-1', 'x')");
is(hears(1), '', 'without it nobody is told');
$observer->query("SET evstore.notify = 'commit'");
$position = $observer->query("SELECT position FROM evstore.append('a-1', 'x')");
is(hears(20), "evstore $position", 'but with evstore.notify = commit, without any worker');
$observer->query("BEGIN; SELECT evstore.append('a-1', 'x'); ROLLBACK");
is(hears(1), '', 'not of what is rolled back');
$observer->query('RESET evstore.notify');

# ---- ended by others ----

$observer->query('SELECT evstore.start()');
my $pid = $observer->query("SELECT pid FROM evstore.workers");
$observer->query("SELECT pg_terminate_backend($pid)");
ok(poll(sub { workers() eq 'dispatcher|backing off|f|1|f' }),
	'a dispatcher that was terminated stays away, and the view promises nothing');
round_trip('who waits goes on without it');
is($observer->try('SELECT evstore.start()'), '', 'start() brings it back');
is(workers(), 'dispatcher|running|t|0|f', 'it runs');

# ---- no process is free ----

new_store($node, "more_$_") for 1 .. 4;
my @results;
for my $dbname (map { "more_$_" } 1 .. 4)
{
	my $session = session($node, $dbname);
	my $error = $session->try('SELECT evstore.start()');
	push @results, ref $error ? "$error->{C} $error->{M} $error->{H}" : 'runs';
	$session->close;
}
is((grep { $_ eq 'runs' } @results), 3, 'as many dispatchers as there are processes');
like($results[-1],
	qr/^VS011 .*no background worker process is free.* Raise max_worker_processes\.$/,
	'then an error that names the setting, and promises nothing');

# ---- DROP DATABASE, DROP EXTENSION ----

my $postgres = session($node, 'postgres');
is($postgres->try('DROP DATABASE more_1'), '', 'DROP DATABASE while its dispatcher runs');
is($postgres->try('ALTER DATABASE more_2 RENAME TO moved'), '', 'ALTER DATABASE RENAME');
my $other = session($node, 'more_3');
$other->query('DROP EXTENSION evstore CASCADE');
ok(poll(sub { dispatchers() == 1 }), 'DROP EXTENSION ends the dispatcher');
$other->query('CREATE EXTENSION evstore');
is($other->try('SELECT evstore.start()'), '', 'and CREATE EXTENSION and start() start it anew');
$_->close for $other, $postgres;

# ---- the server's limits ----

# Locks have taken all the shared memory that the server has to spare, for good.
# evstore's part was taken before, so another server.
$_->close for $session, $observer, $holder, $listener;
unlike(slurp_file($node->logfile), qr/^\S+ \S+ \S+ \[\d+\] (ERROR|FATAL|WARNING|PANIC):/m,
	'no background process has complained');
$node->stop;
$node->start;
my $eater = session($node, 'postgres');
$eater->query(<<'SQL');
DO $$
BEGIN
	FOR i IN 1 .. 1000000 LOOP
		PERFORM pg_advisory_xact_lock(i);
	END LOOP;
EXCEPTION WHEN out_of_memory THEN NULL;
END $$;
SQL
$session = session($node, 'store');
$observer = session($node, 'postgres');
is_error($session, 'SELECT evstore.start()', 'VS011',
	qr/no shared memory to spare.*Add evstore to shared_preload_libraries/s,
	'where there is no shared memory left, start() says what to do');
# a session that has had no error yet
$session->close;
$session = session($node, 'store');
is($session->query("SELECT count(*) FROM evstore.workers"), 0, 'the view is empty');
like($session->query("SELECT version FROM evstore.append('b-1', 'x')"), qr/^\d+$/, 'appends work');
is($session->query("SELECT count(*) > 0 FROM evstore.fetch('s', 'd', 10, 1000)
	UNION SELECT count(*) > 0 FROM evstore.fetch('s', 'd', 10, 1000)") ne '', 1, 'subscriptions work');
$session->query("SELECT evstore.seek('s', 'end'); SELECT evstore.fetch('s', 'd', 0)");
$session->query("SELECT evstore.fetch('s', 'd', 10)");
$session->send("SELECT stream FROM evstore.fetch('s', 'd', 10, 60000)");
ok($session->waits($observer, 'Extension'), 'who waits sleeps');
$session->cancel;
my $error = $session->outcome(10);
is(ref $error ? $error->{C} : $error, '57014', 'and can be cancelled');
$_->close for $session, $observer, $eater;

done_testing();
