# Nothing acknowledged is lost, and nothing else is half there, whenever the
# server is killed.
#
# In each round four writers and a follower work until something is killed with
# SIGKILL: the postmaster with all its children, the postmaster alone, or one
# child, which makes the postmaster restart all others.  A writer notes each
# append before it is sent and again after the server has acknowledged it.  After
# recovery the log must hold exactly what these notes allow:
#
#   - everything acknowledged, at the acknowledged position and version
#   - of each other append all of its events or none; a retry then gives exactly
#     one copy of it
#   - what the follower has seen, without a gap, and nothing else below that
#
# Partitions are tiny, so that their making is hit too; every other round aims
# at the worker that makes them.  The last rounds run with synchronous_commit
# off: then what was acknowledged may be lost, but all the rest holds.
#
# EVS_CRASH_ROUNDS   number of rounds (default 200)
# EVS_CRASH_SEED     repeats the choices of a run, though not its timing

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use Digest::MD5 qw(md5_hex);
use EvsTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use constant {
	WRITERS => 4,
	ROUNDS_PER_STORE => 25,    # a new database then, so that stores stay small
	PARTITION_SIZE => 40,
};

my $rounds = $ENV{EVS_CRASH_ROUNDS} || 200;
my $async_rounds = int($rounds / 10);
my $seed = $ENV{EVS_CRASH_SEED} || int rand 1e9;
srand $seed;
note "EVS_CRASH_SEED=$seed";

my $node = new_node(
	'crash',
	started => 0,
	conf => q(
fsync = on
restart_after_crash = on
recovery_init_sync_method = syncfs
max_worker_processes = 16
max_prepared_transactions = 5
shared_buffers = 16MB
log_min_messages = warning
log_checkpoints = off
));
crash_on_purpose($node);

# The current store: what has been noted, and what is known to be there.
my $store;
my %totals = map { $_ => 0 } qw(appended acknowledged retried seen lost aimed
  deadlocks);
my %kills;

# ---- appends: what a writer does, in a form that can be repeated ----

# A UUID that is the same in a retry: of version 7 or 4 by turns.
sub event_id
{
	my ($tag, $n, $made) = @_;
	my $hex = md5_hex("$store->{name} $tag $n");

	return join '-',
	  $made
	  ? unpack('A8 A4', sprintf('%012x', $made * 1000))
	  : unpack('A8 A4', $hex),
	  ($made ? '7' : '4') . substr($hex, 12, 3), '8' . substr($hex, 16, 3),
	  substr($hex, 20);
}

# Events as JSON; the ids go into @$ids.
sub events
{
	my ($tag, $from, $n, $made, $ids) = @_;
	my @events;

	for my $i ($from .. $from + $n - 1)
	{
		push @$ids, event_id($tag, $i, $made);
		push @events, qq({"type": "t", "event_id": "$ids->[-1]", )
		  . qq("data": {"tag": "$tag", "n": $i}});
	}
	return '[' . join(', ', @events) . ']';
}

