# An append in a prepared transaction outlives the server, and holds the safe
# position back until somebody decides about it.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use Test::More;

my $node = new_node('prepared', conf => "max_prepared_transactions = 10\n");
crash_on_purpose($node);

sub restart_immediately
{
	$node->stop('immediate');
	$node->start;
	return;
}

sub in_flight
{
	return $node->safe_psql($_[0],
		'SELECT gid, pid IS NULL, floor FROM evstore.in_flight ORDER BY gid');
}

sub safe_position
{
	return $node->safe_psql($_[0], 'SELECT evstore.safe_position()');
}

sub follower_sees
{
	return $node->safe_psql($_[0],
		'SELECT position, stream, version FROM evstore.read_all()');
}

# ---- an append to a stream that exists ----

my $id = '11111111-1111-4111-8111-111111111111';
my $append = "SELECT * FROM evstore.append('a-1', 'held', '{\"n\": 1}', event_id => '$id')";
new_store($node, 'existing', 10);
$node->safe_psql('existing', "SELECT evstore.append('a-1', 'first')");
$node->safe_psql('existing', "BEGIN; $append; PREPARE TRANSACTION 'held 1'");
$node->safe_psql('existing', "SELECT evstore.append('b-1', 'after')");

is(in_flight('existing'), 'held 1|t|1', 'a prepared append is in flight, by its gid');
is(safe_position('existing'), 1, 'the safe position stays at its floor');
is(follower_sees('existing'), '1|a-1|0', 'a follower sees nothing above');

for my $round (1 .. 2)
{
	restart_immediately();
	is(in_flight('existing'), 'held 1|t|1',
		"still in flight after immediate restart $round");
	is(safe_position('existing'), 1,
		"the safe position is still the floor after restart $round");
	is(follower_sees('existing'), '1|a-1|0',
		"a follower still sees nothing above after restart $round");
	is( $node->safe_psql('existing',
			"SELECT version FROM evstore.append('b-1', 'later')"),
		$round,
		"others can append after restart $round");
}

my $retry = session($node, 'existing');
my $observer = session($node, 'existing');
is_error($retry, "SET lock_timeout = 100; $append", '55P03', qr/lock timeout/,
	'a retry of the prepared append waits until lock_timeout');
is_error($retry, "SET lock_timeout = 0; SET statement_timeout = 100; $append",
	'57014', qr/statement timeout/, 'or until statement_timeout');
$retry->query('RESET statement_timeout');
is(in_flight('existing'), 'held 1|t|1', 'a retry in vain leaves nothing behind');

$retry->send($append);
ok($retry->waits($observer), 'a retry without a timeout waits');
$observer->query("COMMIT PREPARED 'held 1'");
is($retry->outcome, '1|2', 'COMMIT PREPARED frees it, with the first result');
is(in_flight('existing'), '', 'nothing is in flight any more');
is($observer->query('SELECT evstore.safe_position() = evstore._last_position()'),
	't', 'the safe position is the last one');
is( $observer->query(
		"SELECT version, event_id FROM evstore.read_stream('a-1', 1)"),
	"1|$id",
	'the event is there once');

# ---- ROLLBACK PREPARED, across a restart ----

my $second = '22222222-2222-4222-8222-222222222222';
$append = "SELECT version FROM evstore.append('a-1', 'held', event_id => '$second')";
$_->close for $retry, $observer;
$node->safe_psql('existing', "BEGIN; $append; PREPARE TRANSACTION 'held 2'");
restart_immediately();
$observer = session($node, 'existing');
my $floor = $observer->query('SELECT evstore.safe_position()');
$retry = session($node, 'existing')->send($append);
ok($retry->waits($observer), 'a retry waits');
is(in_flight('existing'), "held 2|t|$floor",
	'who waits for a prepared append has not drawn positions');
$observer->query("ROLLBACK PREPARED 'held 2'");
is($retry->outcome, 2, 'ROLLBACK PREPARED frees it: the version is used anew');
is( $observer->query(
		"SELECT count(*) FROM evstore.events WHERE event_id = '$second'"),
	1,
	'the event is there once');
is($observer->query('SELECT evstore.safe_position() = evstore._last_position()'),
	't', 'the safe position is the last one');

# ---- two prepared appends: the lower floor counts ----

$node->safe_psql('existing',
	"BEGIN; SELECT evstore.append('c-1', 'x'); PREPARE TRANSACTION 'low'");
