# Who waits for events is woken when there are some, and only then: at once, by
# commits and by aborts alike, without costing anything in between.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use Test::More;
use Time::HiRes ();

my $node = new_node('wakeup',
	conf => "shared_preload_libraries = 'evstore'\nmax_prepared_transactions = 10\n"
	  . "max_worker_processes = 12\n");
new_store($node, 'store');
my $observer = session($node, 'store');

# A waiting session that nobody wakes looks by itself after 5 s: sooner than that
# is woken.
use constant WOKEN => 3.5;

# ---- helpers ----

sub subscription
{
	my ($name, $filter, %options) = @_;
	my $options = join ', ', map { "\"$_\": $options{$_}" } sort keys %options;

	$observer->query(
		"SELECT evstore.create_subscription('$name', '$filter', 'end', options => '{$options}')");
	return $name;
}

sub asleep
{
	my ($session) = @_;

	return $session->waits($observer, 'Extension');
}

# A consumer that has its slot and waits.
sub waiting_consumer
{
	my ($name, $consumer, $session) = @_;

	$session //= session($node, 'store');
	$session->query("SELECT evstore.fetch('$name', '$consumer', 0)");
	$session->query("SELECT evstore.fetch('$name', '$consumer', 1)");
	$session->send("SELECT position, stream FROM evstore.fetch('$name', '$consumer', 10, 600000)");
	asleep($session) or die "$consumer of $name does not wait";
	return $session;
}

# Does it still wait after the dispatcher has looked around, which it does once
# a second?
sub still_asleep
{
	my ($session) = @_;

	return !poll(sub { IO::Select->new($session->{socket})->can_read(0) }, 1)
	  && asleep($session);
}

