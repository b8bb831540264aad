# Copies of a store stay quiet until somebody says that they are to act, and a
# standby has no dispatcher until it is promoted.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my $conf = "shared_preload_libraries = 'evstore'\nmax_worker_processes = 16\n";
my $node = new_node('primary', conf => $conf, init => { allows_streaming => 1 });
new_store($node, 'store');
my $store = session($node, 'store');
$store->query(q(SELECT evstore.create_subscription('s', options => '{"notify": true, "lease": 3600}');
	SELECT evstore.append('a-' || i % 3, 'x') FROM generate_series(1, 30) i));

sub dispatcher
{
	my ($session) = @_;

	return $session->query("SELECT state FROM evstore.workers WHERE kind = 'dispatcher'");
}

sub becomes
{
	my ($expected, $got, $name) = @_;
	my $last;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll(sub { ($last = $got->()) eq $expected });
	return is($last, $expected, $name);
}

sub hears
{
	my ($session, $seconds) = @_;
	my ($type, $body) = eval { $session->read_message(Time::HiRes::time() + $seconds) };

	return defined $type && $type eq 'A' ? join ' ', unpack 'x4 Z* Z*', $body : '';
}

becomes('running', sub { dispatcher($store) }, 'the store has a dispatcher');

# ---- copies ----

# Restored into a database of the same cluster, where the dispatcher looks on.
my $dump = "$PostgreSQL::Test::Utils::tmp_check/store.sql";
$node->command_ok([ 'pg_dump', '--no-sync', '-d', $node->connstr('store'), '-f', $dump ], 'pg_dump');
$node->safe_psql('postgres', "CREATE DATABASE $_") for 'restored', 'restored_at_once';
$node->command_ok(
	[ 'psql', '-Xqv', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $dump ],
	'psql: statement by statement, with the dispatcher there');
$node->command_ok(
	[ 'psql', '-Xq1v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored_at_once'), '-f', $dump ],
	'and in one transaction');
is($store->query('SELECT count(*) FROM evstore.events'), 30, 'the store is as it was');
my $error = session($node, 'postgres')->try('CREATE DATABASE cloned TEMPLATE store');
is(ref $error ? $error->{C} : '', '55006', 'a template is copied only while nobody is connected');
$store->close;
is(session($node, 'postgres')->try('CREATE DATABASE cloned TEMPLATE store'), '', 'CREATE DATABASE ... TEMPLATE');
$node->reload;

for my $copy ('restored', 'restored_at_once', 'cloned')
{
	my $session = session($node, $copy);
	my $listener = session($node, $copy);

	$listener->query('LISTEN evstore');
	$listener->query('LISTEN evstore_sub_s');
	becomes('not adopted', sub { $node->reload; dispatcher($session) }, "$copy: stays quiet, and says so");
	is_error($session, 'SELECT evstore.start()', '55000', qr/is a copy and stays quiet.*adopt\(\)/s,
		"$copy: start() says what to do");
	is($session->query('SELECT count(*) FROM evstore.events'), 30, "$copy: has the events");
	is($session->query("SELECT version FROM evstore.append('b-1', 'x')"), 0, "$copy: can be appended to");
	is(hears($listener, 1), '', "$copy: tells nobody");
	$session->query("SELECT evstore.fetch('s', 'c', 1)") for 1 .. 2;
	$session->query("SELECT evstore.seek('s', 'end'); SELECT evstore.fetch('s', 'c', 0)");
	$session->query("SELECT evstore.fetch('s', 'c', 1)");
	$session->send("SELECT stream FROM evstore.fetch('s', 'c', 10, 60000)");
	my $other = session($node, $copy);
	$other->query("SELECT evstore.append('b-1', 'x')");
	is($session->outcome(20), 'b-1', "$copy: who asks for events gets them");
	is($other->query("SELECT count(*) FROM pg_stat_activity WHERE datname = '$copy' AND backend_type LIKE 'evstore %'"),
		0, "$copy: no process of evstore is there");

	$other->query('BEGIN; SELECT evstore.adopt(); ROLLBACK');
	is_error($other, 'SELECT evstore.start()', '55000', qr/is a copy/, "$copy: adopt() that is rolled back is none");
	$other->query('SELECT evstore.adopt()');
	becomes('running', sub { dispatcher($other) }, "$copy: after adopt() it acts");
	my $position = $other->query("SELECT position FROM evstore.append('b-1', 'x')");
	ok(poll(sub { (hears($listener, 5) =~ /(\d+)$/ ? $1 : 0) >= $position }, 20), "$copy: and tells");
	is($other->try('SELECT evstore.stop()'), '', "$copy: stop()");
	is($other->try('SELECT evstore.start()'), '', "$copy: start()");
	$_->close for $session, $other, $listener;
}

