# Relays send each event at least once, those of a key in order, whatever is killed
# and when; and nothing that a crash has taken back.
#
# Writers append to some streams, singly, in batches and in transactions that are
# rolled back, with and without waiting for the log.  Six relays send all of it to
# doubles that write down what arrives; scripts let messages fail at some positions,
# for a while or for ever.  In each round something is killed with SIGKILL: everything,
# the postmaster, or a relay's worker.
#
#   - what arrived is in the log, with the same id and position: it was durable
#   - nothing is missing but what the scripts make permanent, and what waits for that
#   - the last arrivals of each key are in order; the first ones, too, where a message
#     goes out after the one before it was acknowledged
#   - there, too, a message comes twice only if there was a crash in between
#
# EVS_ROUNDS       number of rounds (default 5)
# EVS_CHAOS_SEED   repeats the choices of a run, though not its timing

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsChaos;
use EvsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = $ENV{EVS_ROUNDS} || 5;
my $seed = $ENV{EVS_CHAOS_SEED} || int rand 1e9;
srand $seed;
note "EVS_CHAOS_SEED=$seed";

# commits that do not wait for the log stay out of it for long
my $node = new_node(
	'relay_crash',
	started => 0,
	conf => "shared_preload_libraries = 'evstore'\nfsync = off\nrestart_after_crash = on\n"
	  . "max_worker_processes = 20\nmax_connections = 30\nshared_buffers = 32MB\nevstore.max_workers = 8\n"
	  . "wal_writer_delay = 10s\nwal_writer_flush_after = 0\nlog_checkpoints = off\n");
crash_on_purpose($node);
run_postmaster($node);
wait_for_server($node, 'postgres')->close;
my $db = new_store($node, 'store');
my $streams = 6;

# ---- relays ----

my %permanent = map { $_ => [ map { 1 + int rand 400 } 1 .. 5 ] } qw(park skip block);

# Positions at which something happens, each time the sink is opened.
sub script
{
	my (@permanent) = @_;
	my @entries = map { "$_:permanent*0" } @permanent;

	push @entries, sprintf '%d:retry*%d', 1 + rand 1000, 1 + rand 3 for 1 .. 50;
	push @entries, sprintf '%d:outage', 1 + rand 1000 for 1 .. 20;
	return join ',', @entries;
}

my %relays = (
	gated => [ 'gated', 'block_key', 0 ],
	quick => [ 'gated', 'block_key', 0, '"in_flight": 2, "batch_size": 10' ],
	pipe => [ 'double', 'block_key', 1 ],
	park => [ 'gated', 'park_key', 0 ],
	block => [ 'gated', 'block_key', 0 ],
	skip => [ 'double', 'skip', 1 ]);