# How long until the session answers after something was done, and what it says.
sub wakes
{
	my ($session, $what, $name, $limit) = @_;
	my $began = Time::HiRes::time();

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$what->();
	my $result = eval { $session->outcome(120) } // $@;
	my $took = Time::HiRes::time() - $began;
	cmp_ok($took, '<', $limit // WOKEN, sprintf '%s (%.3f s)', $name, $took);
	$result = "$result->{C} $result->{M}" if ref $result;
	return $result;
}

# Seconds of processor time that processes have used.
sub cpu
{
	my $sum = 0;

	for my $pid (@_)
	{
		# in ns, where /proc/PID/stat counts in ticks of 10 ms
		open my $file, '<', "/proc/$pid/schedstat" or next;
		$sum += (split ' ', <$file>)[0];
		close $file;
	}
	return $sum / 1e9;
}

# The part of a core that processes use, measured over some seconds.
sub load
{
	my ($seconds, @pids) = @_;
	my $end = Time::HiRes::time() + $seconds;
	my $began = Time::HiRes::time();
	my $before = cpu(@pids);

	while (Time::HiRes::time() < $end)
	{
		select undef, undef, undef, 0.1;    # poll
	}
	return (cpu(@pids) - $before) / (Time::HiRes::time() - $began);
}

# Noise only adds: the least of several measurements, until one is below.
sub least_load
{
	my ($limit, $seconds, @pids) = @_;
	my $least;

	for (1 .. 4)
	{
		my $load = load($seconds, @pids);
		$least = $load if !defined $least || $load < $least;
		last if $least < $limit;
	}
	return $least;
}

sub dispatcher
{
	return $observer->query("SELECT pid FROM evstore.workers WHERE kind = 'dispatcher'");
}

ok(poll(sub { dispatcher() ne '' }), 'the dispatcher runs');

# ---- commit, abort, savepoint ----

# With a lease so long that no claim is renewed, or runs out, meanwhile.
subscription('orders', '{"categories": ["order"]}', lease => 3600);
my $consumer = waiting_consumer('orders', 'c');
is( wakes($consumer, sub { $observer->query("SELECT evstore.append('order-1', 'x')") },
		'a commit wakes'),
	$observer->query('SELECT evstore._last_position()') . '|order-1',
	'with the event');
# not acknowledged: it would come again
$observer->query("SELECT evstore.seek('orders', 'end')");
waiting_consumer('orders', 'c', $consumer);
$observer->query("SELECT evstore.append('bill-1', 'x')");
ok(still_asleep($consumer), 'an event that the filter does not let through does not wake');

# One that the filter fails on is parked by who is woken, and not given.
subscription('picky', '{"sql": "n > 0", "categories": ["picky"]}', lease => 3600);
my $picky = waiting_consumer('picky', 'p');
$observer->query(q{SELECT evstore.append('picky-1', 'x', metadata => '{"n": 0}')});
ok(still_asleep($picky), 'nor does one that it says no to');
is(wakes($picky, sub { $observer->query(q{SELECT evstore.append('picky-1', 'x', metadata => '{"n": "?"}')}) },
		'an event that the filter fails on wakes'),
	'', 'and is not given');
is($observer->query(q{SELECT reason FROM evstore.parked_events WHERE subscription = 'picky'}),
	'filter_error', 'but parked');
$picky->close;

my $writer = session($node, 'store');
my $holder = session($node, 'store');
my $fast = session($node, 'store');
for my $end ('COMMIT', 'ROLLBACK')
{
	$holder->query("BEGIN; SELECT evstore.append('held-1', 'x')");
	$fast->query("SELECT evstore.append('order-2', 'x')");
	ok(still_asleep($consumer),
		"an open append holds back what was committed after it ($end)");
	like(wakes($consumer, sub { $holder->query($end) }, "its $end wakes"),
		qr/^\d+\|order-2$/, 'and what was held back is there');
	$observer->query("SELECT evstore.seek('orders', 'end')");
	waiting_consumer('orders', 'c', $consumer);
}

$holder->query("BEGIN; SELECT 1; SAVEPOINT s; SELECT evstore.append('held-1', 'x')");
$fast->query("SELECT evstore.append('order-2', 'x')");
ok(still_asleep($consumer), 'so does an append after a savepoint');
like(wakes($consumer, sub { $holder->query('ROLLBACK TO s') }, 'ROLLBACK TO wakes'),
	qr/^\d+\|order-2$/, 'and what was held back is there');
$holder->query('COMMIT');
$observer->query("SELECT evstore.seek('orders', 'end')");
waiting_consumer('orders', 'c', $consumer);

# An error in a subtransaction of PL/pgSQL, and the end of a session.
$holder->query("BEGIN; SELECT evstore.append('held-1', 'x')");
$fast->query("SELECT evstore.append('order-2', 'x')");
like(wakes($consumer, sub { $holder->close }, 'the end of a session in a transaction wakes'),
	qr/^\d+\|order-2$/, 'and what was held back is there');
$observer->query("SELECT evstore.seek('orders', 'end')");
waiting_consumer('orders', 'c', $consumer);

$holder = session($node, 'store');
$holder->query("BEGIN; SELECT evstore.append('held-1', 'x')");
$fast->query("SELECT evstore.append('order-2', 'x')");
like(
	wakes($consumer, sub { $observer->query("SELECT pg_terminate_backend($holder->{pid})") },
		'pg_terminate_backend() of the appender wakes'),
	qr/^\d+\|order-2$/,
	'and what was held back is there');
$observer->query("SELECT evstore.seek('orders', 'end')");
waiting_consumer('orders', 'c', $consumer);
$holder->close;

# ---- prepared transactions ----

$holder = session($node, 'store');
for my $end ('COMMIT', 'ROLLBACK')
{
	$holder->query("BEGIN; SELECT evstore.append('held-1', 'x')");
	$fast->query("SELECT evstore.append('order-2', 'x')");
	$holder->query("PREPARE TRANSACTION 'held'");
	ok(still_asleep($consumer), 'PREPARE TRANSACTION frees nothing');
	$fast->query("SELECT evstore.append('order-3', 'x')");
	is( $observer->query('SELECT gid FROM evstore.in_flight'),
		'held', 'in_flight names the one that is to blame');
	like(
		wakes($consumer, sub { $observer->query("$end PREPARED 'held'") },
			"$end PREPARED wakes"),
		qr/^\d+\|order-2\n\d+\|order-3$/,
		'and what was held back is there');
	$observer->query("SELECT evstore.seek('orders', 'end')");
	waiting_consumer('orders', 'c', $consumer);
}

# ---- idle in transaction ----

# Who polls takes a good part of a core.  What it really costs is for benchmarks,
# since on a busy machine the same work costs more.
my $busy = 0.05;
my $idle_load = load(5, dispatcher());
$holder->query("BEGIN; SELECT evstore.append('held-1', 'x')");
$fast->query("SELECT evstore.append('order-2', 'x')");
is( $observer->query('SELECT pid, gid IS NULL FROM evstore.in_flight'),
	"$holder->{pid}|t", 'in_flight shows who is idle in a transaction with an append');
my $load = least_load($busy, 5, dispatcher());
cmp_ok($load, '<', $busy, 'the dispatcher does not poll meanwhile');
note(sprintf 'it costs %.3f %% of a core, %.3f %% else', 100 * $load, 100 * $idle_load);
ok(still_asleep($consumer), 'and nobody is woken');
like(wakes($consumer, sub { $holder->query('COMMIT') }, 'until it ends'),
	qr/^\d+\|order-2$/, 'then what was held back is there');
$observer->query("SELECT evstore.seek('orders', 'end')");

# ---- how a wait ends otherwise ----

# Locks of a session that sleeps, but that on its own transaction id.
sub locks
{
	my ($session) = @_;

	return $observer->query(
		"SELECT locktype, mode, relation::regclass FROM pg_locks
		 WHERE pid = $session->{pid} AND locktype <> 'virtualxid'");
}

sub xmin_and_xid
{
	my ($session) = @_;

	return $observer->query(
		"SELECT backend_xmin IS NULL, backend_xid IS NULL FROM pg_stat_activity WHERE pid = $session->{pid}");
}

waiting_consumer('orders', 'c', $consumer);
is(locks($consumer), '', 'who waits in fetch() holds no lock');
like(xmin_and_xid($consumer), qr/\|t$/, 'and no transaction id');
like(wakes($consumer, sub { $consumer->cancel }, 'cancel ends the wait', 2),
	qr/^57014 /, 'with an error');
$consumer->query("SET statement_timeout = '300ms'");
like(
	wakes($consumer,
		sub { $consumer->send("SELECT evstore.fetch('orders', 'c', 10, 600000)") },
		'so does statement_timeout', 2.5),
	qr/^57014 .*statement timeout/,
	'with an error');
$consumer->query('RESET statement_timeout');
is(
	wakes($consumer,
		sub { $consumer->send("SELECT evstore.fetch('orders', 'c', 10, 500)") },
		'and the end of the time, ', 3),
	'',
	'with nothing');
waiting_consumer('orders', 'c', $consumer);
like(
	wakes($consumer, sub { $observer->query("SELECT pg_terminate_backend($consumer->{pid})") },
		'so does pg_terminate_backend()', 2),
	qr/^(57P01 |lost)/,
	'with an error');

# A table can be changed, and the log written, under those who wait.
$consumer = waiting_consumer('orders', 'c');
is($fast->try("SET lock_timeout = '3s'; BEGIN; LOCK TABLE evstore.event_log, evstore.subscription, evstore.slot_state; ROLLBACK"),
	'', 'tables can be locked while somebody waits');
$fast->query('RESET lock_timeout');
$consumer->cancel;
$consumer->result;

# ---- CALL wait_for_events ----

for my $level ('read committed', 'repeatable read', 'serializable')
{
	$consumer->query("SET default_transaction_isolation = '$level'");
	$consumer->send("CALL evstore.wait_for_events('orders', 600000)");
	ok(asleep($consumer), "$level: CALL wait_for_events() waits");
	is(xmin_and_xid($consumer), 't|t', "$level: without a snapshot");
	is(locks($consumer), '', "$level: without a lock");
	is(
		wakes($consumer, sub { $fast->query("SELECT evstore.append('order-2', 'x')") },
			"$level: it is woken by a commit"),
		'',
		"$level: and returns nothing");
	is($consumer->query("SELECT count(*) FROM evstore.fetch('orders', 'c')"), 1,
		"$level: fetch() has it then");
	is($consumer->try("CALL evstore.wait_for_events('orders', 600000)"), '',
		"$level: it returns at once while there is something");
	$observer->query("SELECT evstore.seek('orders', 'end')");
}
$consumer->query("RESET default_transaction_isolation");
$consumer->query("BEGIN");
$consumer->send("CALL evstore.wait_for_events('orders', 600000)");
ok(asleep($consumer), 'in a transaction block it waits, too');
is(
	wakes($consumer, sub { $fast->query("SELECT evstore.append('order-2', 'x')") },
		'and is woken'),
	'',
	'as elsewhere');
is($consumer->{status}, 'T', 'the transaction goes on');
$consumer->query('COMMIT');
is($consumer->try("DO \$\$ BEGIN CALL evstore.wait_for_events('orders', 600000); END \$\$"),
	'', 'it can be called in DO');
$observer->query("SELECT evstore.seek('orders', 'end')");
$consumer->send("DO \$\$ BEGIN FOR i IN 1 .. 3 LOOP CALL evstore.wait_for_events('orders', 600000); "
	  . "PERFORM evstore.ack('orders', slot, epoch, position) FROM evstore.fetch('orders', 'c', 1); COMMIT; END LOOP; END \$\$");
ok(asleep($consumer), 'a loop in DO');
is(xmin_and_xid($consumer), 't|t', 'sleeps without a snapshot');
$fast->query("SELECT evstore.append('order-2', 'x')") for 1 .. 3;
is($consumer->outcome(30), '', 'a loop in DO that waits, fetches and acknowledges');
is($consumer->try("CALL evstore.wait_for_events('orders', 200)"), '', 'the end of the time is no error');
is_error($consumer, "CALL evstore.wait_for_events('none', 200)", 'VS009', qr/does not exist/,
	'a subscription that there is not');
$consumer->send("CALL evstore.wait_for_events('orders', 600000)");
asleep($consumer);
like(wakes($consumer, sub { $consumer->cancel }, 'cancel ends it', 2), qr/^57014 /, 'with an error');

# ---- waiting for oneself ----

for my $wait ("SELECT evstore.fetch('orders', 'c', 10, 1000)", "CALL evstore.wait_for_events('orders', 1000)")
{
	$consumer->query("BEGIN; SAVEPOINT s; SELECT evstore.append('order-9', 'x')");
	is_error($consumer, $wait, '55000', qr/cannot wait for events in a transaction that has appended.*Commit first/s,
		'who has appended may not wait in the same transaction');
	$consumer->query('ROLLBACK TO s');
	is($consumer->try($wait =~ s/1000/10/r), '', 'but may after ROLLBACK TO');
	$consumer->query('ROLLBACK');
}
$consumer->query("BEGIN; SELECT evstore.append('order-9', 'x')");
is($consumer->try("SELECT count(*) FROM evstore.fetch('orders', 'c')"), 0, 'fetch() without waiting is allowed');
$consumer->query('ROLLBACK');

# ---- kicks ----

sub kicked
{
	my ($what, $name) = @_;
	my $result;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	waiting_consumer('orders', 'c', $consumer);
	$result = wakes($consumer, sub { $observer->query($what) }, "$name lets who waits look again");
	like($result, qr/^\d+\|order/, "$name: there is something");
	return;
}

$observer->query("SELECT evstore.seek('orders', 'end')");
kicked("SELECT evstore.seek('orders', 'beginning')", 'seek()');
$observer->query("SELECT evstore.seek('orders', 'end'); SELECT evstore.pause_subscription('orders')");
waiting_consumer('orders', 'c', $consumer);
$fast->query("SELECT evstore.append('order-2', 'x')");
ok(still_asleep($consumer), 'a paused subscription wakes nobody');
like(wakes($consumer, sub { $observer->query("SELECT evstore.resume_subscription('orders')") },
		'resume_subscription() lets who waits look again'), qr/order-2/, 'there is something');
$observer->query("SELECT evstore.seek('orders', 'end')");
$fast->query("SELECT evstore.append('bill-1', 'x')");
kicked(q(SELECT evstore.alter_subscription('orders', '{"categories": ["order", "bill"]}');
	SELECT evstore.seek('orders', 'beginning')), 'alter_subscription()');
$observer->query("SELECT evstore.seek('orders', 'end')");

# parked, then replayed
$observer->query("SELECT evstore.append('order-2', 'x')");
$consumer->query("SELECT evstore.nack('orders', slot, epoch, position, 'bad', 'park') FROM evstore.fetch('orders', 'c')");
is($observer->query("SELECT parked FROM evstore.subscriptions WHERE subscription = 'orders'"), 1, 'an event is parked');
kicked("SELECT evstore.replay_parked('orders')", 'replay_parked()');
$observer->query("SELECT evstore.seek('orders', 'end')");

# ---- one consumer goes, the other takes over ----

my @ends = (
	[ 'release()' => sub { $_[0]->query("SELECT evstore.release('orders', 'a')") } ],
	[ 'the end of its session' => sub { $_[0]->close } ],
	[ 'pg_terminate_backend()' => sub { $observer->query("SELECT pg_terminate_backend($_[0]{pid})") } ]);
for my $end (@ends)
{
	my ($how, $do) = @$end;
	my $first = session($node, 'store');
	$consumer->query("SELECT evstore.release('orders', 'c')");
	$observer->query("SELECT evstore.seek('orders', 'end')");
	$first->query("SELECT evstore.fetch('orders', 'a', 0); SELECT evstore.fetch('orders', 'a', 10)");
	$fast->query("SELECT evstore.append('order-3', 'x')");
	is($first->query("SELECT stream FROM evstore.fetch('orders', 'a', 10)"), 'order-3', 'the first has the slot');
	$consumer->query("SELECT evstore.fetch('orders', 'c', 10)");
	$consumer->send("SELECT position, stream FROM evstore.fetch('orders', 'c', 10, 600000)");
	ok(asleep($consumer), 'the second stands by');
	like(wakes($consumer, sub { $do->($first) }, "after $how of the first it takes over"),
		qr/order-3/, 'with its event');
}

# While the first is at work in a transaction past its lease, the second neither
# takes over nor spins.
subscription('short', '{"categories": ["short"]}', lease => 6);
my $first = session($node, 'store');
my $second = session($node, 'store');
$first->query("SELECT evstore.fetch('short', 'a', 1)") for 1 .. 2;
$second->query("SELECT evstore.fetch('short', 'b', 1)") for 1 .. 2;
$fast->query("SELECT evstore.append('short-1', 'x')");
$first->query("SELECT evstore.fetch('short', 'a', 1)");
my ($slot, $epoch, $position) = @{ $first->rows("SELECT slot, epoch, position FROM evstore.fetch('short', 'a', 1)")->[0] };
$first->query("BEGIN; SELECT evstore.extend('short', $slot, $epoch)");
ok(poll(sub { $observer->query("SELECT lease_until < clock_timestamp() FROM evstore.subscription_slots WHERE subscription = 'short'") eq 't' }),
	'a lease has run out while its holder is in a transaction');
$second->query("SELECT evstore.fetch('short', 'b', 1)");
$second->send("SELECT position, stream FROM evstore.fetch('short', 'b', 10, 600000)");
$load = load(1.5, $second->{pid});
cmp_ok($load, '<', 0.1, sprintf 'who stands by costs %.2f %% of a core', 100 * $load);
$first->query('ROLLBACK');
# it may have returned with nothing to say that it is still there
like(
	$second->outcome(30)
	  || $second->query("SELECT stream FROM evstore.fetch('short', 'b', 10, 5000)"),
	qr/short-1/, 'it takes over when the first has let go');
$_->close for $first, $second;

# ---- an idle server ----

$consumer->query('SELECT 1');
subscription("idle_$_", '{"types": ["never"]}', lease => 3600) for 1 .. 20;
my @idle = map { waiting_consumer("idle_$_", 'c') } 1 .. 20;
$fast->close;
my $postmaster = $node->safe_psql('postgres', 'SELECT pg_read_file($$postmaster.pid$$)') =~ s/\n.*//sr;
my @all = ($postmaster, EvsTest::children($postmaster));
cmp_ok(scalar @all, '>', 24, 'the processes of the server are known');
$load = least_load($busy, 6, @all);
cmp_ok($load, '<', $busy, 'nothing of an idle server with 20 waiting sessions polls');
note(sprintf 'it costs %.3f %% of a core', 100 * $load);
$_->close for @idle;

# ---- in a read-only transaction, and on a subscription that goes ----

$observer->query("SELECT evstore.seek('orders', 'end')");
waiting_consumer('orders', 'c', $consumer);
like(wakes($consumer, sub { $observer->query("SELECT evstore.drop_subscription('orders')") },
		'drop_subscription() ends the wait'), qr/^VS009 /, 'with an error');

# ---- a filter that the events of a big transaction pass or not ----

$consumer = waiting_consumer(subscription('late', '{"types": ["last"]}', lease => 3600), 'c');
is( wakes($consumer,
		sub {
			$writer->query(
				"BEGIN; SELECT evstore.append_arrays('big-1', array_fill('x'::text, ARRAY[20000]));
				 SELECT evstore.append('big-2', 'last'); COMMIT");
		}, 'the last of 20,001 events wakes', 10),
	$observer->query('SELECT evstore._last_position()') . '|big-2', 'which it is');

# ---- 200 subscriptions ----

subscription("s$_", "{\"categories\": [\"many\"], \"types\": [\"t$_\"]}") for 1 .. 200;
my %waiting = map { $_ => waiting_consumer("s$_", 'c') } 1, 17, 33, 100, 199, 200;
for my $i (sort { $a <=> $b } keys %waiting)
{
	is(wakes($waiting{$i}, sub { $writer->query("SELECT evstore.append('many-$i', 't$i')") },
			"one of 200 subscriptions is woken"),
		$observer->query('SELECT evstore._last_position()') . "|many-$i", 'with its event');
}
$_->close for values %waiting;

done_testing();
