# The launcher and its dispatchers: one a database with evstore, never in the way
# of anybody who wants the database for itself, back when something ends them.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my $node = new_node('workers',
	conf => "shared_preload_libraries = 'evstore'\nmax_worker_processes = 16\n"
	  . "restart_after_crash = on\n");
my $log_from = 0;
my ($took, $result);

# How long a part took, in seconds.
sub seconds
{
	my ($what) = @_;
	my $began = Time::HiRes::time();

	$what->();
	return Time::HiRes::time() - $began;
}

# Processes of evstore, as seen from outside: [kind, pid, database].
sub processes
{
	return @{ $_[0]->rows(
			"SELECT backend_type, pid, datname FROM pg_stat_activity
			 WHERE backend_type LIKE 'evstore %' ORDER BY 1, 3") };
}

sub dispatchers
{
	my ($session) = @_;

	return join ' ', map { $_->[2] // '?' } grep { $_->[0] eq 'evstore dispatcher' }
	  processes($session);
}

sub dispatcher_pid
{
	my ($session, $dbname) = @_;

	return $session->query(
		"SELECT pid FROM pg_stat_activity
		 WHERE backend_type = 'evstore dispatcher' AND datname = '$dbname'");
}

sub state
{
	my ($dbname, $columns) = @_;

	return $node->safe_psql($dbname,
		'SELECT ' . ($columns // 'state') . " FROM evstore.workers WHERE kind = 'dispatcher'");
}

sub becomes
{
	my ($expected, $got, $name) = @_;
	my $last;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll(sub { ($last = $got->()) eq $expected });
	return is($last, $expected, $name);
}

# Lines of the log since the last call that nobody wants to see.  A process that is on
# its way into a database while that is dropped says what any session would.
sub log_is_quiet
{
	my ($name, $except) = @_;
	my $log = slurp_file($node->logfile, $log_from);
	my @lines = grep { /\b(WARNING|ERROR|FATAL|PANIC):|exited with exit code/ } split /\n/, $log;
	my %late = map { /\[(\d+)\] FATAL:  database \S+ does not exist/ ? ($1 => 1) : () } @lines;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$log_from += length $log;
	@lines = grep { !(/\[(\d+)\] FATAL:  database/ && $late{$1} || /\(PID (\d+)\) exited/ && $late{$1}) } @lines;
	@lines = grep { $_ !~ $except } @lines if $except;
	return is(join("\n", @lines), '', $name);
}

my $observer = session($node, 'postgres');

# ---- one a database that has the extension ----

is(join(' ', map { $_->[0] } processes($observer)), 'evstore launcher',
	'a launcher runs, and nothing else while nobody has evstore');
$node->safe_psql('postgres', 'CREATE DATABASE plain');
new_store($node, $_) for 'one', 'two', 'three';
becomes('one three two', sub { dispatchers($observer) },
	'CREATE EXTENSION starts a dispatcher, in each database one');
becomes('running', sub { state('one') }, 'it says that it runs');
is( state('two', 'pid IS NOT NULL, started_at <= clock_timestamp(), failures, last_error IS NULL, retry_at IS NULL'),
	't|t|0|t|t',
	'the view tells of it');
is( $node->safe_psql('two', 'SELECT kind, state, pid FROM evstore.workers ORDER BY kind DESC'),
	"launcher|running|" . (processes($observer))[3][1] . "\n"
	  . "dispatcher|running|" . dispatcher_pid($observer, 'two'),
	'and names the processes');
is( $node->safe_psql('plain', 'SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()'),
	1,
	'nothing stays in a database without evstore');

# A transaction that takes it back starts nothing.
my $session = session($node, 'plain');
$session->query('BEGIN; CREATE EXTENSION evstore');
is_error($session, 'SELECT evstore.start()', 'VS011', qr/not there yet.*Commit CREATE EXTENSION/s,
	'start() in the transaction of CREATE EXTENSION says why it cannot');
$session->query('ROLLBACK');
$session->query('CREATE EXTENSION evstore');
becomes('one plain three two', sub { dispatchers($observer) },
	'CREATE EXTENSION in a database that was looked at before');
log_is_quiet('all of that is no news for the log', qr/evstore's dispatcher could not be started/);

# ---- DROP EXTENSION, and again ----

for my $round (1 .. 4)
{
	$session->query("SELECT evstore.append('a-' || i, 'x') FROM generate_series(1, 5) i");
	$session->query('DROP EXTENSION evstore CASCADE');
	becomes('one three two', sub { dispatchers($observer) }, "DROP EXTENSION ends it, round $round");
	$session->query('CREATE EXTENSION evstore');
	becomes('one plain three two', sub { dispatchers($observer) }, "CREATE starts it, round $round");
	becomes('running|0', sub { state('plain', 'state, failures') }, "and it runs, round $round");
}
$session->query(
	"SELECT evstore.create_subscription('s');
	 SELECT evstore.fetch('s', 'c');
	 SELECT evstore.append('a-1', 'x')");
is($session->query("SELECT position FROM evstore.fetch('s', 'c', 10, 10000)"), 1,
	'the new store works, with positions that begin anew');

# In one transaction: nothing is there in between for the dispatcher to see.
$session->query('BEGIN; DROP EXTENSION evstore CASCADE; CREATE EXTENSION evstore; COMMIT');
$session->query(
	"SELECT evstore.create_subscription('s');
	 SELECT evstore.fetch('s', 'c');
	 SELECT evstore.append('a-1', 'x')");
is($session->query("SELECT count(*) FROM evstore.fetch('s', 'c', 10, 10000)"), 1,
	'DROP and CREATE in one transaction');
becomes('running', sub { state('plain') }, 'the dispatcher serves the new store');
$session->query("SELECT evstore.drop_subscription('s')");

# While somebody waits for events, and the dispatcher is busy looking for them.
my $waiting = session($node, 'plain');
for my $round (1 .. 8)
{
	$session->query(q(SELECT evstore.create_subscription('s', '{"types": ["never"]}')));
	$waiting->query("SELECT evstore.fetch('s', 'c')");
	$waiting->send("SELECT evstore.fetch('s', 'c', 10, 600000)");
	ok($waiting->waits($observer, 'Extension'), "somebody waits, round $round");
	$session->query("SELECT evstore.append_arrays('b-1', array_fill('x'::text, ARRAY[3000]))");
	$took = seconds(sub { $result = $session->try('DROP EXTENSION evstore CASCADE') });
	is(ref $result ? $result->{M} : '', '', "DROP EXTENSION then, round $round: $took s");
	$result = $waiting->outcome(30);
	# a deadlock, if it was looking just then
	like(ref $result ? $result->{C} : 'no error', qr/^(42704|40P01|VS009)$/, "who waits is told, round $round");
	$session->query('CREATE EXTENSION evstore');
}
$waiting->close;
becomes('running', sub { state('plain') }, 'the dispatcher runs after that');
log_is_quiet('DROP EXTENSION is no news for the log', qr/evstore test/);
$session->close;

# ---- who wants the database for itself ----

my $slow = 4.5;    # CountOtherDBBackends() waits for 5 s

$took = seconds(sub { $result = $observer->try('ALTER DATABASE plain RENAME TO renamed') });
is($result, '', 'ALTER DATABASE RENAME');
cmp_ok($took, '<', $slow, "it does not wait for long: $took s");
becomes('one renamed three two', sub { dispatchers($observer) }, 'the dispatcher comes back');

$took = seconds(sub { $result = $observer->try('CREATE DATABASE copied TEMPLATE one') });
is($result, '', 'CREATE DATABASE with a store as its template');
cmp_ok($took, '<', $slow, "it does not wait for long: $took s");
becomes('running', sub { state('one') }, 'the dispatcher comes back');

$took = seconds(sub { $result = $observer->try('DROP DATABASE renamed') });
is($result, '', 'DROP DATABASE');
cmp_ok($took, '<', $slow, "it does not wait for long: $took s");

$took = seconds(sub { $result = $observer->try('DROP DATABASE two WITH (FORCE)') });
is($result, '', 'DROP DATABASE WITH (FORCE)');
cmp_ok($took, '<', $slow, "it does not wait for long: $took s");

$took = seconds(sub { $result = $observer->try('ALTER DATABASE three SET TABLESPACE pg_default') });
is($result, '', 'ALTER DATABASE SET TABLESPACE');

# All at once, with sessions that wait for events there.
new_store($node, "many_$_") for 1 .. 4;
becomes('many_1 many_2 many_3 many_4',
	sub { join ' ', grep { /many/ } split / /, dispatchers($observer) }, 'four more');
my @droppers = map { session($node, 'postgres') } 1 .. 4;
$droppers[ $_ - 1 ]->send("DROP DATABASE many_$_") for 1 .. 4;
is(ref $_->outcome(60), '', 'DROP DATABASE of several at the same time') for @droppers;
$_->close for @droppers;
becomes('copied one three', sub { $node->reload; dispatchers($observer) },
	'dispatchers are where databases are');
log_is_quiet('none of that is news for the log');

# Somebody holds a database for long: others are not held up.
new_store($node, 'held');
becomes('running', sub { state('held') }, 'a dispatcher in a database');
my $holder = session($node, 'postgres');
$holder->query('BEGIN');
poll(
	sub {
		my $error = $holder->try('SAVEPOINT s; ALTER DATABASE held RENAME TO moved');
		return 1 unless ref $error;
		$holder->query('ROLLBACK TO s');
		return 0;
	});
new_store($node, 'other');
becomes('running', sub { state('other') }, 'a dispatcher starts while another database is held');
is((grep { !$_->[2] && $_->[0] eq 'evstore dispatcher' } processes($observer)),
	0, 'none hangs where nobody can connect');
$holder->query('ROLLBACK');
becomes('running', sub { state('held') }, 'it comes back when the database is free');
$holder->close;
log_is_quiet('and the log is quiet', qr/being accessed by other users/);

# ---- templates, and databases that take no sessions ----

$observer->query($_)
  for "ALTER DATABASE copied IS_TEMPLATE true", "ALTER DATABASE other ALLOW_CONNECTIONS false";
becomes('held one three', sub { $node->reload; dispatchers($observer) },
	'a template and a database without connections are left alone');
is(state('copied'), 'excluded', 'the view says so');
$result = $observer->try('CREATE DATABASE from_template TEMPLATE copied');
is($result, '', 'a template can be copied');
$observer->query($_)
  for "ALTER DATABASE copied IS_TEMPLATE false", "ALTER DATABASE other ALLOW_CONNECTIONS true",
  'DROP DATABASE from_template', 'DROP DATABASE copied';
becomes('held one other three', sub { $node->reload; dispatchers($observer) },
	'and looked at again when they are as others');

# ---- evstore.databases ----

sub set_databases
{
	$observer->query("ALTER SYSTEM SET evstore.databases = $_[0]");
	$node->reload;
	return;
}

set_databases(q('one, "no such"'));
becomes('one', sub { dispatchers($observer) }, 'evstore.databases: one by its name');
is(state('three'), 'excluded', 'the view says why another has none');
is( (map { $_->{C} . ' ' . $_->{M} } session($node, 'three')->try('SELECT evstore.start()'))[0],
	q(VS011 evstore's dispatcher could not be started: evstore.databases does not name this database),
	'so does start()');
set_databases("''");
becomes('', sub { dispatchers($observer) }, 'nowhere');
set_databases("'three,other'");
becomes('other three', sub { dispatchers($observer) }, 'two of them');
$node->safe_psql('three', 'SELECT evstore.stop()');
set_databases("one");
becomes('one', sub { dispatchers($observer) }, 'another one');
set_databases("'*'");
becomes('held one other', sub { dispatchers($observer) },
	'*: all but the one that stop() has stopped');
is(state('three'), 'stopped', 'which says so');
is( ref $observer->try(q(ALTER SYSTEM SET evstore.databases = '"unfinished')), 'HASH',
	'a list that is none is refused');

# ---- stop() and start() ----

is(state('three', 'state, pid IS NULL, failures'), 'stopped|t|0', 'stopped');
$node->safe_psql('three', 'SELECT evstore.stop()');
is(state('three'), 'stopped', 'stop() of a stopped one');
$node->reload;
$node->safe_psql('three', 'SELECT evstore.start()');
is(state('three'), 'running', 'start() returns when it runs');
my $pid = dispatcher_pid($observer, 'three');
$node->safe_psql('three', 'SELECT evstore.start()');
is(dispatcher_pid($observer, 'three'), $pid, 'start() of a running one does nothing');
$node->safe_psql('three', 'SELECT evstore.stop()');
is(dispatcher_pid($observer, 'three'), '', 'stop() returns when it has gone');
my $left = '';
my $stopper = session($node, 'three');
for (1 .. 50)
{
	$stopper->query("SELECT evstore.$_()") for 'start', 'stop';
	$left .= dispatcher_pid($stopper, 'three');
}
is($left, '', 'each time');
$stopper->close;
my @starters = map { session($node, 'three')->send('SELECT evstore.start()') } 1 .. 8;
is(ref $_->outcome(30), '', 'start() by many at the same time') for @starters;
is(scalar(split /\n/, dispatcher_pid($observer, 'three')), 1, 'starts one process');
$_->close for @starters;

# ---- rights ----

$observer->query("CREATE ROLE $_ LOGIN") for 'nobody_', 'reader_', 'admin_';
$node->safe_psql('three',
	"SELECT evstore.grant_access('reader_', 'reader'); SELECT evstore.grant_access('admin_', 'admin')");
for my $role ('nobody_', 'reader_')
{
	my $session = session($node, 'three', user => $role);
	is_error($session, "SELECT evstore.$_()", '42501', qr/permission denied/,
		"$role may not call $_()")
	  for 'start', 'stop';
}
my $admin = session($node, 'three', user => 'admin_');
is($admin->try('SELECT evstore.stop()'), '', 'an admin may stop()');
is($admin->try('SELECT evstore.start()'), '', 'and start()');
is($admin->query("SELECT state FROM evstore.workers WHERE kind = 'dispatcher'"), 'running',
	'and look');
$admin->close;

# ---- terminated ----

log_is_quiet('the log is quiet', qr/evstore test ERROR|040_workers.pl ERROR/);
$pid = dispatcher_pid($observer, 'three');
my $watcher = session($node, 'three');
$observer->query("SELECT pg_terminate_backend($pid)");
my %seen;
becomes(
	'running',
	sub {
		my $row = $watcher->rows(
			q(SELECT state, failures, last_error, retry_at > last_error_at, pid
			  FROM evstore.workers WHERE kind = 'dispatcher'))->[0];
		$seen{ $row->[0] } = $row;
		return ($row->[4] // $pid) eq $pid ? 'the old one' : $row->[0];
	},
	'a dispatcher that was terminated comes back');
is(join('|', map { $_ // '' } @{ $seen{'backing off'} // [] }),
	'backing off|1|the process was terminated|t|', 'after a pause, of which the view tells');
isnt(dispatcher_pid($observer, 'three'), $pid, 'as another process');
is($watcher->query("SELECT failures, last_error FROM evstore.workers WHERE kind = 'dispatcher'"),
	'0|the process was terminated', 'the last error stays, the count does not');

my $launcher = (grep { $_->[0] eq 'evstore launcher' } processes($observer))[0][1];
$observer->query("SELECT pg_terminate_backend($launcher)");
ok( poll(
		sub {
			my @now = grep { $_->[0] eq 'evstore launcher' } processes($observer);
			return @now == 1 && $now[0][1] != $launcher;
		}),
	'a launcher that was terminated comes back');
becomes('running', sub {
		$watcher->query("SELECT state FROM evstore.workers WHERE kind = 'launcher'") },
	'and says so');
is(dispatcher_pid($observer, 'three') ne '', 1, 'dispatchers did not mind');
new_store($node, 'later');
becomes('held later one other three', sub { dispatchers($observer) }, 'it does its work');
$watcher->close;

# ---- a start that comes late ----

{
	$node->safe_psql('later', 'SELECT evstore.stop()');
	my $starter = session($node, 'later');
	$watcher = session($node, 'later');
	my $postmaster = slurp_file($node->data_dir . '/postmaster.pid') =~ s/\n.*//sr;
	my $generations = "SELECT state, pid IS NULL FROM evstore.workers WHERE kind = 'dispatcher'";
	# Nothing is forked while the postmaster stands still: the start is given up
	# (in a build for tests after 5 s), and another one is made.
	kill 'STOP', $postmaster;
	$starter->send('SELECT evstore.start()');
	EvsTest::error_is($starter->outcome(60), 'VS011', qr/could not be started: starting/,
		'start() does not wait forever');
	kill 'CONT', $postmaster;
	becomes('running|f', sub { $watcher->query($generations) }, 'then a dispatcher runs');
	becomes(1, sub { scalar(split /\n/, dispatcher_pid($observer, 'later')) },
		'a single one: the one that came late found that it was');
	is($watcher->query("SELECT pid FROM evstore.workers WHERE kind = 'dispatcher'"),
		dispatcher_pid($observer, 'later'), 'which is the one that the view tells of');
	$_->close for $starter, $watcher;
}

# ---- shutdown ----

sub busy_sessions
{
	my @sessions;
	for my $i (1 .. 6)
	{
		my $waiting = session($node, 'one');
		$waiting->query("SELECT evstore.fetch('shutdown', 'c$i')") for 1 .. 2;
		push @sessions, $waiting->send("SELECT evstore.fetch('shutdown', 'c$i', 10, 600000)");
		push @sessions, session($node, 'one')->send("CALL evstore.wait_for_events('shutdown', 600000)");
		my $listener = session($node, 'one');
		$listener->query('LISTEN evstore; LISTEN evstore_sub_shutdown');
		push @sessions, $listener;
	}
	ok( poll(
			sub {
				$node->safe_psql('one',
					"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Extension'
					 AND backend_type = 'client backend'") == 12;
			}),
		'twelve sessions wait');
	return @sessions;
}

$observer->close;
$node->safe_psql('one', "SELECT evstore.create_subscription('shutdown', slots => 3, options => '{\"notify\": true}')");
crash_on_purpose($node);
for my $mode ('fast', 'immediate')
{
	my @sessions = busy_sessions();
	$took = seconds(sub { $node->stop($mode) });
	cmp_ok($took, '<', 10, "$mode shutdown, with all that: $took s");
	$took = seconds(sub { $node->start });
	cmp_ok($took, '<', 20, "and start: $took s");
	$observer = session($node, 'postgres');
	becomes('held later one other three', sub { dispatchers($observer) },
		"dispatchers run again after $mode shutdown, also those that stop() had stopped");
	$observer->close;
}

# One session is killed: the server goes through recovery by itself.
$session = session($node, 'one');
kill 'KILL', $session->{pid};
ok(poll(sub { $node->psql('one', 'SELECT 1') == 0 }), 'the server is there again after a crash');
$observer = session($node, 'postgres');
becomes('held later one other three', sub { dispatchers($observer) }, 'and all dispatchers');
$observer->close;

# ---- no process is free ----

$node->append_conf('postgresql.conf',
	"max_worker_processes = 3\nmax_logical_replication_workers = 0\nevstore.databases = 'one, held'\n");
$node->safe_psql('postgres', 'ALTER SYSTEM RESET evstore.databases');
$node->restart;
$observer = session($node, 'postgres');
becomes('held one', sub { dispatchers($observer) }, 'as many dispatchers as there are processes');
$log_from = -s $node->logfile;
# not more databases than processes later, or it would be by chance who gets them
$observer->query("ALTER SYSTEM SET evstore.databases = 'one, held, three'");
$node->reload;
$session = session($node, 'three');
is_error($session, 'SELECT evstore.start()', 'VS011',
	qr/no background worker process is free.*Raise max_worker_processes; it will be tried again/s,
	'start() when there is no process left');
is( $session->query(
		"SELECT state, failures > 0, last_error, retry_at IS NOT NULL FROM evstore.workers
		 WHERE kind = 'dispatcher'"),
	'backing off|t|no background worker process is free: raise max_worker_processes|t',
	'the view says why it does not run');
like(slurp_file($node->logfile, $log_from),
	qr/LOG: +evstore's dispatcher of database \d+ could not be started/, 'so does the log');
is($session->query("SELECT version FROM evstore.append('a-1', 'x')"), 0, 'appends do not mind');
$session->query("SELECT evstore.create_subscription('s'); SELECT evstore.fetch('s', 'c', 0)");
is($session->query("SELECT position FROM evstore.fetch('s', 'c', 10, 20000)"), 1,
	'nor do who wait: they look for themselves');
$node->safe_psql('held', 'SELECT evstore.stop()');
$node->safe_psql('one', 'SELECT evstore.stop()');
becomes('running',
	sub { $session->query("SELECT state FROM evstore.workers WHERE kind = 'dispatcher'") },
	'it runs when a process is free');
is($session->query("SELECT failures FROM evstore.workers WHERE kind = 'dispatcher'"), 0,
	'and has no failures any more');
$_->close for $session, $observer;

done_testing();
