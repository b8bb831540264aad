# No wake-up is lost.
#
# Pairs of sessions play ping-pong: one appends an event for the other, which
# waits for it with fetch(), acknowledges it, and appends the answer in the same
# transaction, for which the first one waits.  So each wait begins at about the
# time of the append that ends it, again and again, which is where a wake-up
# would be lost.
#
# A wake-up that is lost shows as a round that lasts until the waiting session
# looks by itself, after 5 s.  The longest round of each session is kept, and
# must be shorter than 4 s.
#
# EVS_ROUNDS   how many rounds altogether; a round has two wake-ups.  A million
#              takes about an hour on two cores:
#              make test-tap TESTS=045_lost_wakeup EVS_ROUNDS=1000000 EVS_TIMEOUT=86400
# EVS_PAIRS    pairs at the same time (default: 4)

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use Test::More;
use Time::HiRes ();

# A session looks by itself after 5 s (LOOK_MAX in src/base/wait.c).
use constant LIMIT => 4000;

my $rounds = $ENV{EVS_ROUNDS} // 20000;
my $pairs = $ENV{EVS_PAIRS} // 4;

# With the dispatcher of a server that preloads the library, and with one that
# was started by hand on a server that does not.
for my $preload (1, 0)
{
	play($preload);
}
done_testing();

sub play
{
	my ($preload) = @_;
	my $how = $preload ? 'preloaded' : 'not preloaded';
	my $share = int($rounds * ($preload ? 0.75 : 0.25) / $pairs) || 1;
	my $node = new_node("wakeups_$preload",
		conf => "max_prepared_transactions = 5\nfsync = off\nsynchronous_commit = off\n"
		  . ($preload ? "shared_preload_libraries = 'evstore'\n" : ''));

	new_store($node, 'store');
	$node->safe_psql('store', <<'SQL');
CREATE TABLE result (me text, rounds int, longest_ms float8, slow int, empty int);
-- Waits for one event of the subscription; each answer begins a new wait.
CREATE PROCEDURE play(me text, other text, rounds int, begins bool) LANGUAGE plpgsql AS $$
DECLARE
	e record;
	began timestamptz;
	ms float8;
	longest float8 := 0;
	slow int := 0;
	empty int := 0;
	how int;
BEGIN
	-- claim the slot, so that what follows waits
	PERFORM evstore.fetch(me, me, 1);
	COMMIT;
	PERFORM evstore.fetch(me, me, 1);
	COMMIT;
	IF begins THEN
		PERFORM evstore.append(other || '-1', 'x');
		COMMIT;
	END IF;
	FOR i IN 1 .. rounds LOOP
		began := clock_timestamp();
		LOOP
			-- in turn: waiting within a statement, and without a snapshot
			IF i % 2 = 0 THEN
				CALL evstore.wait_for_events(me, 60000, me);
			END IF;
			SELECT * INTO e FROM evstore.fetch(me, me, 1, CASE WHEN i % 2 = 0 THEN 0 ELSE 60000 END);
			EXIT WHEN FOUND;
			-- it has renewed its claim, or its membership
			COMMIT;
			empty := empty + 1;
		END LOOP;
		ms := extract(epoch FROM clock_timestamp() - began) * 1000;
		longest := greatest(longest, ms);
		slow := slow + (ms > 500)::int;
		PERFORM evstore.ack(me, e.slot, e.epoch, e."position");
		IF i < rounds OR NOT begins THEN
			-- now and then in a transaction that was rolled back in part
			IF i % 5 = 0 THEN
				BEGIN
					PERFORM evstore.append('nobody-1', 'x');
					RAISE division_by_zero;
				EXCEPTION WHEN division_by_zero THEN NULL;
				END;
			END IF;
			PERFORM evstore.append(other || '-1', 'x');
		END IF;
		COMMIT;
	END LOOP;
	INSERT INTO result VALUES (me, rounds, longest, slow, empty);
	COMMIT;
END $$;
SQL
	my $observer = session($node, 'store');
	$observer->query('SELECT evstore.start()');

	my @sessions;
	for my $pair (1 .. $pairs)
	{
		for my $side ('a', 'b')
		{
			$observer->query(
				"SELECT evstore.create_subscription('$side$pair', '{\"categories\": [\"$side$pair\"]}')");
		}
		push @sessions, session($node, 'store')->send("CALL play('b$pair', 'a$pair', $share, false)");
		push @sessions, session($node, 'store')->send("CALL play('a$pair', 'b$pair', $share, true)");
	}

	# What holds the safe position back for a moment, and lets go by an abort.
	my $began = Time::HiRes::time();
	my $disturber = session($node, 'store');
	my $n = 0;
	my %running = map { $_ => $_ } @sessions;
	while (%running)
	{
		my $end = $n++ % 2 ? 'COMMIT' : 'ROLLBACK';

		$disturber->query("BEGIN; SELECT evstore.append('disturb-1', 'x')");
		$disturber->query($end);
		for my $session (values %running)
		{
			next unless IO::Select->new($session->{socket})->can_read(0.02);    # poll
			my $error = $session->outcome(600);
			is(ref $error ? "$error->{C} $error->{M}" : '', '', "$how: a session has done its rounds")
			  if ref $error;
			delete $running{$session};
		}
		if (Time::HiRes::time() - $began > 60 + $rounds / 10)
		{
			fail("$how: rounds come to an end");
			last;
		}
	}
	my $took = Time::HiRes::time() - $began;
	my ($done, $longest, $slow, $empty) = @{ $observer->rows(
			'SELECT COALESCE(sum(rounds), 0), COALESCE(round(max(longest_ms)), -1), sum(slow), sum(empty) FROM result')->[0] };
	note sprintf '%s: %d waits in %.1f s, the longest %d ms, %d above 500 ms, %d empty',
	  $how, $done, $took, $longest, $slow, $empty;
	is($done, 2 * $pairs * $share, "$how: all rounds are done");
	cmp_ok($longest, '<', LIMIT, "$how: none of them took so long that a wake-up was lost");
	is($observer->query("SELECT failures FROM evstore.workers WHERE kind = 'dispatcher'"), 0,
		"$how: the dispatcher has not failed");
	$_->close for @sessions, $observer, $disturber;
	$node->stop;
	return;
}
