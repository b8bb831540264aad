# A consumer dies, or is too slow: what it had not acknowledged is given to
# another one, at once, and nothing is done twice.
#
# Consumers write into the table "work", which has no unique key: a second time
# would be seen.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsChaos;
use EvsTest;
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('death',
	conf => "shared_preload_libraries = 'evstore'\nmax_prepared_transactions = 5\nfsync = off\n");
crash_on_purpose($node);
new_store($node, 'death');
my $observer = session($node, 'death');
$observer->query('CREATE TABLE work (subscription text, "position" bigint, who text)');
ok(poll(sub { $observer->query("SELECT state FROM evstore.workers WHERE kind = 'dispatcher'") eq 'running' }),
	'the dispatcher runs');

my $n_subscriptions = 0;

# A subscription to new events only, and some of these; returns its name.
sub new_subscription
{
	my ($events, $slots, $options) = @_;
	my $name = 's' . ++$n_subscriptions;

	$observer->query("SELECT evstore.create_subscription('$name', start => 'end', slots => $slots,
		options => '$options')");
	$observer->query("SELECT evstore.append('$name-' || i, 't', jsonb_build_object('i', i))
		FROM generate_series(1, $events) i");
	return $name;
}

sub fetch
{
	my ($session, $name, $consumer, $wait) = @_;

	$wait //= 0;
	return $session->rows(qq(SELECT slot, epoch, attempt, "position"
		FROM evstore.fetch('$name', '$consumer', 100, $wait)));
}

sub write_work
{
	my ($session, $name, $who, $events) = @_;

	$session->query("INSERT INTO work VALUES " . join ', ', map { "('$name', $_->[3], '$who')" } @$events);
	return;
}

# The call that acknowledges events of one slot.
sub ack
{
	my ($name, $events) = @_;

	return "SELECT evstore.ack('$name', $events->[0][0], $events->[0][1], $events->[-1][3])";
}

sub by_slot
{
	my ($events) = @_;
	my %slots;

	push @{ $slots{ $_->[0] } }, $_ for @$events;
	return map { $slots{$_} } sort keys %slots;
}

sub finish_all
{
	my ($session, $name, $who, $events) = @_;

	$session->query('BEGIN');
	write_work($session, $name, $who, $events);
	$session->query(ack($name, $_)) for by_slot($events);
	$session->query('COMMIT');
	return;
}

# The same, and all that is left.  Whoever takes over from the dead gets half a
# batch, in case that an event is to blame.
sub finish_rest
{
	my ($session, $name, $who, $events) = @_;

	while (@$events)
	{
		finish_all($session, $name, $who, $events);
		$events = fetch($session, $name, $who);
	}
	return;
}

# The first event of each slot.
sub heads
{
	my ($events) = @_;

	return join ',', map { "$_->[0][0]: $_->[0][3]" } by_slot($events);
}

# The client is gone, without a word to its server process.
sub disconnect
{
	my ($session) = @_;

	close delete $session->{socket};
	return;
}

sub has_gone
{
	my ($pid) = @_;

	return poll(sub { $observer->query("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid") == 0 });
}

# Everything has been done once, and by whom.
sub is_done_once
{
	my ($name, $events, $who, $title) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(
		$observer->query(qq(SELECT count(*), count(DISTINCT "position"), string_agg(DISTINCT who, ',')
			FROM work WHERE subscription = '$name')),
		"$events|$events|$who", $title);
}

sub is_fenced
{
	my ($session, $name, $events, $title) = @_;
	my $claim = "'$name', $events->[0][0], $events->[0][1]";

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is_error($session, ack($name, $events), 'VS007', qr/has been lost/, "$title: ack()");
	is_error($session, "SELECT evstore.nack($claim, $events->[0][3])", 'VS007', qr/has been lost/,
		"$title: nack()");
	is_error($session, "SELECT evstore.extend($claim)", 'VS007', qr/has been lost/, "$title: extend()");
	return;
}

# ---- between fetch and ack, in three ways, with a long lease ----

my %deaths = (
	'closes its connection' => sub { $_[0]->close },
	'is gone without a word' => sub { disconnect($_[0]) },
	'is terminated' => sub { $observer->query("SELECT pg_terminate_backend($_[0]{pid})") });

for my $how (sort keys %deaths)
{
	my $name = new_subscription(8, 4, '{"lease": 3600}');
	my $one = session($node, 'death');
	my $two = session($node, 'death');
	my $given = fetch($one, $name, 'a');

	is(scalar @$given, 8, "$how: one consumer has all slots");
	is(scalar @{ fetch($two, $name, 'b') }, 0, "$how: nothing is left for another one");
	# the first fetch made it a member, this one has nothing to write and waits
	$two->send("SELECT slot, epoch, attempt, position FROM evstore.fetch('$name', 'b', 100, 60000)");
	ok($two->waits($observer, 'Extension'), "$how: it waits");
	my $began = time;
	$deaths{$how}->($one);
	my $taken = $two->result(30)->{rows};
	cmp_ok(time - $began, '<', 4, "$how: it gets them at once, not when the lease is over");
	is(heads($taken), heads($given),
		"$how: it begins where the other one did");
	is_fenced($observer, $name, (by_slot($given))[0], "$how: the old claim");
	finish_rest($two, $name, 'b', $taken);
	is_done_once($name, 8, 'b', "$how: all is done once");
	is($observer->query("SELECT DISTINCT attempts FROM evstore.subscription_slots WHERE subscription = '$name'"),
		0, "$how: and then no attempt counts");
	$two->close;
}

# ---- between its write and ack; between ack and commit ----

for my $acked (0, 1)
{
	my $title = $acked ? 'before COMMIT' : 'before ack()';
	my $name = new_subscription(5, 1, '{"lease": 3600}');
	my $one = session($node, 'death');
	my $given = fetch($one, $name, 'a');

	$one->query('BEGIN');
	write_work($one, $name, 'a', $given);
	$one->query(ack($name, $given)) if $acked;
	disconnect($one);
	has_gone($one->{pid});
	my $two = session($node, 'death');
	my $taken = fetch($two, $name, 'b');
	is(heads($taken), heads($given), "$title: it begins where the other one did");
	is($taken->[0][2], 2, "$title: as a second attempt");
	finish_rest($two, $name, 'b', $taken);
	is_done_once($name, 5, 'b', "$title: what was written has gone");
	$two->close;
}

# The answer to COMMIT never comes: done or not done, but not twice.
{
	my $name = new_subscription(5, 1, '{"lease": 3600}');
	my $one = session($node, 'death');
	my $given = fetch($one, $name, 'a');
	$one->query('BEGIN');
	write_work($one, $name, 'a', $given);
	$one->query(ack($name, $given));
	$one->send('COMMIT');
	disconnect($one);
	has_gone($one->{pid});
	my $two = session($node, 'death');
	my $taken = fetch($two, $name, 'b');
	finish_rest($two, $name, 'b', $taken);
	is($observer->query(qq(SELECT count(*), count(DISTINCT "position") FROM work WHERE subscription = '$name')),
		'5|5', 'in COMMIT: all is done once');
	$two->close;
}

# ---- too slow ----

# Until the claim of slot 0 has run out.
sub wait_for_expiry
{
	my ($name) = @_;

	return poll(sub {
		$observer->query("SELECT claimed FROM evstore.subscription_slots
			WHERE subscription = '$name' AND slot = 0") eq 'f';
	});
}

{
	my $name = new_subscription(5, 1, '{"lease": 0.1}');
	my $one = session($node, 'death');
	my $two = session($node, 'death');
	my $given = fetch($one, $name, 'a');
	$one->query('BEGIN');
	write_work($one, $name, 'a', $given);
	ok(wait_for_expiry($name), 'too slow: the lease is over');
	my $taken = fetch($two, $name, 'b');
	is($taken->[0][3], $given->[0][3], 'too slow: another one begins with the same event');
	finish_all($two, $name, 'b', $taken);
	is_error($one, ack($name, $given), 'VS007', qr/has been lost/, 'too slow: ack() says so');
	$one->try('COMMIT');
	finish_rest($two, $name, 'b', fetch($two, $name, 'b'));
	is_done_once($name, 5, 'b', 'too slow: what the first one wrote has gone');
	$_->close for $one, $two;
}

# By evstore's clock, an hour later.
{
	my $name = new_subscription(5, 1, '{"lease": 1800}');
	my $one = session($node, 'death');
	my $given = fetch($one, $name, 'a');
	my $later = $observer->query("SELECT clock_timestamp() + interval '1 hour'");
	my $two = session($node, 'death', 'evstore.now_override' => $later);
	my $taken = fetch($two, $name, 'b');
	is($taken->[0][3], $given->[0][3], 'an hour later: another one begins with the same event');
	is_fenced($one, $name, $given, 'an hour later');
	finish_rest($two, $name, 'b', $taken);
	is_done_once($name, 5, 'b', 'an hour later: all is done once');
	$_->close for $one, $two;
}

# Who has acknowledged in time has the slot until it commits, however late.
{
	my $name = new_subscription(5, 1, '{"lease": 0.1}');
	my $one = session($node, 'death');
	my $two = session($node, 'death');
	my $given = fetch($one, $name, 'a');
	$one->query('BEGIN');
	write_work($one, $name, 'a', $given);
	$one->query(ack($name, $given));
	ok(wait_for_expiry($name), 'acknowledged in time: the lease is over');
	is(scalar @{ fetch($two, $name, 'b') }, 0, 'acknowledged in time: nobody else gets the events');
	$one->query('COMMIT');
	is(scalar @{ fetch($two, $name, 'b') }, 0, 'acknowledged in time: also after the commit');
	is_done_once($name, 5, 'a', 'acknowledged in time: all is done once');
	$_->close for $one, $two;
}

# ---- extend() ----

{
	my $name = new_subscription(5, 1, '{"lease": 0.1}');
	my $one = session($node, 'death');
	my $two = session($node, 'death');
	my $given = fetch($one, $name, 'a');
	$one->query("SELECT evstore.extend('$name', 0, $given->[0][1], '1 hour')");
	my $end = $observer->query("SELECT clock_timestamp() + interval '0.3 seconds'");
	poll(sub { $observer->query("SELECT clock_timestamp() > '$end'") eq 't' });
	is(scalar @{ fetch($two, $name, 'b') }, 0, 'extend(): the slot stays with who has it');
	finish_all($one, $name, 'a', $given);
	is_done_once($name, 5, 'a', 'extend(): and it can acknowledge');
	$_->close for $one, $two;
}

# ---- one name, changing connections ----

{
	my $name = new_subscription(6, 2, '{"lease": 3600}');
	my @pool = map { session($node, 'death') } 0 .. 2;
	my $given = fetch($pool[0], $name, 'pooled');
	my $again = fetch($pool[1], $name, 'pooled');
	is(join(' ', map { "@$_[0, 1, 3]" } @$again), join(' ', map { "@$_[0, 1, 3]" } @$given),
		'a pool: the same events with the same claim in another connection');
	my @slots = by_slot($given);
	finish_all($pool[2], $name, 'pooled', $slots[0]);
	is(scalar @{ fetch(session($node, 'death'), $name, 'another') }, 0,
		'a pool: another consumer gets nothing that is claimed');
	$pool[0]->close;
	has_gone($pool[0]{pid});
	finish_all($pool[1], $name, 'pooled', $slots[1]);
	is_done_once($name, 6, 'pooled', 'a pool: a connection that ends takes nothing along');
	$_->close for @pool[ 1, 2 ];
}

# ---- the server is killed or restarted in between ----

for my $mode ('immediate', 'fast')
{
	my $name = new_subscription(6, 2, '{"lease": 3600}');
	my $one = session($node, 'death');
	my $given = fetch($one, $name, 'a');
	my @slots = by_slot($given);
	$one->query('BEGIN');
	write_work($one, $name, 'lost', $slots[0]);
	$one->query(ack($name, $slots[0]));
	$node->stop($mode);
	$node->start;
	$observer = session($node, 'death');
	$one = session($node, 'death');
	my $taken = fetch($one, $name, 'a');
	is(heads($taken), heads($given),
		"$mode stop: it begins where the other one did");
	is_fenced($observer, $name, $_, "$mode stop: the old claim") for @slots;
	finish_rest($one, $name, 'a', $taken);
	is_done_once($name, 6, 'a', "$mode stop: all is done once");
	$one->close;
}

# Nobody has fetched since: the claim from before still counts.
{
	my $name = new_subscription(6, 1, '{"lease": 3600}');
	my $one = session($node, 'death');
	my $given = fetch($one, $name, 'a');
	$node->restart;
	$observer = session($node, 'death');
	$one = session($node, 'death');
	finish_all($one, $name, 'a', $given);
	is_done_once($name, 6, 'a', 'a restart: who goes on with its claim can');
	is(scalar @{ fetch($one, $name, 'a') }, 0, 'a restart: and nothing comes again');
	$one->close;
}

# ---- an event that ends its consumer each time ----

for my $policy ('block_key', 'park_key', 'skip')
{
	my $name = new_subscription(16, 1, qq({"lease": 3600, "on_failure": "$policy",
		"retry": {"max_attempts": 3, "initial": 0, "jitter": 0}}));
	my $lives = 0;
	my $poison = $observer->query(qq(SELECT "position" FROM evstore.events WHERE stream = '$name-11'));

	$observer->query("SELECT evstore.append('$name-11', 'behind')");
	while ($lives++ < 60)
	{
		my $pid = fork // die "fork: $!";
		if ($pid == 0)
		{
			my $session = session($node, 'death');
			while (my @events = @{ fetch($session, $name, 'a') })
			{
				kill 'KILL', $$ if grep { $_->[3] == $poison } @events;
				finish_all($session, $name, 'a', \@events);
			}
			$session->close;
			POSIX::_exit(0);
		}
		waitpid $pid, 0;
		last if $? == 0;
		# its server process notices a moment later
		poll(sub {
			$observer->query("SELECT claimed FROM evstore.subscription_slots WHERE subscription = '$name'") eq 'f';
		});
	}
	note "$policy: $lives lives";
	cmp_ok($lives, '<', 40, "$policy: poison does not kill for ever");
	is($observer->query(qq(SELECT "position", reason, attempts >= 3 FROM evstore.parked_events
			WHERE subscription = '$name' AND reason <> 'behind')),
		"$poison|poison|t", "$policy: the event is parked as poison");
	is_done_once($name, $policy eq 'skip' ? 16 : 15, 'a', "$policy: the others are done once");
	is($observer->query("SELECT state FROM evstore.failed_events
			WHERE subscription = '$name' AND position <> $poison"),
		{ block_key => 'waiting', park_key => 'parked', skip => '' }->{$policy},
		"$policy: what is behind it waits, is parked, or has been done");
	my $session = session($node, 'death');
	$observer->query("SELECT evstore.discard_parked('$name', $poison)");
	$observer->query("SELECT evstore.replay_parked('$name')");
	my $events = fetch($session, $name, 'a');
	finish_all($session, $name, 'a', $events) if @$events;
	is_done_once($name, 16, 'a', "$policy: and is done when the poison is discarded");
	is($observer->query("SELECT checkpoint = cursor FROM evstore.subscription_slots WHERE subscription = '$name'"),
		't', "$policy: the checkpoint is where the cursor is");
	$session->close;
}

is($observer->query('SELECT count(*) FROM evstore.failed_event'), 0, 'no failed event is left');
$observer->close;
$node->stop;
done_testing();
