# Consumers do each event once, whatever is killed and when.
#
# Writers append singly, in batches, with savepoints, in transactions that are
# rolled back or prepared.  Consumers take the events of five subscriptions: one
# consumer of everything, a group of three with four slots and short leases, and
# one for each policy for failed events, with nacks by chance.  Each writes its
# results in the transaction in which it acknowledges; an observer looks at
# checkpoints and cursors all the time.  In each round something is killed with
# SIGKILL: everything, the postmaster, a backend, or the dispatcher.
#
#   - nothing is skipped, at any moment, and in the end everything is done
#   - nothing is done twice, and effects are what a rebuild gives
#   - a checkpoint is never past what is neither done nor parked
#   - claims of earlier lives never acknowledge
#   - results of a key are in the order of its events
#
# All that with the library preloaded, and again without: there consumers poll,
# or find a dispatcher that was started by hand.
#
# EVS_ROUNDS       number of rounds of each part (default 10)
# EVS_CHAOS_SEED   repeats the choices of a run, though not its timing

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsChaos;
use EvsTest;
use Test::More;

my $rounds = $ENV{EVS_ROUNDS} || 10;
my $seed = $ENV{EVS_CHAOS_SEED} || int rand 1e9;
srand $seed;
note "EVS_CHAOS_SEED=$seed";

my $retry = '{"max_attempts": 4, "initial": 0.01, "max": 0.1}';
my @subscriptions = (
	{ name => 'all', slots => 1, consumers => 1, filter => '{}', options => '{"lease": 5}' },
	{ name => 'group', slots => 4, consumers => 3, filter => '{"categories": ["order", "item"]}',
		options => '{"lease": 0.1}', derive => 1, rollbacks => 0.1 },
	map {
		{ name => $_, slots => 2, consumers => $_ eq 'block_key' ? 2 : 1, nacks => 0.05,
			rollbacks => 0.05, policy => $_, filter => '{"categories": ["order"]}',
			options => qq({"lease": 2, "on_failure": "$_", "retry": $retry}) }
	} qw(block_key park_key skip));
my @policies = grep { $_->{policy} } @subscriptions;

my ($node, @problems, %claims, %totals, %kills);

sub problem
{
	push @problems, @_ if @problems < 20;
	return;
}

# ---- writers ----

sub event
{
	return sprintf '{"amount": %d}', 1 + int rand 100;
}

sub stream
{
	my @kinds = qw(order order item other);

	return $kinds[ rand @kinds ] . '-' . int rand 12;
}

sub append
{
	my $s = stream();
	my $e = event();

	return "SELECT FROM evstore.append('$s', 't', '$e')";
}

# One transaction of a writer.  Appends of streams in any order can be in a
# deadlock; what was prepared is finished by somebody else.
sub write_something
{
	my ($session, $gid) = @_;
	my $kind = int rand 8;

	if ($kind <= 1) { $session->query(append()); return; }
	if ($kind == 2)
	{
		my $s = stream();
		my $events = join ', ', map { sprintf '{"type": "t", "data": %s}', event() } 0 .. rand 10;
		$session->query("SELECT FROM evstore.append_events('$s', '[$events]')");
		return;
	}
	$session->query('BEGIN');
	$session->query(append());
	if ($kind >= 4)
	{
		$session->query('SAVEPOINT s');
		$session->query(append());
		$session->query(rand() < 0.5 ? 'ROLLBACK TO s' : 'RELEASE s');
		$session->query(append()) if rand() < 0.5;
	}
	$session->query($kind == 7 ? "PREPARE TRANSACTION '$gid'" : $kind == 6 ? 'ROLLBACK' : 'COMMIT');
	return;
}

sub writer
{
	my ($dbname, $n, $round) = @_;

	return start_process(
		"writer_$n",
		sub {
			my ($log) = @_;
			my $session = session($node, $dbname, deadlock_timeout => '20ms',
				lock_timeout => '200ms');

			for my $k (0 .. 1e9)
			{
				if (eval { write_something($session, "$round-$n-$k"); 1 })
				{
					$log->('done');
					next;
				}
				# a stream may be locked by a prepared transaction, and many be prepared
				die $@ unless $@ =~ /^(40P01|55P03|53400|55000)/;
				$session->try('ROLLBACK');
			}
		});
}

# Some of the prepared transactions, or all.
sub finish_prepared
{
	my ($session, $all) = @_;

	for my $row (@{ $session->rows(
			'SELECT gid FROM pg_prepared_xacts WHERE database = current_database()') })
	{
		next if !$all && rand() < 0.5;
		my $how = rand() < 0.7 ? 'COMMIT' : 'ROLLBACK';
		$session->try("$how PREPARED '$row->[0]'");
	}
	return;
}