# The next append of a writer.  A hash of
#   tag   what all of its events carry
#   sql   statements; the last one is the one whose end is the acknowledgement
#   ids   of its events, in the order of the streams' names and then of versions
#   fate  "keep", or "abort" for one that is rolled back
sub next_append
{
	my ($writer, $k) = @_;
	my $tag = "$writer-$k";
	my $made = rand() < 0.5 ? time : 0;
	my @ids;
	my $own = "own-$writer";
	my $new = "new-$tag";
	my $shared = 'shared-' . int rand 3;
	my $kind = int rand 8;
	my ($fate, @sql) = ('keep');

	if ($kind == 0)
	{
		my $id = event_id($tag, 0, $made);
		@ids = ($id);
		@sql = (qq(SELECT '$own', version, version, position FROM evstore.append(
			'$own', 't', '{"tag": "$tag", "n": 0}', event_id => '$id')));
	}
	elsif ($kind == 1)
	{
		my $id = event_id($tag, 0, $made);
		@ids = ($id);
		@sql = (qq(SELECT '$new', version, version, position FROM evstore.append(
			'$new', 't', '{"tag": "$tag", "n": 0}', expected_version => -1, event_id => '$id')));
	}
	elsif ($kind <= 3)
	{
		my $stream = $kind == 2 ? $own : $shared;
		my $events = events($tag, 0, 2 + int rand 12, $made, \@ids);
		@sql = ("SELECT '$stream', * FROM evstore.append_events('$stream', '$events')");
	}
	elsif ($kind == 4)
	{
		my @appends;
		for my $stream ($new, $own, 'shared-0', 'shared-1')
		{
			my $events = events($tag, scalar @ids, 1 + int rand 3, $made, \@ids);
			push @appends, qq({"stream": "$stream", "events": $events});
		}
		@sql = ("SELECT * FROM evstore.append_streams('["
			  . join(', ', @appends)
			  . "]') ORDER BY stream");
	}
	else
	{
		# several appends in one transaction, a savepoint rolled back between
		my $first = events($tag, 0, 3, $made, \@ids);
		@sql = (
			'BEGIN',
			"SELECT '$own', * FROM evstore.append_events('$own', '$first')",
			'SAVEPOINT s',
			qq(SELECT FROM evstore.append('$shared', 't', '{"tag": "undone"}')),
			'ROLLBACK TO s');
		if ($kind == 5)
		{
			my $second = events($tag, 3, 2, $made, \@ids);
			push @sql, "SELECT '$shared', * FROM evstore.append_events('$shared', '$second')";
		}
		$fate = 'abort' if $kind == 7;
		push @sql, $fate eq 'abort' ? 'ROLLBACK' : 'COMMIT';
	}
	return { tag => $tag, sql => \@sql, ids => \@ids, fate => $fate };
}

# Run the statements; the rows that say what was appended.
sub run_append
{
	my ($session, $append) = @_;
	my @rows;

	for my $sql (@{ $append->{sql} })
	{
		push @rows, grep { @$_ == 4 } @{ $session->rows($sql) };
	}
	return @rows;
}

# ---- processes ----

# Run in a process of its own until the server is lost.  What it did comes back
# as lines, also when this process fails, with the reason as the last line.
sub start_process
{
	my ($name, $body) = @_;
	my $file = "$PostgreSQL::Test::Utils::tmp_check/$name.log";

	unlink $file;
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		open my $log, '>>', $file or die "$file: $!";
		srand $seed + $$;
		eval {
			$body->(sub { syswrite $log, join('|', @_) . "\n" });
		};
		my $why = $@;
		chomp $why;
		syswrite $log, "end|$why\n";
		POSIX::_exit(0);
	}
	return { pid => $pid, file => $file };
}

sub finish_process
{
	my ($process) = @_;

	waitpid $process->{pid}, 0;
	return map { [ split /\|/ ] } split /\n/, slurp_file($process->{file});
}

sub writer
{
	my ($writer, $first) = @_;
	my @appends;

	return start_process(
		"writer_$writer",
		sub {
			my ($log) = @_;
			my $session = session($node, $store->{name});

			for (my $k = $first;; $k++)
			{
				my $append = next_append($writer, $k);
				$log->('sent', $k, $append->{tag}, $append->{fate},
					join(' ', @{ $append->{ids} }),
					join("\001", map { s/\s+/ /gr =~ s/\|/\002/gr } @{ $append->{sql} }));
				my @rows;
				# who makes a partition inside its own transaction can be in a
				# deadlock, with a retry as the remedy
				until (eval { @rows = run_append($session, $append); 1 })
				{
					die $@ unless $@ =~ /^40P01/;
					$session->try('ROLLBACK');
					$log->('deadlock', $k);
				}
				$log->('done', $k, map { join ',', @$_ } @rows);
			}
		});
}

