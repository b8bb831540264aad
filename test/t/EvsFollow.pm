# EvsFollow.pm
#
# Writers of all kinds, and followers that must see each committed event exactly
# once, in order.
#
# Writers append singly, in batches, to several streams, with ids; they roll
# back, roll back savepoints, pause in their transactions, are terminated, and
# prepare transactions that another connection finishes (the scripts in
# no_skip/).  Followers read on from the highest position they have seen: with
# read_all() and from the view events, in READ COMMITTED and REPEATABLE READ, in
# a new transaction for each poll and in long ones.  In the end the positions
# that each has got, in the order in which it got them, are those of the table.

package EvsFollow;

use strict;
use warnings;

use Exporter 'import';
use EvsTest;
use FindBin;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(follow_writers);

use constant POLL => 500;    # events a poll at most

my $node;

my $view = 'SELECT position FROM evstore.events WHERE position > %s ORDER BY position LIMIT ' . POLL;
my $read_all = 'SELECT position FROM evstore.read_all(%s, ' . POLL . ')';

# poll: a statement that is given the position; every: polls in a transaction
my @followers = (
	{ name => 'read_all', poll => $read_all },
	{ name => 'read_all, repeatable read', poll => $read_all, every => 1 },
	{ name => 'read_all, one long transaction', poll => $read_all, every => 1e9 },
	{ name => 'events', poll => $view },
	{ name => 'events, prepared', poll => 'EXECUTE follow (%s)' },
	{ name => 'events, repeatable read', poll => $view, every => 1 },
	{ name => 'events, long transactions', poll => 'EXECUTE follow (%s)', every => 20 });

sub start_followers
{
	my ($dbname) = @_;

	foreach my $f (@followers)
	{
		$f->{session} = session($node, $dbname, application_name => $f->{name});
		$f->{session}->query('SET plan_cache_mode = force_generic_plan');
		$f->{session}->query('PREPARE follow (bigint) AS ' . sprintf($view, '$1'));
		@$f{qw(seen last polls unordered in_transaction)} = ([], 0, 0, 0, 0);
	}
	return;
}

sub begin_if_due
{
	my ($f) = @_;

	return unless $f->{every};
	if ($f->{in_transaction} && $f->{polls} % $f->{every} == 0)
	{
		$f->{session}->query('COMMIT');
		$f->{in_transaction} = 0;
	}
	if (!$f->{in_transaction})
	{
		$f->{session}->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
		$f->{in_transaction} = 1;
	}
	return;
}

# All followers at the same time; returns the number of new events.
sub poll_once
{
	my $new = 0;

	foreach my $f (@followers)
	{
		begin_if_due($f);
		$f->{session}->send(sprintf $f->{poll}, $f->{last});
	}
	foreach my $f (@followers)
	{
		my $result = $f->{session}->result;

		die "$f->{name}: $result->{error}{M}\n" if $result->{error};
		$f->{polls}++;
		foreach my $row (@{ $result->{rows} })
		{
			$f->{unordered}++ if $row->[0] <= $f->{last};
			$f->{last} = $row->[0];
			push @{ $f->{seen} }, $row->[0];
			$new++;
		}
	}
	return $new;
}

# pgbench with some of the scripts; returns a harness of IPC::Run
sub start_pgbench
{
	my ($dbname, $clients, $duration, $output, @scripts) = @_;
	my @command = (
		'pgbench', '-n', '-h', $node->host, '-p', $node->port,
		'-c', $clients, '-j', 2, '-T', $duration, '--max-tries', 0,
		map { ('-f', "$FindBin::Bin/no_skip/$_") } @scripts);

	return IPC::Run::start([ @command, $dbname ], '<', \undef, '>', $output, '2>&1');
}

sub is_pgbench_ok
{
	my ($harness, $output, $name) = @_;
	my $ok = $harness->finish;

	ok($ok && $$output !~ /aborted|ERROR/, "$name worked to the end") or diag($$output);
	return;
}