# One that was never written to is a copy of nothing.
new_store($node, 'empty');
is(session($node, 'postgres')->try('CREATE DATABASE empty_copy TEMPLATE empty'), '', 'a copy of an empty store');
$node->reload;
my $session = session($node, 'empty_copy');
becomes('running', sub { $node->reload; dispatcher($session) }, 'acts');
$session->query("SELECT evstore.append('a-1', 'x')");
ok(!poll(sub { dispatcher($session) ne 'running' }, 2), 'and goes on when it is used');
$session->close;

# ---- the safe position, recorded ----

$store = session($node, 'store');
becomes('running', sub { dispatcher($store) }, 'the dispatcher is back');
my $observer = session($node, 'store');

# Differs after each time that it is written.
sub record
{
	return $store->query(
		"SELECT md5(string_agg(t::text || t.ctid || t.xmin, ' ' ORDER BY t.ctid)) FROM evstore.safe_point t");
}

# While events come, about once a second.
my %records;
my $began = Time::HiRes::time();
while (Time::HiRes::time() < $began + 5)
{
	$store->query("SELECT evstore.append('a-1', 'x')");
	$records{ record() } = 1;
}
cmp_ok(scalar keys %records, '<=', 8, 'while events come, it is written about once a second');
cmp_ok(scalar keys %records, '>=', 3, 'and not less often') or diag(scalar keys %records);
my $last = $store->query('SELECT evstore._last_position()');

# Then not any more.
my $record = '';
ok( poll(
		sub {
			my $before = $record;
			$record = record();
			return 0 unless $record eq $before;
			return !poll(sub { record() ne $record }, 1);
		}),
	'once no more come, it stays as it is');
ok(!poll(sub { record() ne $record }, 3), 'for seconds');

# ---- a standby ----

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$store->query("SELECT evstore.append('standby-1', 'x')");
$last = $store->query('SELECT evstore._last_position()');
my $on = session($standby, 'store');
ok( poll(sub { $on->query('SELECT evstore.safe_position()') == $last }),
	'a standby may read as far as the dispatcher has recorded, by itself');
is($on->query("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'evstore %'"), 0,
	'no process of evstore runs on a standby');
is($on->query('SELECT kind, state FROM evstore.workers ORDER BY 1'), "dispatcher|not started\nlauncher|not started",
	'the view says so');
is_error($on, 'SELECT evstore.start()', '25006', qr/during recovery/, 'start() is an error there');
is_error($on, "SELECT evstore.fetch('s', 'c')", '25006', qr/read-only|recovery/, 'so is fetch()');

# Held back by an append, it waits for its end.
my $holder = session($node, 'store');
$holder->query("BEGIN; SELECT evstore.append('held-1', 'x')");
$store->query("SELECT evstore.append('standby-1', 'x')");
is($on->query('SELECT evstore.safe_position()'), $last, 'an append in flight holds it back');
$holder->query('COMMIT');
$last = $store->query('SELECT evstore._last_position()');
ok(poll(sub { $on->query('SELECT evstore.safe_position()') == $last }), 'until it has ended');

# In a database where transactions are read-only by default, too.
$node->safe_psql('postgres', "ALTER DATABASE store SET default_transaction_read_only = on");
$node->safe_psql('postgres', "ALTER DATABASE store SET default_transaction_isolation = serializable");
$holder->query('SELECT evstore.stop()');
$holder->query('SELECT evstore.start()');
$holder->query("SELECT evstore.append('standby-1', 'x')");
$last = $holder->query('SELECT evstore._last_position()');
ok(poll(sub { $on->query('SELECT evstore.safe_position()') == $last }),
	'the dispatcher records it though transactions are read-only by default');
is($holder->query("SELECT failures FROM evstore.workers WHERE kind = 'dispatcher'"), 0, 'without failing');
$node->safe_psql('postgres', "ALTER DATABASE store RESET ALL");

# ---- promotion ----

$_->close for $store, $holder, $observer;
$node->stop('fast');
$standby->promote;
becomes('running', sub { dispatcher($on) }, 'after the promotion the dispatcher starts');
my $listener = session($standby, 'store');
$listener->query('LISTEN evstore');
my $position = $on->query("SELECT position FROM evstore.append('a-1', 'x')");
ok(poll(sub { (hears($listener, 5) =~ /(\d+)$/ ? $1 : 0) >= $position }, 20), 'and tells listeners');
becomes(
	'cloned empty empty_copy restored restored_at_once store',
	sub {
		$on->query("SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_stat_activity WHERE backend_type = 'evstore dispatcher'");
	},
	'in all databases that had one');
$_->close for $on, $listener;

# ---- while pg_upgrade is at work ----

$standby->stop;
PostgreSQL::Test::Utils::system_or_bail('pg_ctl', '-w', '-D', $standby->data_dir, '-l',
	$standby->logfile, '-o', "-b --cluster-name=standby", 'start');
$standby->_update_pid(1);
is( $standby->safe_psql('store',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'evstore %'"),
	0, 'nothing starts by itself in the mode of pg_upgrade');
$standby->stop;

done_testing();
