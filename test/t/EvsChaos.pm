# EvsChaos.pm
#
# Processes that work until the server is lost, servers that are killed, and
# consumers whose effects can be counted afterwards.
#
# A consumer of these tests writes what it does into the table "result", and
# counts in the table "effect", in the transaction in which it acknowledges.
# So after any crash these tables must agree with what evstore knows.

package EvsChaos;

use strict;
use warnings;

use Exporter 'import';
use EvsTest;
use POSIX ();
use PostgreSQL::Test::Utils;

our @EXPORT = qw(start_process finish_process lines_of is_end_of_server
  run_postmaster kill_server wait_for_server
  make_result_tables consume_once consume drained compare_results misplaced
  disordered);

# ---- processes ----

# Run in a process of its own until it dies, usually because the server did.
# What it has noted comes back as lines, with the reason as the last line.
sub start_process
{
	my ($name, $body) = @_;
	my $file = "$PostgreSQL::Test::Utils::tmp_check/$name.log";

	unlink $file;
	my $pid = fork // die "fork: $!";
	return { pid => $pid, file => $file, name => $name } if $pid;

	open my $log, '>>', $file or die "$file: $!";
	srand(int(rand 1e9) + $$);
	$SIG{TERM} = sub { die "told to end\n" };
	eval {
		$body->(sub { syswrite $log, join('|', @_) . "\n" });
		1;
	};
	my $why = $@ || 'done';
	chomp $why;
	syswrite $log, 'end|' . ($why =~ s/\n/ /gr) . "\n";
	POSIX::_exit(0);
}

sub lines_of
{
	my ($process, $pattern) = @_;

	return 0 unless -e $process->{file};
	return scalar(() = slurp_file($process->{file}) =~ /$pattern/mg);
}

sub finish_process
{
	my ($process, $signal) = @_;

	kill $signal, $process->{pid} if $signal;
	waitpid $process->{pid}, 0;
	return map { [ split /\|/ ] } split /\n/, slurp_file($process->{file});
}

# Is it a reason to end that a killed server gives?
sub is_end_of_server
{
	my ($why) = @_;

	return $why =~ /^(lost|no server|told to end|done|57P0\d.*)$/
	  || $why =~ /not yet accepting|in recovery mode|starting up|shutting down/;
}

# ---- servers ----

# The postmaster is our own child, so that it is waited for at once: a lock file
# counts as long as its process has not been.
sub run_postmaster
{
	my ($node) = @_;
	my $pid = fork // die "fork: $!";

	if ($pid == 0)
	{
		open STDOUT, '>>', $node->logfile;
		open STDERR, '>&', \*STDOUT;
		delete @ENV{qw(PGAPPNAME PGHOST PGPORT PGDATABASE)};
		exec 'postgres', '-D', $node->data_dir;
	}
	$node->{_pid} = $pid;
	return;
}

# $what: everything, postmaster, or a pattern for the title of one child.
# False if there is no such child.
sub kill_server
{
	my ($node, $what) = @_;
	my $postmaster = $node->{_pid};

	if ($what ne 'everything' && $what ne 'postmaster')
	{
		my @found = grep { title($_) =~ $what } children($postmaster);

		return 0 unless @found;
		my @others = grep { title($_) =~ /\[local\]/ } children($postmaster);
		return 0 unless kill 'KILL', $found[ rand @found ];
		# all are ended before anybody is let in again
		poll(sub { !grep { is_running($_) } @others });
		return 1;
	}
	my @children = frozen_children($postmaster);
	kill 'KILL', $postmaster;
	# those that are busy notice only when they are done
	if ($what eq 'everything' || !poll(sub { !grep { is_running($_) } @children }, 1))
	{
		kill 'KILL', @children;
	}
	poll(sub { !grep { is_running($_) } @children }) or die 'it does not die';
	waitpid $postmaster, 0;
	run_postmaster($node);
	return 1;
}

# A session on the server as soon as it can be had.
sub wait_for_server
{
	my ($node, $dbname) = @_;

	return poll(
		sub {
			# memory of the old one's children may have been in use
			run_postmaster($node) if waitpid($node->{_pid}, POSIX::WNOHANG()) > 0;
			return eval { session($node, $dbname) };
		}) || die 'the server does not come back';
}

# ---- consumers ----

sub make_result_tables
{
	my ($session) = @_;

	$session->query($_)
	  for q(CREATE TABLE result (id bigint GENERATED ALWAYS AS IDENTITY, subscription text NOT NULL,
		"position" bigint NOT NULL, stream text NOT NULL, amount int NOT NULL, skipped bool NOT NULL,
		consumer text NOT NULL, UNIQUE (subscription, "position"))),
	  q(CREATE TABLE effect (subscription text, stream text, n int NOT NULL, amount bigint NOT NULL,
		PRIMARY KEY (subscription, stream)));
	return;
}

