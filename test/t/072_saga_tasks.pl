# Who waits for tasks of sagas is woken when there is one, and costs nothing before; a task
# that has been handed out survives a crash.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use Test::More;
use Time::HiRes ();

my $node = new_node('saga_tasks',
	conf => "shared_preload_libraries = 'evstore'\nmax_prepared_transactions = 10\n"
	  . "max_worker_processes = 12\n");
new_store($node, 'store');
my $observer = session($node, 'store');

# A waiting session that nobody wakes looks by itself after 5 s: sooner than that
# is woken.
use constant WOKEN => 3.5;

sub asleep
{
	my ($session) = @_;

	return $session->waits($observer, 'Extension');
}

sub waiting_worker
{
	my ($session) = @_;

	$session //= session($node, 'store');
	$session->send("SELECT input FROM evstore.fetch_tasks('do', 'w', 1, 600000)");
	asleep($session) or die 'the worker does not wait';
	return $session;
}

sub wakes
{
	my ($session, $what, $name) = @_;
	my $began = Time::HiRes::time();

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$what->();
	my $result = eval { $session->outcome(120) } // $@;
	my $took = Time::HiRes::time() - $began;
	cmp_ok($took, '<', WOKEN, sprintf '%s (%.3f s)', $name, $took);
	return ref $result ? $result->{C} : $result;
}

sub started
{
	my ($n) = @_;

	return $observer->query("SELECT evstore.start_saga('s', to_jsonb($n))");
}

sub status_becomes
{
	my ($id, $status) = @_;

	return poll(
		sub {
			$observer->query("SELECT status FROM evstore.saga_instance WHERE id = '$id'") eq $status;
		},
		60);
}

$observer->query(
	q{SELECT evstore.create_saga('s', '{"asl": {"StartAt": "Do", "States": {"Do":
		{"Type": "Task", "Resource": "evstore:activity:do", "End": true}}}, "options": {"durable": false}}')});

# ---- woken ----

my $worker = waiting_worker();
my $id;
is(wakes($worker, sub { $id = started(1) }, 'a task that begins wakes'), '1', 'and is given');
$observer->query(
	"SELECT evstore.complete_task(token, '7') FROM evstore.saga_step WHERE saga_id = '$id'");
ok(status_becomes($id, 'succeeded'), 'the reply wakes the saga');

# Of several that wait, one gets it.
my @workers = map { waiting_worker() } 1 .. 3;
started(2);
my $given = poll(
	sub {
		$observer->query(
			"SELECT count(*) FROM evstore.saga_step WHERE input = '2' AND worker IS NOT NULL") eq '1';
	},
	60);
ok($given, 'one of several gets a task');
ok( poll(
		sub {
			$observer->query(
				"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%fetch_tasks%' AND wait_event_type = 'Extension'"
			) eq '2';
		},
		60),
	'the others wait on');
# a session that is closed while it waits does not notice
$observer->query("SELECT pg_terminate_backend($_->{pid}, 60000)") for @workers;

# ---- claims that are taken back ----

my $holder = session($node, 'store');
for my $end ('ROLLBACK', 'ROLLBACK TO s')
{
	my $n = $end eq 'ROLLBACK' ? 3 : 4;
	my $saga = started($n);

	ok(poll(sub { $observer->query("SELECT count(*) FROM evstore.saga_step WHERE saga_id = '$saga'") eq '1' }, 60),
		'a task begins');
	is($holder->query("BEGIN; SAVEPOINT s; SELECT input FROM evstore.fetch_tasks('do', 'h')"),
		$n, 'somebody fetches it');
	$worker = waiting_worker();
	is(wakes($worker, sub { $holder->query($end) }, "$end wakes who waits"), $n, 'and he gets it');
	$holder->query('ROLLBACK');
	$worker->close;
}
my $saga = started(5);
ok(poll(sub { $observer->query("SELECT count(*) FROM evstore.saga_step WHERE saga_id = '$saga'") eq '1' }, 60),
	'a task begins');
$holder->query("BEGIN; SELECT input FROM evstore.fetch_tasks('do', 'h')");
$worker = waiting_worker();
is(wakes($worker, sub { $holder->close }, 'the end of the session that has fetched wakes who waits'),
	'5', 'and he gets it');

# ---- what waiting costs ----

waiting_worker($worker);
is( $observer->query(
		"SELECT count(*) FROM pg_locks WHERE pid = $worker->{pid} AND (mode NOT IN ('AccessShareLock', 'ExclusiveLock')"
		  . " OR locktype = 'transactionid')"),
	'0', 'who waits holds no lock that others wait for');
is($observer->query("SELECT backend_xid FROM pg_stat_activity WHERE pid = $worker->{pid}"),
	'', 'and has no transaction id');
is(wakes($worker, sub { $worker->cancel }, 'a cancel is answered at once'), '57014', 'with an error');
waiting_worker($worker);
isnt(wakes($worker, sub { $observer->query("SELECT pg_terminate_backend($worker->{pid})") },
		'and so is a terminate'),
	'', 'which ends it');

# ---- prepared transactions ----

$id = started(6);
ok(poll(sub { $observer->query("SELECT count(*) FROM evstore.saga_step WHERE saga_id = '$id'") eq '1' }, 60),
	'a task begins');
$observer->query("BEGIN; SELECT evstore.complete_task(token, '1') FROM evstore.saga_step WHERE saga_id = '$id';"
	  . " PREPARE TRANSACTION 'reply'");
is($observer->query("SELECT status FROM evstore.saga_instance WHERE id = '$id'"),
	'running', 'a reply in a prepared transaction is none yet');
$observer->query("COMMIT PREPARED 'reply'");
ok(status_becomes($id, 'succeeded'), 'committed, it is found without having woken anybody');

# ---- durable before it is handed out ----

# Nothing writes the log but who must: its writer is stopped.
$node->append_conf('postgresql.conf',
	"synchronous_commit = off\nwal_writer_delay = 10s\nwal_writer_flush_after = 0\n");
$node->restart;
$observer = session($node, 'store');
my ($log_writer) = grep { title($_) =~ /walwriter/ } children($node->{_pid});
kill 'STOP', $log_writer;
$id = started(7);
ok(poll(sub { $observer->query("SELECT count(*) FROM evstore.saga_step WHERE saga_id = '$id'") eq '1' }, 60),
	'a task begins, committed asynchronously');
my $fetcher = session($node, 'store');
is($fetcher->query("BEGIN; SELECT token FROM evstore.fetch_tasks('do', 'w')"),
	$observer->query("SELECT token FROM evstore.saga_step WHERE saga_id = '$id'"),
	'it is handed out');
crash_on_purpose($node);
$node->stop('immediate');
$node->start;
is( $node->safe_psql('store', "SELECT count(*) FROM evstore.saga_step WHERE saga_id = '$id'"),
	'1', 'and there after a crash');

done_testing();