$node->safe_psql('existing',
	"BEGIN; SELECT evstore.append('c-2', 'x'); PREPARE TRANSACTION 'high'");
my @floors = map { $_->[0] } @{ $observer->rows(
		'SELECT floor FROM evstore.in_flight ORDER BY floor') };
cmp_ok($floors[0], '<', $floors[1], 'each has its own floor');
restart_immediately();
is(safe_position('existing'), $floors[0], 'the lower one is the safe position');
$node->safe_psql('existing', "COMMIT PREPARED 'low'");
is(safe_position('existing'), $floors[1], 'then the higher one');
$node->safe_psql('existing', "COMMIT PREPARED 'high'");
is( $node->safe_psql('existing',
		'SELECT evstore.safe_position() = evstore._last_position()'),
	't', 'then the last position');

# ---- several appends and a savepoint in one prepared transaction ----

$node->safe_psql('existing', <<'SQL');
BEGIN;
SELECT evstore.append('d-1', 'kept');
SAVEPOINT s;
SELECT evstore.append('d-1', 'undone');
ROLLBACK TO s;
SELECT evstore.append('d-1', 'kept too');
PREPARE TRANSACTION 'many';
SQL
restart_immediately();
is($node->safe_psql('existing', q(SELECT count(*) FROM evstore.in_flight)),
	1, 'a transaction with several appends is in flight once');
$node->safe_psql('existing', "COMMIT PREPARED 'many'");
is( $node->safe_psql('existing',
		q(SELECT version, type FROM evstore.read_stream('d-1'))),
	"0|kept\n1|kept too",
	'COMMIT PREPARED after a restart keeps what was not rolled back');

# ---- the very first append: seal, instance row, partition ----

for my $decision ('COMMIT', 'ROLLBACK')
{
	my $dbname = lc $decision;
	my $first = "SELECT version FROM evstore.append('a-1', 'x', event_id => '$id')";

	new_store($node, $dbname, 10);
	$node->safe_psql($dbname, "BEGIN; $first; PREPARE TRANSACTION '$dbname'");
	restart_immediately();
	is(safe_position($dbname), 0, "$decision: nothing is safe yet");
	is( $node->safe_psql($dbname,
			q(SELECT version FROM evstore.append('b-1', 'x'))),
		0,
		"$decision: another session can append before");
	is(safe_position($dbname), 0, "$decision: but its event is not safe");
	$node->safe_psql($dbname, "$decision PREPARED '$dbname'");
	is($node->safe_psql($dbname, $first), 0, "$decision: the retry is version 0");
	is( $node->safe_psql($dbname,
			q(SELECT stream, count(*) FROM evstore.events GROUP BY 1 ORDER BY 1)),
		"a-1|1\nb-1|1",
		"$decision: one event in each stream");
	is( $node->safe_psql($dbname,
			q(SELECT count(*) FROM evstore.instance)),
		1,
		"$decision: one instance row");
	is( $node->safe_psql($dbname,
			q(SELECT check_name, detail FROM evstore.health() WHERE NOT ok
			  UNION ALL
			  SELECT check_name, detail FROM evstore.verify() WHERE NOT ok)),
		'',
		"$decision: the store is sound");
	my $session = session($node, $dbname);
	is_error($session,
		q(INSERT INTO evstore.event_log SELECT * FROM evstore.event_log),
		'VS006', qr/append-only/, "$decision: the store is sealed");
	$session->close;
}

# ---- a partition made inside the prepared transaction ----

# A worker cannot help: the extension itself is made by this transaction.
$node->safe_psql('postgres', 'CREATE DATABASE inline');
$node->safe_psql('inline',
	"BEGIN; CREATE EXTENSION evstore; SELECT evstore.append('a-1', 'x'); "
	  . "PREPARE TRANSACTION 'inline'");
restart_immediately();
is( $node->safe_psql('inline',
		"SELECT count(*) FROM pg_namespace WHERE nspname = 'evstore'"),
	0,
	'the extension is not there yet');
$node->safe_psql('inline', "COMMIT PREPARED 'inline'");
is($node->safe_psql('inline', q(SELECT version FROM evstore.append('a-1', 'y'))),
	1, 'CREATE EXTENSION and the first append, prepared, committed after a restart');
is( $node->safe_psql('inline',
		q(SELECT check_name, detail FROM evstore.verify() WHERE NOT ok)),
	'', 'and the store is sound');

done_testing();