# Decide about the events of one slot.  %$c is what consume_once() was given.
# Returns what is done, what is skipped, and statements to say what is not.
sub decide
{
	my ($c, $claim, @events) = @_;
	my (@done, @skipped, @nacks, %held);

	for my $event (@events)
	{
		my ($position, $stream) = @$event[ 3, 4 ];

		# what comes after a failed event of its key is not ours to do
		next if $held{$stream};
		if (rand() >= $c->{nacks}) { push @done, $event; next; }
		my $kind = int rand($c->{policy} eq 'skip' ? 6 : 5);
		my $action = (qw(retry retry retry park skip defer))[$kind];
		my $delay = rand() < 0.5 ? q(, '0') : '';

		push @nacks, "evstore.nack($claim, $position, 'no', '$action'$delay)";
		push @skipped, $event if $action eq 'skip';
		$held{$stream} = 1 if $action ne 'skip' && $c->{policy} ne 'skip';
	}
	return (\@done, \@skipped, @nacks);
}

sub write_results
{
	my ($session, $c, $skipped, @events) = @_;

	return unless @events;
	my $values = join ', ', map { "($_->[3], '$_->[4]', $_->[5])" } @events;
	$session->query(
		qq(INSERT INTO result (subscription, "position", stream, amount, skipped, consumer)
		SELECT '$c->{name}', p, s, a, $skipped, '$c->{consumer}' FROM (VALUES $values) v(p, s, a)));
	return if $skipped eq 'true';
	$session->query(
		qq(INSERT INTO effect AS e SELECT '$c->{name}', s, count(*), sum(a) FROM (VALUES $values) v(p, s, a)
		GROUP BY s ORDER BY s
		ON CONFLICT (subscription, stream) DO UPDATE
		SET n = e.n + excluded.n, amount = e.amount + excluded.amount));
	$session->query(
		qq(SELECT count(evstore.append('derived-' || s, 'derived', jsonb_build_object('amount', 0, 'of', p)))
		FROM (VALUES $values) v(p, s, a) WHERE a % 5 = 0)) if $c->{derive};
	return;
}

# Returns the positions of what has been done.
sub handle_slot
{
	my ($session, $c, @events) = @_;
	my ($slot, $epoch) = @{ $events[0] }[ 0, 1 ];
	my $claim = "'$c->{name}', $slot, $epoch";

	if ($c->{nacks} && rand() < 0.03)
	{
		$session->query("SELECT evstore.nack($claim, $events[-1][3], 'all of it', 'bisect')");
		return ();
	}
	# not always all of it
	splice @events, 1 + int rand @events if $c->{nacks} && rand() < 0.2;
	my $up_to = $events[-1][3];
	my ($done, $skipped, @nacks) = decide($c, $claim, @events);

	write_results($session, $c, 'false', @$done);
	write_results($session, $c, 'true', @$skipped);
	$session->query("SELECT $_") for @nacks;
	if (!@nacks && !@$skipped && rand() < 0.2)
	{
		my $positions = join ',', map { $_->[3] } @$done;
		$session->query("SELECT evstore.ack_events($claim, '{$positions}')");
	}
	# what failed may as well stay where it is for now
	elsif (@$done || @$skipped || rand() < 0.5)
	{
		$session->query("SELECT evstore.ack($claim, $up_to)");
	}
	return map { $_->[3] } @$done;
}

sub is_lost
{
	my ($session, $name, $event) = @_;
	my $error = $session->try("SELECT evstore.extend('$name', $event->[0], $event->[1])");

	return ref $error && $error->{C} eq 'VS007';
}

# Fetch, do, acknowledge.  Returns the number of events given, or an SQLSTATE
# after which all is to be tried again.
#   name, consumer   whose events
#   policy           what becomes of those behind a failed event
#   nacks            share of events that fail (default 0)
#   rollbacks        share of transactions that are rolled back (default 0)
#   max, wait        as for fetch()
#   derive           append events in the same transaction
#   on_claim         is told of slot and epoch
#   on_done          is told of positions, after the commit
sub consume_once
{
	my ($session, %c) = @_;
	my (%slots, %seen);
	my $level = rand() < 0.3 ? 'REPEATABLE READ' : 'READ COMMITTED';

	$c{$_} //= 0 for qw(nacks rollbacks wait);
	$c{max} //= 20;
	$c{policy} //= 'block_key';
	my $ok = eval {
		my $rows = $session->rows(
			qq(SELECT slot, epoch, attempt, "position", stream, data ->> 'amount'
			FROM evstore.fetch('$c{name}', '$c{consumer}', $c{max}, $c{wait})));
		for my $row (@$rows)
		{
			$c{on_claim}->(@$row[ 0, 1 ]) if $c{on_claim} && !$seen{ $row->[0] }++;
			push @{ $slots{ $row->[0] } }, $row;
		}
		return 1 unless @$rows;
		$session->query("BEGIN ISOLATION LEVEL $level");
		my @done = map { handle_slot($session, \%c, @{ $slots{$_} }) } sort { $a <=> $b } keys %slots;
		if (rand() < $c{rollbacks}) { $session->query('ROLLBACK'); return 1; }
		$session->query('COMMIT');
		$c{on_done}->(@done) if $c{on_done};
		1;
	};
	if (!$ok)
	{
		# the claim was lost, or two got in each other's way
		my $error = $@;
		die $error unless $error =~ /^(VS007|40P01|40001|23505)/;
		my $code = $1;
		$session->try('ROLLBACK');
		# who has lost its claim can be too late for the result, too
		die $error if $code eq '23505' && !grep { is_lost($session, $c{name}, $slots{$_}[0]) } keys %slots;
		return $code;
	}
	my $n = 0;
	$n += @$_ for values %slots;
	return $n;
}