my $session = session($node, $db);
for my $name (sort keys %relays)
{
	my ($sink, $policy, $delay, $more) = @{ $relays{$name} };
	my $script = script(@{ $permanent{$name} // [] });

	$more = $more ? ", $more" : '';
	$session->query(qq(SELECT evstore.create_relay('$name', '$sink',
		'{"record": "$name", "script": "$script", "delay": $delay}', '{}', 'beginning',
		'{"on_failure": "$policy", "retry": {"max_attempts": 1000, "initial": 0.01, "max": 0.05},
		  "circuit": {"failures": 3, "open_for": 0.05, "max_open_for": 0.1}$more}')));
}
$session->close;

sub lines_arrived
{
	my ($name) = @_;
	my $file = $node->data_dir . "/evstore_relay/$name";

	return -e $file ? [ map { [ split / / ] } split /\n/, slurp_file($file) ] : [];
}

# ---- writers ----

sub write_events
{
	my ($number) = @_;

	return start_process(
		"writer_$number",
		sub {
			my ($note) = @_;
			my $writer = session($node, $db);

			$writer->query('SET synchronous_commit = off') if $number % 2;
			for (1 .. 250)
			{
				my $stream = 'k-' . int rand $streams;
				my $kind = rand;

				$writer->query(
					$kind < 0.6 ? "SELECT FROM evstore.append('$stream', 't', '{}')"
					: $kind < 0.8 ? "SELECT FROM evstore.append_arrays('$stream', ARRAY['t', 't', 't'])"
					: "BEGIN; SELECT FROM evstore.append('$stream', 't', '{}'); "
					  . (rand() < 0.5 ? 'ROLLBACK' : 'COMMIT'));
				$note->('appended');
			}
		});
}

# ---- rounds ----

my %crashes = map { $_ => [] } keys %relays;
my %killed;

for my $round (1 .. $rounds)
{
	my @writers = map { write_events($_) } $round % 2 ? (1, 3) : (1, 2);
	my $what = (qr/evstore relay/, 'everything', 'postmaster')[ $round % 3 ];
	my $before = @{ lines_arrived('gated') };
	my $enough = 20 + int rand 100;

	poll(sub { @{ lines_arrived('gated') } >= $before + $enough }, 30) or diag('nothing arrives');
	my %from = map { $_ => scalar @{ lines_arrived($_) } } keys %relays;
	# a session by which kill_server() sees that all have ended, if the writers are done
	my $witness = session($node, $db);
	poll(sub { kill_server($node, $what) }) or die 'nothing to kill';
	$killed{$what}++;
	finish_process($_, 'TERM') for @writers;
	wait_for_server($node, $db)->close;
	push @{ $crashes{$_} }, [ $from{$_}, scalar @{ lines_arrived($_) } ] for keys %relays;
}
cmp_ok(scalar keys %killed, '>=', $rounds < 3 ? $rounds : 3, 'something was killed in each way');

# ---- what is not durable yet ----

# Nothing writes the log but who must: its writer is stopped, and relays are held before
# they write down what they have sent.
{
	my $holder = wait_for_server($node, $db);
	my $writer = session($node, $db, options => '-c synchronous_commit=off');
	my ($log_writer) = grep { title($_) =~ /walwriter/ } children($node->{_pid});

	ok(poll(sub { $holder->query(q(SELECT sum(lag_events) FROM evstore.relays WHERE relay <> 'block')) eq '0' }), 'relays are idle');
	$holder->query(q(SELECT pg_advisory_lock(hashtextextended('evstore.relay_checkpoint', 0))));
	kill 'STOP', $log_writer;
	my ($position) = $writer->query(q(SELECT position FROM evstore.append('async-1', 't', '{}')));
	# those that had something to write down are held already
	ok(poll(sub { grep { $_->[0] == $position } map { @{ lines_arrived($_) } } keys %relays }), 'an event that was committed asynchronously is sent');
	my %from = map { $_ => scalar @{ lines_arrived($_) } } keys %relays;
	kill_server($node, 'everything');
	my $after = wait_for_server($node, $db);
	push @{ $crashes{$_} }, [ $from{$_}, scalar @{ lines_arrived($_) } ] for keys %relays;
	is($after->query("SELECT count(*) FROM evstore.events_uncapped WHERE position = $position"), '1', '... and which a crash does not take back');
	$after->close;
}

# ---- what has become of it ----

$session = wait_for_server($node, $db);
my @events = @{ $session->rows('SELECT e.position, e.event_id, e.stream FROM evstore.events e ORDER BY 1') };
my %id = map { $_->[0] => $_->[1] } @events;
cmp_ok(scalar @events, '>', 20 * $rounds, 'events were appended');

# What must be parked, what waits, and what arrives: positions.
sub expected
{
	my ($name) = @_;
	my $policy = $relays{$name}[1];
	my %bad = map { $_ => 1 } @{ $permanent{$name} // [] };
	my (%blocked, %result);

	$result{$_} = [] for qw(parked waiting arrived);
	for (@events)
	{
		my ($position, undef, $stream) = @$_;
		my $what = $policy eq 'skip' ? ($bad{$position} ? 'parked' : 'arrived')
		  : $blocked{$stream} ? ($policy eq 'park_key' ? 'parked' : 'waiting')
		  : $bad{$position} ? 'parked' : 'arrived';

		$blocked{$stream} = 1 if $bad{$position};
		push @{ $result{$what} }, $position;
	}
	return \%result;
}

sub rows_of
{
	my ($name, $state) = @_;

	return $session->query("SELECT string_agg(f.position::text, ' ' ORDER BY f.position) FROM evstore.failed_event f
		JOIN evstore.subscription s ON s.id = f.subscription_id WHERE s.name = '$name' AND f.state = '$state'");
}

sub is_in_order
{
	my (%place) = @_;
	my @positions = sort { $place{$a} <=> $place{$b} } keys %place;

	return join(' ', @positions) eq join ' ', sort { $a <=> $b } @positions;
}

# A pair of lines of the same message, without a crash between them.
sub repeats
{
	my ($name, $lines) = @_;
	my (%last, @found);

	for my $i (0 .. $#$lines)
	{
		my $position = $lines->[$i][0];
		my $before = $last{$position};

		push @found, "$position: lines $before and $i"
		  if defined $before && !grep { $before < $_->[1] && $i >= $_->[0] } @{ $crashes{$name} };
		$last{$position} = $i;
	}
	return join ', ', @found;
}

for my $name (sort keys %relays)
{
	my ($sink, $policy) = @{ $relays{$name} };
	my $expected = expected($name);

	ok( poll(
			sub {
				$session->query("SELECT lag_events + retrying FROM evstore.relays WHERE relay = '$name'") eq '0'
				  && rows_of($name, 'waiting') eq join ' ', @{ $expected->{waiting} };
			}, 60), "$name: it comes to its end")
	  or diag($session->query("SELECT * FROM evstore.relays WHERE relay = '$name'"));

	my $lines = lines_arrived($name);
	is(join(', ', map { $_->[0] } grep { ($id{ $_->[0] } // '') ne $_->[6] } @$lines), '', "$name: what has arrived is in the log");
	my %seen = map { $_->[0] => 1 } @$lines;
	is(rows_of($name, 'parked'), join(' ', @{ $expected->{parked} }), "$name: parked is what was permanent, and what the policy says");
	is(join(' ', sort { $a <=> $b } keys %seen), join(' ', @{ $expected->{arrived} }), "$name: all others have arrived");
	next if $policy eq 'skip';

	my (%first, %last);
	for my $i (0 .. $#$lines)
	{
		my ($position, undef, undef, $key) = @{ $lines->[$i] };

		$first{$key}{$position} //= $i;
		$last{$key}{$position} = $i;
	}
	is(join(' ', grep { !is_in_order(%{ $last{$_} }) } sort keys %last), '', "$name: the last arrivals of each key are in order");
	next if $sink ne 'gated';
	is(join(' ', grep { !is_in_order(%{ $first{$_} }) } sort keys %first), '', "$name: and so are the first");
	is(repeats($name, $lines), '', "$name: nothing comes twice without a crash");
}
is( $session->query(q(SELECT string_agg(relay || ': ' || last_error, ', ') FROM evstore.relays WHERE last_error NOT LIKE 'outage%')),
	'', 'there are no errors but those that are meant');
is($session->query("SELECT string_agg(check_name || ': ' || detail, ', ') FROM evstore.verify() WHERE NOT ok"), '', 'the store is sound');

$session->close;
$node->stop('fast');
done_testing();