sub follower
{
	my ($after) = @_;

	return start_process(
		'follower',
		sub {
			my ($log) = @_;
			my $session = session($node, $store->{name});

			while (1)
			{
				for my $row (@{ $session->rows(
						"SELECT position, event_id FROM evstore.read_all($after, 50)") })
				{
					$log->('seen', @$row);
					$after = $row->[0];
				}
			}
		});
}

# ---- killing ----

# The first child that answers a description, if it comes soon.
sub wait_for_child
{
	my ($postmaster, $pattern, $seconds) = @_;

	return poll(
		sub {
			for my $pid (children($postmaster))
			{
				return $pid if title($pid) =~ $pattern;
			}
			return 0;
		},
		$seconds);
}

sub kill_something
{
	my ($round) = @_;
	my $postmaster = $node->{_pid};
	my $aim = $round % 2;
	my $worker = $aim && wait_for_child($postmaster, qr/partition worker/, 2);
	my $way = int rand 3;
	my $what;

	if ($way < 2)
	{
		my @children = frozen_children($postmaster);
		kill 'KILL', $postmaster;
		if ($way == 0)
		{
			$what = 'everything';
			kill 'KILL', @children;
		}
		else
		{
			$what = 'the postmaster';
			# those that are busy notice only when they are done
			poll(sub { !grep { is_running($_) } @children }, 1)
			  or kill 'KILL', @children;
		}
	}
	else
	{
		my @backends = grep { title($_) =~ /crash_\d+ \[local\]/ } children($postmaster);

		$what = 'a backend';
		if ($worker)
		{
			# it may have ended by itself in the meantime, and nothing crashes then
			kill 'KILL', $worker;
			$what = 'the partition worker'
			  if poll(sub { !grep { is_running($_) } @backends }, 2);
		}
		kill 'KILL', $backends[ rand @backends ] if $what eq 'a backend';
	}
	$kills{$what}++;
	$totals{aimed}++ if $worker;
	return $way == 2;
}

# The postmaster is our own child, so that it is waited for at once: a lock file
# counts as long as its process has not been.
sub start_postmaster
{
	my $pid = fork // die "fork: $!";

	if ($pid == 0)
	{
		open STDOUT, '>>', $node->logfile;
		open STDERR, '>&', \*STDOUT;
		delete @ENV{qw(PGAPPNAME PGHOST PGPORT PGDATABASE)};
		exec 'postgres', '-D', $node->data_dir, '--cluster-name=crash';
	}
	$node->{_pid} = $pid;
	return;
}

# A session on the recovered server.
sub wait_until_up
{
	my ($restarts_itself) = @_;

	if (!$restarts_itself)
	{
		waitpid $node->{_pid}, 0;
		start_postmaster();
	}
	return poll(
		sub {
			# memory of the old one's children may have been in use
			start_postmaster() if waitpid($node->{_pid}, POSIX::WNOHANG()) > 0;
			return eval { session($node, $store->{name}) };
		}) || die 'the server does not come back';
}

# ---- what must be true afterwards ----

my @problems;

sub problem
{
	push @problems, "$store->{name}: $_[0]" if @problems < 20;
	return;
}

