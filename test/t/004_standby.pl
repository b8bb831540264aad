# A streaming standby reads as far as the primary has said that it may, and goes
# on as the primary after its promotion.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use Test::More;

my $primary = new_node(
	'primary',
	init => { allows_streaming => 1 },
	conf => "max_prepared_transactions = 10\nmax_connections = 30\nshared_buffers = 16MB\n");
new_store($primary, 'store', 20);
$primary->backup('base');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

sub primary
{
	return $primary->safe_psql('store', $_[0]);
}

sub caught_up
{
	return $primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
}

primary("SELECT evstore.append('a-' || i % 3, 'x', jsonb_build_object('i', i)) FROM generate_series(1, 50) i");
caught_up();
my $on = session($standby, 'store');

# ---- before the primary has recorded a safe position ----

my $no_position = qr/not recorded a safe position.*record_safe_position/s;
is_error($on, 'SELECT evstore.safe_position()', '55000', $no_position,
	'safe_position() before the first recorded one: error with a hint');
is_error($on, 'SELECT * FROM evstore.read_all()', '55000', $no_position,
	'likewise read_all()');
is_error($on, "SELECT * FROM evstore.read_category('a')", '55000', $no_position,
	'and read_category()');
is_error($on, 'SELECT * FROM evstore.events', '55000', $no_position,
	'and the view events');
is($on->query("SELECT count(*) FROM evstore.read_stream('a-1')"), 17,
	'read_stream() needs none');
is($on->query("SELECT evstore.stream_version('a-1'), evstore.stream_version('b-1')"),
	'16|-1', 'nor does stream_version()');
is( $on->query(
		"SELECT version FROM evstore.get_event((SELECT event_id FROM evstore.read_stream('a-1', 5, 1)))"),
	5,
	'nor get_event()');
is($on->query('SELECT count(*) FROM evstore.events_uncapped'), 50, 'nor events_uncapped');
is($on->query('SELECT count(*) FROM evstore.streams'), 3, 'nor streams');
is($on->query('SELECT count(*) FROM evstore.health() WHERE NOT ok'), 0, 'nor health()');

# ---- nothing can be written ----

my %writes = (
	append => "evstore.append('a-1', 'x')",
	append_one => "evstore.append_one('a-1', 'x')",
	append_events => "evstore.append_events('new-1', '[{\"type\": \"x\"}]')",
	append_arrays => "evstore.append_arrays('a-1', '{x}')",
	try_append => "evstore.try_append('a-1', '[{\"type\": \"x\"}]')",
	append_streams => "evstore.append_streams('[{\"stream\": \"a-1\", \"events\": [{\"type\": \"x\"}]}]')",
	delete_stream => "evstore.delete_stream('a-1')",
	tombstone_stream => "evstore.tombstone_stream('a-1')",
	truncate_stream => "evstore.truncate_stream('a-1', 3)",
	set_stream => "evstore.set_stream('a-1', 3)",
	scavenge => 'evstore.scavenge()',
	create_partitions => 'evstore.create_partitions(1)',
	record_safe_position => 'evstore.record_safe_position()',
	adopt => 'evstore.adopt()');
for my $name (sort keys %writes)
{
	is_error($on, "SELECT $writes{$name}", '25006',
		qr/cannot execute evstore .* (in a read-only transaction|during recovery)/,
		"$name: read-only, by a message that names evstore");
}

# ---- up to what was recorded, and no further ----

is(primary('SELECT evstore.record_safe_position()'), 50, 'the primary records 50');
my $append = "SELECT evstore.append('a-1', 'x')";
primary("$append; $append");
my $slow = session($primary, 'store');
$slow->query("BEGIN; SELECT evstore.append('slow-1', 'x')");
primary("$append; $append");
caught_up();