# End some of the prepared transactions, or all.  One that is just being
# prepared is "busy": another time.
sub finish_prepared
{
	my ($finisher, $all) = @_;

	foreach my $row (@{ $finisher->rows('SELECT gid FROM pg_prepared_xacts') })
	{
		my $how = int rand 4;

		$finisher->try(($how == 1 ? 'ROLLBACK' : 'COMMIT') . " PREPARED '$row->[0]'")
		  if $how > 0 || $all;
	}
	return;
}

sub check_followers
{
	my ($dbname, $title) = @_;
	my $committed = $node->safe_psql($dbname, 'SELECT position FROM evstore.event_log ORDER BY 1');
	my $events = () = $committed =~ /^/mg;

	foreach my $f (@followers)
	{
		my $seen = @{ $f->{seen} };

		note "$f->{name}: $seen events in $f->{polls} polls";
		is($f->{unordered}, 0, "$title: $f->{name}: in increasing order");
		ok(join("\n", @{ $f->{seen} }) eq $committed,
			"$title: $f->{name}: all $events committed events and no other");
		$f->{session}->close;
	}
	return $events;
}

# One that is terminated in the middle of its transaction, again and again.
sub next_victim
{
	my ($victim, $finisher, $dbname) = @_;

	if ($victim)
	{
		$finisher->query("SELECT pg_terminate_backend($victim->{pid})");
		eval { $victim->result };
	}
	$victim = session($node, $dbname);
	$victim->query('BEGIN');
	$victim->query(q(SELECT evstore.append('victim-' || pg_backend_pid(), 'Lost')));
	$victim->query('SAVEPOINT a');
	$victim->query(q(SELECT evstore.append('victim-' || pg_backend_pid(), 'Lost')));
	$victim->query(rand() < 0.5 ? 'ROLLBACK TO a' : 'RELEASE a');
	# sometimes while it is at work
	$victim->send(
		q(SELECT evstore.append('victim-' || pg_backend_pid(), 'Lost') FROM generate_series(1, 50)));
	return $victim;
}

# follow_writers($node, $dbname, $seconds, $title): all that in a new store.
sub follow_writers
{
	my ($on, $dbname, $duration, $title) = @_;

	$node = $on;
	new_store($node, $dbname, 1000);
	$node->safe_psql($dbname, q(SELECT evstore.append('w-1', 'First')));
	start_followers($dbname);

	my $finisher = session($node, $dbname);
	my @output = ('', '');
	my @pgbench = (
		start_pgbench(
			$dbname, 8, $duration, \$output[0],
			qw(single.pgbench@3 batch.pgbench@1 several.pgbench@2 ids.pgbench@2 new_stream.pgbench@2
			  rollback.pgbench@2 savepoints.pgbench@3 slow.pgbench@3 serializable.pgbench@2)),
		start_pgbench($dbname, 2, $duration, \$output[1], 'prepare.pgbench'));

	my $victim;
	while (grep { $_->pumpable } @pgbench)
	{
		poll_once();
		finish_prepared($finisher, 0);
		$victim = next_victim($victim, $finisher, $dbname) if rand() < 0.2;
		$_->pump_nb foreach grep { $_->pumpable } @pgbench;
	}
	is_pgbench_ok($pgbench[$_], \$output[$_], "$title: " . (qw(writers preparers))[$_])
	  foreach 0 .. 1;
	finish_prepared($finisher, 1);
	$finisher->query("SELECT pg_terminate_backend($victim->{pid}, 10000)") if $victim;
	$finisher->close;

	# To the end: a REPEATABLE READ view goes on with its next transaction.
	my $idle = 0;
	$idle = poll_once() ? 0 : $idle + 1 while $idle < 25;
	$_->{in_transaction} && $_->{session}->query('COMMIT') foreach @followers;

	my $events = check_followers($dbname, $title);
	cmp_ok($events, '>', 100 * $duration, "$title: there was something to follow");
	is( $node->safe_psql($dbname, 'SELECT check_name, detail FROM evstore.verify() WHERE NOT ok'),
		'', "$title: verify() finds nothing");
	is( $node->safe_psql($dbname,
			"SELECT evstore.safe_position() = evstore._last_position(), evstore._last_position() > $events"),
		't|t', "$title: nothing is in flight, and some positions were burned");
	return;
}

1;