sub finisher
{
	my ($dbname) = @_;

	return start_process(
		'finisher',
		sub {
			my $session = session($node, $dbname);

			while (1)
			{
				finish_prepared($session, 0);
				poll(sub { rand() < 0.1 });
			}
		});
}

# ---- the observer ----

sub observer
{
	my ($dbname) = @_;

	return start_process(
		'observer',
		sub {
			my ($log) = @_;
			my $session = session($node, $dbname);

			while (1)
			{
				my $misplaced = misplaced($session);
				$log->('misplaced', $misplaced =~ s/\s+/ /gr) if $misplaced ne '';
				$log->('looked');
			}
		});
}

# ---- rounds ----

sub start_consumers
{
	my ($dbname, $round) = @_;
	my @consumers;

	for my $s (@subscriptions)
	{
		push @consumers,
		  map { consume($node, $dbname, "$s->{name}_$_", %$s, consumer => "c$_", wait => 100) }
		  1 .. $s->{consumers};
	}
	return @consumers;
}

sub check_ends
{
	my (%notes) = @_;

	for my $name (sort keys %notes)
	{
		my $why = pop @{ $notes{$name} };

		problem("$name: @$why") unless $why->[0] eq 'end' && is_end_of_server($why->[1] // '');
		for my $note (@{ $notes{$name} })
		{
			$totals{ $note->[0] eq 'again' ? $note->[1] : $note->[0] }++;
			problem("observer: @$note") if $note->[0] eq 'misplaced';
			$claims{ $name =~ s/_\d+$//r }{ $note->[1] }{ $note->[2] } = 1
			  if $note->[0] eq 'claim';
		}
	}
	return;
}

# Claims of those who are dead or have been replaced do nothing.
sub check_stale_claims
{
	my ($session) = @_;

	for my $row (@{ $session->rows('SELECT subscription, slot, epoch, cursor FROM evstore.subscription_slots') })
	{
		my ($name, $slot, $current, $cursor) = @$row;
		my @stale = grep { $_ != $current } keys %{ $claims{$name}{$slot} };

		for my $epoch ((sort { $b <=> $a } @stale)[ 0 .. ($#stale > 4 ? 4 : $#stale) ])
		{
			my $claim = "'$name', $slot, $epoch";
			my $next = $cursor + 1;
			for my $call ("ack($claim, $next)", "ack_events($claim, '{$next}')",
				"nack($claim, $next)", "nack($claim, $next, 'x', 'bisect')", "extend($claim)")
			{
				my $error = $session->try("SELECT evstore.$call");
				problem("$call: " . (ref $error ? $error->{C} : 'done') . ", current epoch is $current")
				  unless ref $error && $error->{C} eq 'VS007';
				$totals{stale}++;
			}
		}
	}
	return;
}

sub check_all
{
	my ($session, $when) = @_;
	my $misplaced = misplaced($session);

	problem("$when: passed, but not done: $misplaced") if $misplaced ne '';
	my $order = disordered($session, qw(all group block_key park_key));
	problem("$when: out of order: $order") if $order ne '';
	check_stale_claims($session);
	return;
}

sub round
{
	my ($dbname, $round, $preloaded) = @_;
	my $session = wait_for_server($node, $dbname);
	my @ways = ('everything', 'postmaster', qr/$dbname \[local\]/, qr/evstore dispatcher/);
	my @names = ('everything', 'the postmaster', 'a backend', 'the dispatcher');
	my $way = $round % 4;
	my $enough = 40 + int rand 300;

	$session->query('SELECT evstore.start()') if !$preloaded && $way >= 2;
	my @writers = map { writer($dbname, $_, $round) } 1 .. 3;
	my @others = (start_consumers($dbname, $round), finisher($dbname), observer($dbname));
	poll(
		sub {
			my $n = 0;
			$n += lines_of($_, '^got') for @others;
			$n >= $enough;
		},
		60) or problem("no progress in round $round");
	# once in a while, something changes that they must notice
	$totals{parked} += $session->query("SELECT evstore.replay_parked('$_->{name}')") for @policies;
	$session->close;
	my $killed = poll(sub { kill_server($node, $ways[$way]) }, 20);
	problem("round $round: nothing to kill: $names[$way]") unless $killed;
	$kills{ $names[$way] }++;
	check_ends(map { $_->{name} => [ finish_process($_) ] } @writers, @others);
	$session = wait_for_server($node, $dbname);
	finish_prepared($session, 0);
	check_all($session, "after round $round");
	$session->close;
	return;
}

# What keeps a subscription from its end, for who reads the failure.
sub progress
{
	my ($session, $name) = @_;

	return join "\n", map { $session->query($_) }
	  "SELECT state, slots, checkpoint, lag_events, retrying, waiting, parked, evstore.safe_position() FROM evstore.subscriptions WHERE subscription = '$name'",
	  "SELECT s.*, a.state, a.query FROM evstore.subscription_slots s LEFT JOIN pg_stat_activity a USING (pid) WHERE subscription = '$name'",
	  "SELECT m.*, a.state, a.wait_event FROM evstore.subscription_member m JOIN evstore.subscription s ON s.id = m.subscription_id LEFT JOIN pg_stat_activity a USING (pid) WHERE s.name = '$name'",
	  "SELECT * FROM evstore.in_flight",
	  'SELECT pid, locktype, classid, objid, objsubid, mode, granted FROM pg_locks WHERE locktype = \'advisory\'';
}

# Without writers and nacks, to the end; what was parked, too.
sub drain
{
	my ($dbname) = @_;
	my $session = wait_for_server($node, $dbname);

	finish_prepared($session, 1);

	# from now on nobody is to lose a claim only because the machine is busy
	$session->query("SELECT evstore.alter_subscription('$_->{name}', options => '{\"lease\": 60}')")
	  for @subscriptions;
	my @consumers;
	for my $s (@subscriptions)
	{
		push @consumers, map {
			consume($node, $dbname, "$s->{name}_$_", %$s, nacks => 0, consumer => "c$_", wait => 100)
		} 1 .. $s->{consumers};
	}
	my $observer = observer($dbname);
	for my $s (@subscriptions)
	{
		# what is behind a parked event of its key is done once that is; on a busy
		# machine short leases may have ended too often for an event; "all" also
		# gets what "group" appends
		poll(
			sub {
				$totals{parked} += $session->query("SELECT evstore.replay_parked('$s->{name}')");
				drained($session, $s->{name});
			},
			180) or problem("$s->{name} does not come to its end\n" . progress($session, $s->{name}));
		last if @problems;
	}
	check_ends(map { $_->{name} => [ finish_process($_, 'TERM') ] } @consumers, $observer);
	return $session;
}

sub none
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $good = ok(!@problems, $name) or diag(join "\n", @problems);
	@problems = ();
	return $good;
}

sub run
{
	my ($preloaded) = @_;
	my $title = $preloaded ? 'preloaded' : 'not preloaded';
	my $dbname = $preloaded ? 'preloaded' : 'plain';

	%claims = %totals = %kills = ();
	$node = new_node(
		"consumers_$dbname",
		started => 0,
		conf => ($preloaded ? "shared_preload_libraries = 'evstore'\n" : '')
		  . "fsync = off\nrestart_after_crash = on\nmax_prepared_transactions = 20\n"
		  . "max_worker_processes = 16\nmax_connections = 40\nshared_buffers = 32MB\n"
		  . "deadlock_timeout = 50ms\nlog_checkpoints = off\n");
	crash_on_purpose($node);
	run_postmaster($node);
	wait_for_server($node, 'postgres')->close;
	new_store($node, $dbname, 500);

	my $session = session($node, $dbname);
	make_result_tables($session);
	$session->query(
		"SELECT evstore.create_subscription('$_->{name}', '$_->{filter}', 'beginning', $_->{slots}, '$_->{options}')")
	  for @subscriptions;
	$session->close;

	for my $round (0 .. $rounds - 1)
	{
		round($dbname, $round, $preloaded);
		last if @problems;
	}
	none("$title: all is well after each of $rounds rounds") or return;

	$session = drain($dbname);
	check_all($session, 'in the end');
	none("$title: all comes to its end") or return;
	is(compare_results($session), '', "$title: everything is done once, with the effects of a rebuild");
	is( $session->query(q(SELECT (SELECT count(*) FROM evstore.read_category('derived', 0, NULL))
			= (SELECT count(*) FROM result r WHERE subscription = 'group' AND amount % 5 = 0))),
		't', "$title: what consumers appended is there once");
	is($session->query('SELECT count(*) FROM evstore.failed_event'), 0, "$title: no failed event is left");
	is( $session->query(q(SELECT subscription, slot FROM evstore.subscription_slots
			WHERE checkpoint < (SELECT max("position") FROM result r WHERE r.subscription = subscription_slots.subscription)
				AND slot = 0 AND subscription = 'all')),
		'', "$title: the checkpoint is at the end");
	is($session->query('SELECT check_name, detail FROM evstore.verify() WHERE NOT ok'),
		'', "$title: the store is sound");
	cmp_ok($totals{stale} // 0, '>', 0, "$title: stale claims were tried");
	cmp_ok($totals{parked} // 0, '>', 0, "$title: events were parked");
	cmp_ok(scalar(keys %kills), '==', $rounds < 4 ? $rounds : 4, "$title: each way of killing was used");
	note join ', ', map { "$_: $totals{$_}" } sort keys %totals;
	note $session->query('SELECT count(*) FROM evstore.events') . ' events, '
	  . $session->query('SELECT count(*) FROM result') . ' results';
	$session->close;
	$node->stop;
	return;
}

run(1);
run(0);
done_testing();