sub sees
{
	my ($expected, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($on->query('SELECT evstore.safe_position()'), $expected, "$name: safe_position()");
	is($on->query('SELECT count(*), max(position) FROM evstore.read_all(max_count => NULL)'),
		"$expected|$expected", "$name: read_all()");
	is($on->query("SELECT count(*), max(position) FROM evstore.read_all(max_count => NULL, direction => 'backward')"),
		"$expected|$expected", "$name: read_all() backward");
	is($on->query("SELECT max(position) FROM evstore.read_category('a', 0, NULL)"),
		$expected, "$name: read_category()");
	is($on->query('SELECT count(*), max(position) FROM evstore.events'),
		"$expected|$expected", "$name: view events");
	return;
}

sees(50, 'more is committed, and an append in flight');
is($on->query("SELECT count(*), max(version) FROM evstore.read_stream('a-1')"),
	'21|20', 'read_stream() sees what is committed');
is($on->query('SELECT count(*) FROM evstore.events_uncapped'), 54, 'events_uncapped too');
is($on->query("SELECT count(*) FROM evstore.read_all(50)"), 0,
	'a follower that has come that far waits');

is(primary('SELECT evstore.record_safe_position()'), 52,
	'what is recorded then is the floor of the append in flight');
caught_up();
sees(52, 'recorded again');

# A snapshot that is older than the row keeps the view where it was; read_all()
# takes a fresh one.
my $old = session($standby, 'store');
$old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$slow->query('COMMIT');
$slow->close;
is(primary('SELECT evstore.record_safe_position()'), 55, 'recorded after its commit');
caught_up();
sees(55, 'recorded after the commit');
is($old->query('SELECT max(position) FROM evstore.events'), 52,
	'an older snapshot goes with the older position in the view');
is($old->query('SELECT max(position) FROM evstore.read_all()'), 55,
	'read_all() is up to date at any isolation level');
$old->query('COMMIT');
$old->close;
is($on->query("SELECT count(*) FROM evstore.read_stream('slow-1')"), 1,
	'the late event is there');

# Settings that hide events work there too.
primary("SELECT evstore.set_stream('a-2', max_count => 2); SELECT evstore.truncate_stream('a-0', 10)");
caught_up();
is($on->query("SELECT count(*) FROM evstore.read_stream('a-2')"), 2, 'max_count counts');
is($on->query("SELECT min(version) FROM evstore.read_stream('a-0')"), 10, 'truncate too');
primary("SELECT evstore.set_stream('a-2', max_count => 0); SELECT evstore.truncate_stream('a-0', 0)");
is($on->query("SELECT count(*) FROM evstore.in_flight"), 0, 'in_flight can be asked');
is($on->query('SELECT count(*) FROM evstore.verify() WHERE NOT ok'), 0,
	'verify() can run on a standby');
is($on->query('SELECT count(*) FROM evstore.health() WHERE NOT ok'), 0, 'and health()');

# ---- a follower on the standby, and the promotion ----

# It checks by itself that positions grow.
my $checkpoint = 0;
my @seen;

sub follow
{
	my ($session) = @_;

	for my $row (@{ $session->rows(
			"SELECT position, event_id FROM evstore.read_all($checkpoint, 7)") })
	{
		die "position $row->[0] after $checkpoint" if $row->[0] <= $checkpoint;
		$checkpoint = $row->[0];
		push @seen, $row->[1];
	}
	return;
}

my @writers = map { session($primary, 'store') } 1 .. 3;
my $recorder = session($primary, 'store');
for my $round (1 .. 40)
{
	my $w = 0;
	for my $writer (@writers)
	{
		$w++;
		# some commit late, some not at all
		my $end = $round % 3 == $w % 3 ? 'ROLLBACK' : 'COMMIT';
		$writer->query($round % 2
			? "BEGIN; SELECT evstore.append('w-$w', 'x')"
			: "SELECT evstore.append('w-$w', 'y'); $end; SELECT evstore.append('v-$round-$w', 'z')");
	}
	$recorder->query('SELECT evstore.record_safe_position()');
	follow($on);
}
$_->close for @writers;
caught_up();
follow($on) for 1 .. 40;
my $recorded = $on->query('SELECT evstore.safe_position()');
is($checkpoint, $on->query("SELECT max(position) FROM evstore.read_all(max_count => NULL)"),
	'a follower on the standby comes as far as was recorded');

# Two prepared appends go over to the new primary, and some commits that no
# recorded position covers.
primary("BEGIN; SELECT evstore.append('held-1', 'x'); PREPARE TRANSACTION 'held 1'");
primary("SELECT evstore.append('after-1', 'x')");
primary("BEGIN; SELECT evstore.append('held-2', 'x'); PREPARE TRANSACTION 'held 2'");
primary("SELECT evstore.append('after-1', 'x')");
primary('SELECT evstore.record_safe_position()');
primary("SELECT evstore.append('after-1', 'x')");
my $last = primary('SELECT max(position) FROM evstore.events_uncapped');
my $floor = primary('SELECT min(floor) FROM evstore.in_flight');
my $version = primary("SELECT evstore.stream_version('a-1')");
caught_up();
follow($on);
is($on->query('SELECT evstore.safe_position()'), $floor,
	'a prepared append holds the standby back');

$primary->stop('immediate');
$standby->promote;

is( $on->query(
		'SELECT gid FROM evstore.in_flight ORDER BY gid'),
	"held 1\nheld 2",
	'prepared appends are in flight on the new primary');
is($on->query('SELECT evstore.safe_position()'), $floor,
	'and hold its safe position back');
is( $on->query("SELECT version, position > $last FROM evstore.append('a-1', 'x')"),
	($version + 1) . '|t',
	'appends go on, with the next version, above all positions');
is($on->query('SELECT max(position) <= ' . $floor . ' FROM evstore.events'), 't',
	'but they are not safe yet');
follow($on) for 1 .. 5;
is_error($on, "SET lock_timeout = '100ms'; SELECT evstore.append('held-1', 'x')", '55P03',
	qr/lock timeout/, 'an append to the stream of a prepared one waits');
$on->query('SET lock_timeout = 0');
$on->query("COMMIT PREPARED 'held 1'");
follow($on) for 1 .. 5;
$on->query("ROLLBACK PREPARED 'held 2'");
is($on->query("SELECT version FROM evstore.append('held-1', 'x')"), 1,
	'COMMIT PREPARED: the next version is free');
is($on->query("SELECT version FROM evstore.append('held-2', 'x')"), 0,
	'ROLLBACK PREPARED: the first one is');
$on->query("SELECT evstore.append('many-1', 'x') FROM generate_series(1, 100)");
is($on->query('SELECT evstore.safe_position() = evstore._last_position()'), 't',
	'nothing holds the safe position back any more');
follow($on) for 1 .. 60;
is($checkpoint, $on->query('SELECT max(position) FROM evstore.events_uncapped'),
	'the follower goes on from its checkpoint to the end');
is( join("\n", @seen),
	$on->query('SELECT event_id FROM evstore.events_uncapped ORDER BY position'),
	'and has seen each event once, in order, none left out');
is( $on->query('SELECT check_name FROM evstore.verify() WHERE NOT ok
	UNION ALL SELECT check_name FROM evstore.health() WHERE NOT ok'),
	'', 'the new primary is sound, and the one that acts');
$on->close;

done_testing();
