# Subscriptions in a copy, and on a standby.
#
# A dump takes subscriptions along as its snapshot sees them, in the middle of
# whatever they do.  What consumers write is in the same dump, so in the copy
# everything must come to its end with each event done once.  The same holds
# after the promotion of a standby; and with synchronous replication, nothing
# that a consumer knows to be committed is given to it again.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsChaos;
use EvsTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my $conf = "shared_preload_libraries = 'evstore'\nmax_prepared_transactions = 5\n"
  . "max_connections = 40\nmax_worker_processes = 16\nshared_buffers = 16MB\nfsync = off\n"
  . "evstore.databases = 'busy, quiet_life'\n";
my $node = new_node('origin', init => { allows_streaming => 1 }, conf => $conf);
crash_on_purpose($node);

my $retry = '{"max_attempts": 3, "initial": 0.01, "max": 0.05}';
my @subscriptions = (
	{ name => 'all', slots => 1, options => '{"lease": 5}' },
	{ name => 'group', slots => 3, options => '{"lease": 1}', rollbacks => 0.1 },
	map {
		{ name => $_, slots => 2, nacks => 0.1, policy => $_,
			options => qq({"lease": 5, "on_failure": "$_", "retry": $retry}) }
	} qw(block_key park_key skip));
my @policies = grep { $_->{policy} } @subscriptions;

sub make_store
{
	my ($dbname) = @_;

	new_store($node, $dbname, 200);
	my $session = session($node, $dbname);
	make_result_tables($session);
	$session->query(
		"SELECT evstore.create_subscription('$_->{name}', slots => $_->{slots}, options => '$_->{options}')")
	  for @subscriptions;
	return $session;
}

