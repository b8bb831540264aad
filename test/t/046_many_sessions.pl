# A thousand sessions wait at the same time, for 200 subscriptions: all are woken,
# each gets its own events, and while they wait they cost little.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use Test::More;
use Time::HiRes ();

use constant {
	SUBSCRIPTIONS => 200,
	CONSUMERS => 5,    # of each, with a slot each
};

my $open_files = qx(sh -c 'ulimit -n');
chomp $open_files;
my $memory = do { local (@ARGV, $/) = '/proc/meminfo'; <> =~ /^MemAvailable:\s+(\d+)/m ? $1 : 0 };
if ($open_files ne 'unlimited' && $open_files < 2000) { plan skip_all => "only $open_files files may be open" }
if ($memory < 6_000_000) { plan skip_all => "only $memory kB of memory" }

my $node = new_node('many_sessions',
	conf => "shared_preload_libraries = 'evstore'\nmax_connections = 1100\nfsync = off\n");
new_store($node, 'store');
my $observer = session($node, 'store');
$observer->query("SELECT evstore.create_subscription('s' || i, slots => @{[CONSUMERS]},
	options => '{\"lease\": 3600}') FROM generate_series(1, @{[SUBSCRIPTIONS]}) i");
my @all = map { my $s = $_; map { [ "s$s", "c$_", session($node, 'store') ] } 1 .. CONSUMERS } 1 .. SUBSCRIPTIONS;
is(scalar @all, 1000, 'a thousand sessions');

# With each round they share the slots out among those there are.
for my $round (1 .. 3)
{
	for my $consumer (map { "c$_" } 1 .. CONSUMERS)
	{
		my @some = grep { $_->[1] eq $consumer } @all;
		$_->[2]->send("SELECT evstore.fetch('$_->[0]', '$consumer', 1)") for @some;
		$_->[2]->result for @some;
	}
}
is( $observer->query(
		'SELECT DISTINCT count(DISTINCT consumer) FROM evstore.subscription_slots GROUP BY subscription'),
	CONSUMERS, 'each has a slot');
$_->[2]->send("SELECT count(*) FROM evstore.fetch('$_->[0]', '$_->[1]', 1000, 600000)") for @all;

sub asleep
{
	return $observer->query(
		"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND backend_type = 'client backend'");
}

ok(poll(sub { asleep() == @all }), 'all wait');
is( $observer->query(
		"SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		 WHERE a.wait_event_type = 'Extension' AND a.backend_type = 'client backend'
			AND l.locktype <> 'virtualxid'"),
	0, 'without a lock');

# Streams so many that each slot has some.
my $began = Time::HiRes::time();
$observer->query("SELECT evstore.append('a-' || i, 'x') FROM generate_series(1, 100) i");
my ($woken, $events, $longest) = (0, 0, 0);
for my $one (@all)
{
	my $answer = $one->[2]->outcome(60);
	next if ref $answer || $answer eq '';
	$woken++ if $answer > 0;
	$events += $answer;
}
my $took = Time::HiRes::time() - $began;
is($woken, scalar @all, 'all are woken by one commit');
is($events, 100 * SUBSCRIPTIONS, 'and have each event once for each subscription');
cmp_ok($took, '<', 60, sprintf 'in %.1f s', $took);

# All but one of each subscription end: the others take over.
for my $one (@all)
{
	$one->[2]->close if $one->[1] ne 'c1';
}
my @left = grep { $_->[1] eq 'c1' } @all;
$events = 0;
for my $one (@left)
{
	my $n = 0;
	poll(sub {
			$n = $one->[2]->query("SELECT count(*) FROM evstore.fetch('$one->[0]', 'c1', 1000, 1000)");
			return $n == 100;
		});
	$events += $n;
}
is($events, 100 * SUBSCRIPTIONS, 'when the others have gone, the last of each subscription has all events');
is($observer->query("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'evstore dispatcher'"), 1,
	'one dispatcher has done it all');
$_->[2]->close for @left;
$observer->close;

done_testing();