# A consumer in a process of its own; it notes "claim|slot|epoch", "got|n", and
# "again|SQLSTATE"; and "done|position|..." if notes_done is set.
sub consume
{
	my ($node, $dbname, $process, %c) = @_;

	return start_process(
		$process,
		sub {
			my ($log) = @_;
			my $session = session($node, $dbname, application_name => $process);
			my %known;

			$c{on_claim} = sub { $log->('claim', @_) unless $known{"@_"}++ };
			$c{on_done} = sub { $log->('done', @_) } if $c{notes_done};
			while (1)
			{
				my $n = consume_once($session, %c);
				if ($n =~ /\D/) { $log->('again', $n); }
				elsif ($n) { $log->('got', $n); }
			}
		});
}

# ---- what must be true ----

# The events of all slots up to a position, with how far the slots are.
sub events_of
{
	my ($up_to) = @_;

	return qq(SELECT t.subscription, t.slot, e.at_position, t.checkpoint, t.cursor
		FROM evstore.subscription_slots t
			CROSS JOIN LATERAL evstore._slot_events(t.subscription, t.slot, 0, $up_to) e);
}

# What was passed though it is neither done nor, at the checkpoint, parked, nor,
# at the cursor, known to have failed.  One statement, so one snapshot.
sub misplaced
{
	my ($session) = @_;
	my $events = events_of('t.cursor');

	return $session->query(
		qq(SELECT x.*, f.state FROM ($events) x
			LEFT JOIN result r ON r.subscription = x.subscription AND r."position" = x.at_position
			LEFT JOIN evstore.failed_events f ON f.subscription = x.subscription AND f."position" = x.at_position
		WHERE r."position" IS NULL
			AND (f."position" IS NULL
				OR (x.at_position <= x.checkpoint AND f.state <> 'parked' AND NOT f.replayed))
		LIMIT 5));
}

# Has a subscription done all there is?
sub drained
{
	my ($session, $name) = @_;
	my $events = events_of('evstore._last_position()');

	return $session->query(
		qq(SELECT count(*) FROM ($events) x
			LEFT JOIN result r ON r.subscription = x.subscription AND r."position" = x.at_position
		WHERE x.subscription = '$name' AND r."position" IS NULL)) == 0;
}

# Results and effects that are not what the events say: lines, none is good.
sub compare_results
{
	my ($session) = @_;
	my $events = events_of('evstore._last_position()');

	return $session->query(
		qq(WITH rebuilt AS (
			SELECT r.subscription, e.stream, count(*)::int AS n, sum((e.data ->> 'amount')::int) AS amount
			FROM evstore.events e JOIN result r ON r."position" = e."position" AND NOT r.skipped
			GROUP BY 1, 2), x AS ($events)
		SELECT 'result', COALESCE(r.subscription, x.subscription), COALESCE(r."position", x.at_position),
			CASE WHEN x.at_position IS NULL THEN 'too much' ELSE 'missing' END
		FROM x FULL JOIN result r ON r.subscription = x.subscription AND r."position" = x.at_position
		WHERE r."position" IS NULL OR x.at_position IS NULL
		UNION ALL
		SELECT 'effect', d.subscription, 0, d.stream FROM (
			(TABLE effect EXCEPT SELECT * FROM rebuilt)
			UNION ALL (SELECT * FROM rebuilt EXCEPT TABLE effect)) d
		LIMIT 10));
}

# Results of a key that are not in the order of its events.
sub disordered
{
	my ($session, @names) = @_;
	my $names = join ', ', map { "'$_'" } @names;

	return $session->query(
		qq(SELECT subscription, stream, "position", previous
		FROM (SELECT r.*, lag(r."position") OVER (PARTITION BY subscription, stream ORDER BY id) AS previous
			FROM result r WHERE subscription IN ($names) AND NOT skipped) x
		WHERE previous > "position" LIMIT 5));
}

1;