# Everything stored, or what is new.
sub load_events
{
	my ($session) = @_;
	my $rows = $session->rows(
		"SELECT position, stream, version, event_id, data ->> 'tag', data ->> 'n'
		 FROM evstore.events_uncapped WHERE position > $store->{checked}
		 ORDER BY position");

	for my $row (@$rows)
	{
		my ($position, $stream, $version, $id, $tag, $n) = @$row;
		my $known = $store->{by_id}{$id};

		problem("event $id twice") if $known;
		$store->{by_id}{$id} = { position => $position, stream => $stream,
			version => $version, tag => $tag };
		$store->{id_at}{$position} = $id;
		$store->{count}{$tag}++;
		$store->{events}++;
		my $next = $store->{next_version}{$stream} // 0;
		problem("stream $stream: version $version where $next is next")
		  if $version != $next;
		$store->{next_version}{$stream} = $version + 1;
		problem("an event of a savepoint that was rolled back at $position")
		  if $tag eq 'undone';
	}
	$store->{checked} = $rows->[-1][0] if @$rows;
	return;
}

# Is what was acknowledged there?  Rows are stream, first version, last version
# and position of the last event.
sub check_acknowledged
{
	my ($append, @rows) = @_;
	my @ids = @{ $append->{ids} };

	for my $row (@rows)
	{
		my ($stream, $first, $last, $position) = @$row;
		for my $version ($first .. $last)
		{
			my $event = $store->{by_id}{ shift @ids };
			if (!$event)
			{
				problem("$append->{tag}: acknowledged, but lost");
			}
			elsif ($event->{stream} ne $stream || $event->{version} != $version
				|| ($version == $last && $event->{position} != $position))
			{
				problem("$append->{tag}: acknowledged as $stream $version at $position,"
					  . " is $event->{stream} $event->{version} at $event->{position}");
			}
		}
	}
	problem("$append->{tag}: acknowledged without all of its ids") if @ids;
	return;
}

# All or nothing.
sub check_whole
{
	my ($append) = @_;
	my $count = $store->{count}{ $append->{tag} } // 0;
	my $full = @{ $append->{ids} };

	problem("$append->{tag}: $count of $full events")
	  if $count != 0 && $count != $full;
	problem("$append->{tag}: rolled back, but there")
	  if $append->{fate} eq 'abort' && $count;
	return $count;
}

# A writer's notes.
sub check_writer
{
	my ($writer, $async, @notes) = @_;
	my ($append, @unfinished);

	for my $note (@notes)
	{
		my ($what, $k, @rest) = @$note;
		if ($what eq 'sent')
		{
			my ($tag, $fate, $ids, $sql) = @rest;
			$append = { tag => $tag, fate => $fate, ids => [ split ' ', $ids ],
				sql => [ map { s/\002/|/gr } split /\001/, $sql ] };
			$store->{next_k}{$writer} = $k + 1;
			$totals{appended}++;
			check_whole($append);
		}
		elsif ($what eq 'done')
		{
			my $lost = !$store->{count}{ $append->{tag} };
			if ($append->{fate} eq 'keep' && $async && $lost) { $totals{lost}++; }
			elsif ($append->{fate} eq 'keep')
			{
				check_acknowledged($append, map { [ split /,/ ] } @rest);
				$totals{acknowledged}++;
			}
			$append = undef;
		}
		elsif ($what eq 'deadlock') { $totals{deadlocks}++; }
		elsif ($k !~ /^(lost|no server)$|terminating connection|not yet accepting/
			&& $k !~ /in recovery mode|starting up|shutting down/)
		{
			problem("writer $writer: $k");
		}
	}
	return $append && $append->{fate} eq 'keep' ? $append : ();
}

# Nothing seen has changed, and nothing was passed over.
sub check_follower
{
	my ($async, @notes) = @_;
	my $from = $store->{follower};
	my %seen;

	for my $note (grep { $_->[0] eq 'seen' } @notes)
	{
		my (undef, $position, $id) = @$note;
		problem("the follower went back to $position")
		  if $position <= $store->{follower};
		$store->{follower} = $position;
		$seen{$position} = $id;
		$totals{seen}++;
	}
	if ($async)
	{
		# what it saw can be gone, and the positions in use again
		$store->{follower} = $store->{checked};
		return;
	}
	for my $position ($from + 1 .. $store->{follower})
	{
		my $is = $store->{id_at}{$position} // 'nothing';
		my $was = $seen{$position} // 'nothing';
		problem("position $position: the follower saw $was, there is $is")
		  if $is ne $was;
	}
	return;
}

# Repeat what was not acknowledged: one copy afterwards, whether it was there
# already or not.
sub retry
{
	my ($session, @appends) = @_;
	my %results;

	# what is counted from here on must not be lost with the next kill
	$session->query('SET synchronous_commit = on');
	for my $append (@appends)
	{
		my @rows = eval { run_append($session, $append) };
		problem("$append->{tag}: the retry failed: $@") if $@;
		$results{ $append->{tag} } = \@rows;
		$totals{retried}++;
	}
	load_events($session);
	for my $append (@appends)
	{
		problem("$append->{tag}: nothing after the retry") unless check_whole($append);
		check_acknowledged($append, @{ $results{ $append->{tag} } });
	}
	return;
}

sub check_store
{
	my ($session) = @_;

	my $bad = $session->query(
		'SELECT check_name, detail FROM evstore.verify() WHERE NOT ok');
	problem("verify: $bad") if $bad ne '';
	my ($safe, $last, $events, $loose) = @{ $session->rows(
		q(SELECT evstore.safe_position(), evstore._last_position(),
			(SELECT count(*) FROM evstore.events_uncapped),
			(SELECT count(*) FROM pg_class WHERE relname ~ '^event_log_\d+$'
				AND NOT relispartition)))->[0] };
	problem("safe position $safe, last position $last, and nothing in flight")
	  if $safe != $last;
	problem("$events events, $store->{events} expected")
	  if $events != $store->{events};
	problem("$loose partitions made but not attached") if $loose;
	return;
}

# ---- rounds ----

sub begin_store
{
	my ($n) = @_;
	my $name = new_store($node, "crash_$n", PARTITION_SIZE);

	return { name => $name, events => 0, checked => 0, follower => 0 };
}

sub acknowledged
{
	my (@writers) = @_;
	my $n = 0;

	for my $writer (@writers)
	{
		open my $file, '<', $writer->{file} or next;
		$n += grep { /^done/ } <$file>;
	}
	return $n;
}

sub round
{
	my ($round, $async) = @_;
	my @writers = map { writer($_, $store->{next_k}{$_} // 0) } 1 .. WRITERS;
	my $follower = follower($store->{follower});
	my $enough = 1 + int rand 60;

	poll(sub { acknowledged(@writers) >= $enough }, 60)
	  or problem("no progress in round $round");
	my $restarts_itself = kill_something($round);
	my @notes = map { [ finish_process($_) ] } @writers;
	my @seen = finish_process($follower);
	my $session = wait_until_up($restarts_itself);

	load_events($session);
	my @unfinished = map { check_writer($_ + 1, $async, @{ $notes[$_] }) } 0 .. $#notes;
	check_follower($async, @seen);
	retry($session, @unfinished);
	check_store($session);
	$session->close;
	return;
}

start_postmaster();
poll(sub { eval { session($node, 'postgres') } }) or die 'no server';

my $round = 0;
for my $part ([ $rounds - $async_rounds, 0 ], [ $async_rounds, 1 ])
{
	my ($n, $async) = @$part;

	next unless $n;
	$node->safe_psql('postgres',
			'ALTER SYSTEM SET synchronous_commit = '
		  . ($async ? 'off' : 'on'));
	$node->reload;
	for my $i (0 .. $n - 1)
	{
		if ($i % ROUNDS_PER_STORE == 0)
		{
			if ($store)
			{
				is(scalar @problems, 0, "$store->{name}: all is well after round $round");
				diag($_) for @problems;
				@problems = ();
			}
			$store = begin_store($round);
		}
		round($round++, $async);
		last if @problems;
	}
	my $how = $async ? 'off' : 'on';
	is(scalar @problems, 0, "synchronous_commit = $how: all is well after round $round");
	diag($_) for @problems;
	last if @problems;
	$store = undef;
}

is($round, $rounds, 'all rounds were run');
note join ', ', map { "$totals{$_} $_" } sort keys %totals;
note join ', ', map { "$_: $kills{$_}" } sort keys %kills;
if ($rounds >= 50)
{
	cmp_ok(keys %kills, '==', 4, 'each way of killing was used');
	cmp_ok($totals{retried}, '>', 0, 'appends were cut off and repeated');
	cmp_ok($totals{seen}, '>', 0, 'a follower was there');
}

done_testing();