sub append_some
{
	my ($session, $n) = @_;

	$session->query(
		"SELECT evstore.append('order-' || (random() * 12)::int, 't', jsonb_build_object('amount', i))
		FROM generate_series(1, $n) i");
	return;
}

# All of them in one session, until each has done all there is.
sub come_to_the_end
{
	my ($session, $title) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for my $s (@subscriptions)
	{
		ok( poll(
				sub {
					$session->query("SELECT evstore.replay_parked('$s->{name}')") if $s->{policy};
					consume_once($session, %$s, nacks => 0, consumer => 'last', max => 100) for 1 .. 5;
					drained($session, $s->{name});
				},
				30),
			"$title: $s->{name} comes to its end");
	}
	is(compare_results($session), '', "$title: everything is done once");
	is(disordered($session, qw(all group block_key park_key)), '', "$title: in the order of each key");
	is($session->query('SELECT count(*) FROM evstore.failed_event'), 0, "$title: no failed event is left");
	is($session->query('SELECT check_name FROM evstore.verify() WHERE NOT ok'), '', "$title: the store is sound");
	return;
}

sub run_ok
{
	my ($title, @command) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return $node->command_ok(\@command, $title);
}

sub dump_command
{
	my ($dbname, $file, @options) = @_;

	return ('pg_dump', '--no-sync', '-d', $node->connstr($dbname), '-f', $file, @options);
}

# A copy of a dump, in another database.
sub restore
{
	my ($dbname, $file, @options) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql('postgres', "CREATE DATABASE $dbname");
	run_ok("$dbname is restored",
		$file =~ /sql$/
		? ('psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($dbname), '-f', $file)
		: ('pg_restore', '--exit-on-error', '-d', $node->connstr($dbname), @options, $file));
	return session($node, $dbname);
}

my $state = q(SELECT subscription, slot, epoch, cursor, checkpoint, retrying, waiting, parked
	FROM evstore.subscription_slots ORDER BY 1, 2);
my $failed = q(SELECT subscription, "position", state, key, attempts, reason, behind, replayed, data
	FROM evstore.failed_events ORDER BY 1, 2);
my $definitions = q(SELECT subscription, state, filter, key, slots, next_slots, lease, retry, on_failure, notify
	FROM evstore.subscriptions ORDER BY 1);

# ---- in the middle of a quiet life ----

{
	my $session = make_store('quiet_life');
	append_some($session, 300);
	my @consumers = map { session($node, 'quiet_life') } 0 .. 1;
	for my $i (0 .. 30)
	{
		consume_once($consumers[ $i % 2 ], %$_, consumer => 'c' . $i % 2, nacks => $_->{policy} ? 0.2 : 0)
		  for @subscriptions;
	}
	append_some($session, 300);
	consume_once($consumers[0], %{ $subscriptions[0] }, consumer => 'c0');
	my @given = @{ $consumers[0]->rows(
			"SELECT slot, epoch, position FROM evstore.fetch('group', 'c0', 50)") };
	$session->query(q(SELECT evstore.replay_parked('skip', "position", data => data || '{"edited": true}')
		FROM evstore.parked_events WHERE subscription = 'skip' LIMIT 1));
	$session->query("SELECT evstore.alter_subscription('group', slots => 5)");
	consume_once($consumers[1], %{ $subscriptions[1] }, consumer => 'c1', max => 10);
	# an append in flight at the time of the dump, and a prepared one
	my $open = session($node, 'quiet_life');
	$open->query("BEGIN; SELECT evstore.append('order-1', 't', '{\"amount\": 1}')");
	my $preparer = session($node, 'quiet_life');
	$preparer->query("BEGIN; SELECT evstore.append('order-2', 't', '{\"amount\": 1}'); PREPARE TRANSACTION 'x'");
	$session->query("SELECT evstore.append('order-3', 't', '{\"amount\": 1}')");

	my ($states, $failures) = map { $session->query($_) } $state, $failed;
	my $defined = $session->query($definitions);
	cmp_ok($session->query('SELECT count(*) FROM evstore.subscription_member'), '>', 0,
		'quiet: there are members');
	# what is deferred, too, if the dice wanted it
	is($session->query('SELECT string_agg(DISTINCT state, $$,$$) FROM evstore.failed_events WHERE state <> $$deferred$$'),
		'parked,retry,waiting', 'quiet: failed events of all kinds');
	cmp_ok($session->query('SELECT count(*) FROM evstore.failed_events WHERE edited'), '>', 0,
		'quiet: one with other data');
	like($defined, qr/^group\|draining/m, 'quiet: and the number of slots is being changed');
	run_ok('dump', dump_command('quiet_life', "$tmp/quiet.sql"));
	run_ok('dump -Fc', dump_command('quiet_life', "$tmp/quiet.dump", '-Fc'));
	$open->query('ROLLBACK');
	$preparer->query("ROLLBACK PREPARED 'x'");
	$_->close for $open, $preparer;

	for my $copy ([ 'quiet_plain', "$tmp/quiet.sql" ], [ 'quiet_custom', "$tmp/quiet.dump", '-j2' ])
	{
		my ($dbname, $file, @options) = @$copy;
		my $there = restore($dbname, $file, @options);

		is($there->query($state), $states, "$dbname: slots are where they were");
		is($there->query($failed), $failures, "$dbname: failed events as they were");
		is($there->query($definitions), $defined, "$dbname: definitions as they were");
		is($there->query('SELECT count(*) FROM evstore.subscription_member'), 0, "$dbname: no members");
		is($there->query('SELECT count(*) FROM evstore.subscription_slots WHERE claimed'), 0,
			"$dbname: nobody has a slot");
		is($there->query('SELECT evstore.safe_position() = evstore._last_position()'), 't',
			"$dbname: what was in flight is a hole");
		is(misplaced($there), '', "$dbname: nothing has been passed");
		consume_once($there, %{ $subscriptions[1] }, consumer => 'new');
		# who had the slots at home has not in the copy
		my %theirs = map { $_->[0] => $_ } @given;
		for my $claim (values %theirs)
		{
			next if $there->query("SELECT epoch FROM evstore.subscription_slots
				WHERE subscription = 'group' AND slot = $claim->[0]") == $claim->[1];
			is_error($there, "SELECT evstore.ack('group', $claim->[0], $claim->[1], $claim->[2])", 'VS007',
				qr/has been lost/, "$dbname: a claim of the original is lost");
		}
		append_some($there, 20);
		run_ok("$dbname: dump again", dump_command($dbname, "$tmp/$dbname.again", '-Fc'))
		  if $dbname eq 'quiet_custom';
		come_to_the_end($there, $dbname);
		is($there->query("SELECT slots FROM evstore.subscriptions WHERE subscription = 'group'"), 5,
			"$dbname: the new number of slots has come");
		$there->close;
	}
	my $third = restore('third', "$tmp/quiet_custom.again");
	come_to_the_end($third, 'the copy of a copy');
	$third->close;
	come_to_the_end($session, 'the original');
	$_->close for $session, @consumers;
}

# ---- while appenders and consumers work ----

sub start_writer
{
	my ($on, $dbname, $n) = @_;

	return start_process(
		"writer_$n",
		sub {
			my $session = session($on, $dbname);
			while (1)
			{
				my $ok = eval {
					$session->query('BEGIN');
					append_some($session, 1 + int rand 5);
					$session->query(rand() < 0.2 ? 'ROLLBACK' : 'COMMIT');
				};
				next if defined $ok;
				# streams in any order
				die $@ unless $@ =~ /^40P01/;
				$session->query('ROLLBACK');
			}
		});
}

sub start_all
{
	my ($on, $dbname, %more) = @_;

	return (
		start_writer($on, $dbname, 1),
		start_writer($on, $dbname, 2),
		map { consume($on, $dbname, "$_->{name}_1", %$_, consumer => 'c1', wait => 50, %more) }
		  @subscriptions);
}

# Notes of all that were started; none may have ended for a reason of its own.
sub end_all
{
	my ($title, @processes) = @_;
	my (%notes, @bad);

	for my $process (@processes)
	{
		my @lines = finish_process($process, 'TERM');
		my $why = (pop @lines)->[1] // '';
		push @bad, "$process->{name}: $why" unless is_end_of_server($why);
		$notes{ $process->{name} } = \@lines;
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(join("\n", @bad), '', "$title: consumers and writers worked to the end");
	return \%notes;
}

sub wait_for_progress
{
	my ($n, @processes) = @_;

	return poll(sub { my $got = 0; $got += lines_of($_, '^got') for @processes; $got >= $n; });
}

my $busy = make_store('busy');
{
	my @processes = start_all($node, 'busy');
	my %formats = (plain => [], custom => ['-Fc'], directory => [ '-Fd', '-j2' ]);

	for my $how (qw(plain custom directory))
	{
		my $file = "$tmp/busy_$how" . ($how eq 'plain' ? '.sql' : '');

		ok(wait_for_progress(60, @processes), "$how: there is progress");
		# half way from some slots to others
		$busy->query("SELECT evstore.alter_subscription('group', slots => 2 + (random() * 4)::int)");
		run_ok("dump while they work: $how", dump_command('busy', $file, @{ $formats{$how} }));
	}
	end_all('busy', @processes);
	for my $how (qw(plain custom directory))
	{
		my $there = restore("busy_$how", "$tmp/busy_$how" . ($how eq 'plain' ? '.sql' : ''),
			$how eq 'plain' ? () : '-j2');

		is(misplaced($there), '', "busy_$how: nothing has been passed");
		append_some($there, 10);
		come_to_the_end($there, "busy_$how");
		$there->close;
	}
	is(misplaced($busy), '', 'busy: nothing has been passed');
	come_to_the_end($busy, 'busy');
}

# ---- a standby ----

$node->safe_psql('postgres', "DROP DATABASE $_ WITH (FORCE)")
  for qw(quiet_plain quiet_custom third busy_plain busy_custom busy_directory);
# its dispatcher is not started, so no safe position is recorded
new_store($node, 'unrecorded');
$node->safe_psql('unrecorded',
	"SELECT evstore.create_subscription('s'); SELECT evstore.append('a-1', 'x')");

sub new_standby
{
	my ($primary, $name) = @_;
	my $standby = PostgreSQL::Test::Cluster->new($name);

	$primary->backup($name);
	$standby->init_from_backup($primary, $name, has_streaming => 1);
	$standby->append_conf('postgresql.conf', "synchronous_standby_names = ''\n");
	$standby->start;
	crash_on_purpose($standby);
	return $standby;
}

sub caught_up
{
	my ($primary, $standby) = @_;

	return $primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
}

my $standby = new_standby($node, 'first_standby');
my $waiting = session($node, 'busy');
my $given;
append_some($busy, 5);
# who had the slot may be on its way out yet
poll(sub { $given = $waiting->rows("SELECT slot, epoch, position FROM evstore.fetch('all', 'c1')"); @$given });
$busy->query('SELECT evstore.record_safe_position()');
caught_up($node, $standby);
{
	my $on = session($standby, 'busy');
	my $claim = "'all', $given->[0][0], $given->[0][1]";
	my %writes = (
		fetch => "SELECT * FROM evstore.fetch('all', 'c2')",
		'fetch that waits' => "SELECT * FROM evstore.fetch('all', 'c2', wait_ms => 100)",
		'wait_for_events' => "CALL evstore.wait_for_events('all', 100)",
		ack => "SELECT evstore.ack($claim, $given->[0][2])",
		ack_events => "SELECT evstore.ack_events($claim, '{$given->[0][2]}')",
		nack => "SELECT evstore.nack($claim, $given->[0][2])",
		extend => "SELECT evstore.extend($claim)",
		release => "SELECT evstore.release('all', 'c1')",
		create_subscription => "SELECT evstore.create_subscription('new')",
		seek => "SELECT evstore.seek('all', 'end')",
		replay_parked => "SELECT evstore.replay_parked('skip')",
		start => 'SELECT evstore.start()');
	for my $name (sort keys %writes)
	{
		is_error($on, $writes{$name}, '25006',
			qr/cannot execute .* (in a read-only transaction|during recovery)/,
			"standby: $name is a clear error");
	}
	for my $view (qw(subscriptions subscription_slots failed_events parked_events workers))
	{
		ok(!ref $on->try("SELECT * FROM evstore.$view"), "standby: the view $view can be read");
	}
	is($on->query($state), $busy->query($state), 'standby: and says what the primary says');
	is($on->query("SELECT lag_events FROM evstore.subscriptions WHERE subscription = 'all'"), 5,
		'standby: the lag is known');
	$on->close;
	my $unrecorded = session($standby, 'unrecorded');
	for my $view (qw(subscriptions subscription_slots failed_events))
	{
		my $result = $unrecorded->try("SELECT * FROM evstore.$view");
		ok(!ref $result, "standby without a recorded safe position: the view $view can be read")
		  or diag($result->{M});
	}
	$unrecorded->close;
}
$waiting->close;

# ---- promotion, after asynchronous replication ----

{
	my @processes = start_all($node, 'busy');

	ok(wait_for_progress(200, @processes), 'asynchronous: there is progress');
	$busy->close;
	$node->stop('immediate');
	$standby->promote;
	end_all('asynchronous', @processes);
	$busy = session($standby, 'busy');
	is(misplaced($busy), '', 'asynchronous: nothing has been passed on the new primary');
	is_error($busy, "SELECT evstore.ack('all', $given->[0][0], $given->[0][1], $given->[0][2])", 'VS007',
		qr/has been lost/, 'asynchronous: a claim from before that was replaced is lost');
	@processes = start_all($standby, 'busy');
	ok(wait_for_progress(50, @processes), 'asynchronous: consumers go on on the new primary');
	end_all('on the new primary', @processes);
	come_to_the_end($busy, 'asynchronous');
}

# ---- promotion, after synchronous replication ----

{
	my $primary = $standby;
	my $second = new_standby($primary, 'second_standby');

	$primary->append_conf('postgresql.conf', "synchronous_standby_names = '*'\n");
	$primary->reload;
	poll(sub { $busy->query('SELECT sync_state FROM pg_stat_replication') eq 'sync' });
	# a statement that waits shows that the setting has arrived
	$busy->query("SELECT evstore.append('order-1', 't', '{\"amount\": 1}')");
	my @processes = start_all($primary, 'busy', notes_done => 1);
	ok(wait_for_progress(200, @processes), 'synchronous: there is progress');
	$busy->close;
	$primary->stop('immediate');
	$second->promote;
	my $notes = end_all('synchronous', @processes);
	$busy = session($second, 'busy');
	is(misplaced($busy), '', 'synchronous: nothing has been passed on the new primary');

	my (@lost, $known);
	for my $s (@subscriptions)
	{
		my %there = map { $_->[0] => 1 } @{ $busy->rows(
				qq(SELECT "position" FROM result WHERE subscription = '$s->{name}')) };
		for my $note (grep { $_->[0] eq 'done' } @{ $notes->{"$s->{name}_1"} })
		{
			my (undef, @positions) = @$note;
			$known += @positions;
			push @lost, grep { !$there{$_} } @positions;
		}
	}
	cmp_ok($known, '>', 100, 'synchronous: consumers knew of commits');
	is("@lost", '', 'synchronous: of which none is lost, so none comes again');
	come_to_the_end($busy, 'synchronous');
	$busy->close;
	$second->stop;
}

done_testing();
