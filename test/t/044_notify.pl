# NOTIFY: gathered by the dispatcher, so that appends do not pay for it; never the
# last one lost.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use Test::More;
use Time::HiRes ();

my $node = new_node('notify',
	conf => "shared_preload_libraries = 'evstore'\nmax_prepared_transactions = 5\n");
new_store($node, 'store');
my $writer = session($node, 'store');

ok( poll(
		sub {
			$writer->query("SELECT state FROM evstore.workers WHERE kind = 'dispatcher'") eq 'running';
		}),
	'the dispatcher runs');

# ---- a listener ----

# Everything that comes until the condition is true, or the time is over:
# a list of [channel, payload, time].
sub notifications
{
	my ($session, $enough, $seconds) = @_;
	my $deadline = Time::HiRes::time() + ($seconds // 30);
	my @got;

	while (Time::HiRes::time() < $deadline && !($enough && $enough->(\@got)))
	{
		my ($type, $body) = eval { $session->read_message(
				$enough ? $deadline : Time::HiRes::time() + 0.2) };
		last if !defined $type && $@ !~ /no answer in time/;
		next unless defined $type && $type eq 'A';
		my ($channel, $payload) = unpack 'x4 Z* Z*', $body;
		push @got, [ $channel, $payload, Time::HiRes::time() ];
	}
	return \@got;
}

sub listener
{
	my $session = session($node, 'store');

	# reading a statement's result passes over notifications
	$session->query("LISTEN \"$_\"") for @_;
	return $session;
}

# Until the channel has told of the position.
sub hears_of
{
	my ($session, $channel, $position, $seconds) = @_;

	return notifications($session,
		sub { (grep { $_->[0] eq $channel && $_->[1] >= $position } @{ $_[0] }) > 0 }, $seconds);
}

# Until both channels have told of the position, each at its own pace.
sub hear_of
{
	my ($session, $position) = @_;

	return notifications(
		$session,
		sub {
			my %told = map { $_->[0] => $_->[1] } @{ $_[0] };
			return 2 == grep { $_ >= $position } values %told;
		});
}

sub channels
{
	my ($got) = @_;
	my %seen = map { $_->[0] => 1 } @$got;

	return join ' ', sort keys %seen;
}

sub append
{
	return $writer->query("SELECT position FROM evstore.append('$_[0]', 'x')");
}

sub set
{
	my ($name, $value) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET $name = $value");
	$node->reload;
	return poll(sub { $writer->query("SHOW $name") eq $value =~ s/'//gr });
}

# Whatever is on its way has come when a later event has been told of.
sub silence
{
	my ($listener, $name) = @_;
	my $position = append('marker-1');
	my $got = hears_of($listener, 'evstore', $position);

	return [ grep { $_->[1] < $position } @$got ];
}

# ---- channels ----

$writer->query(q(SELECT evstore.create_subscription('told', '{"categories": ["order"]}', options => '{"notify": true}'),
	evstore.create_subscription('silent', '{"categories": ["order"]}')));
my $listener = listener('evstore', 'evstore_sub_told', 'evstore_sub_silent');

my $began = Time::HiRes::time();
my $position = append('order-1');
my $got = hear_of($listener, $position);
cmp_ok($got->[-1][2] - $began, '<', 3, sprintf 'a single event is told at once (%.3f s)', $got->[-1][2] - $began);
is(channels($got), 'evstore evstore_sub_told', 'on evstore, and for the subscription that wants it');
is(join(' ', map { $_->[1] } @$got), "$position $position", 'the payload is the position');

$position = append('bill-1');
$got = hears_of($listener, 'evstore', append('bill-2'));
is(channels($got), 'evstore', 'an event that the filter does not let through is told on evstore only');

$writer->query("SELECT evstore.pause_subscription('told')");
append('order-1');
$got = hears_of($listener, 'evstore', append('order-1'));
is(channels($got), 'evstore', 'a paused subscription tells nobody');
$writer->query("SELECT evstore.resume_subscription('told')");
$position = append('order-1');
$got = hear_of($listener, $position);
is(channels($got), 'evstore evstore_sub_told', 'resumed, it does');

$writer->query(q(SELECT evstore.alter_subscription('told', '{"categories": ["bill"]}')));
append('order-1');
$got = hears_of($listener, 'evstore_sub_told', append('bill-1'));
is((grep { $_->[0] eq 'evstore_sub_told' } @$got), 1, 'the new filter decides');
$writer->query(q(SELECT evstore.alter_subscription('told', options => '{"notify": false}')));
$got = hears_of($listener, 'evstore', append('bill-1'));
is(channels($got), 'evstore', 'the option can be taken back');
$writer->query(q(SELECT evstore.alter_subscription('told', '{"categories": ["order"]}', options => '{"notify": true}')));

# A name of the greatest length: the channel's is as long as a name may be.
my $long = 'n' x 51;
$writer->query("SELECT evstore.create_subscription('$long', options => '{\"notify\": true}')");
my $other = listener("evstore_sub_$long");
$position = append('order-1');
is(channels(hears_of($other, "evstore_sub_$long", $position)), "evstore_sub_$long",
	'a subscription with a name of 51 bytes');
$other->close;
$writer->query("SELECT evstore.drop_subscription('$long')");

# ---- nothing of what is rolled back ----

silence($listener);
$writer->query("BEGIN; SELECT evstore.append('order-1', 'x'); ROLLBACK");
$writer->query("BEGIN; SAVEPOINT s; SELECT evstore.append('order-1', 'x'); ROLLBACK TO s; COMMIT");
$got = silence($listener);
is((grep { $_->[0] eq 'evstore_sub_told' } @$got), 0, 'a subscription hears nothing of what is rolled back');

# ---- gathered ----

for my $interval (10, 100, 1000)
{
	ok(set('evstore.notify_interval', $interval == 1000 ? "'1s'" : "'${interval}ms'"), "$interval ms");
	silence($listener);
	my $start = Time::HiRes::time();
	my $last;
	$last = append('order-' . $_ % 7) for 1 .. 2000;
	my $took = Time::HiRes::time() - $start;
	$got = hear_of($listener, $last);
	for my $channel ('evstore', 'evstore_sub_told')
	{
		my @of = grep { $_->[0] eq $channel } @$got;
		my $most = 2 + ($took + $interval / 1000) / ($interval / 1000) * 1.1;
		cmp_ok(scalar @of, '<=', $most,
			sprintf "%d ms: 2,000 appends in %.1f s, %d notifications on %s", $interval, $took, scalar @of, $channel);
		cmp_ok(scalar @of, '>=', 1, 'but some');
		is(join(' ', map { $_->[1] } @of),
			join(' ', sort { $a <=> $b } map { $_->[1] } @of), 'the position grows');
	}
	is(@$got ? $got->[-1][1] : '', $last, "$interval ms: the last event is told of");
}
set('evstore.notify_interval', "'10ms'");

# The tail, again and again: a burst, and then nothing.
my $lost = 0;
for my $round (1 .. 40)
{
	my $last;
	$last = append('order-' . $_ % 3) for 1 .. 1 + $round % 9;
	my $told = hears_of($listener, 'evstore', $last, 20);
	$lost++ unless @$told && $told->[-1][1] >= $last;
}
is($lost, 0, 'the last event of each of 40 bursts is told of');

# ---- a listener that was away, and a dispatcher that was ----

$writer->query("SELECT evstore.seek('told', 'end')");
$listener->close;
append('order-5');
$listener = listener('evstore', 'evstore_sub_told');
is($listener->query("SELECT string_agg(stream, ' ') FROM evstore.fetch('told', 'c')"), 'order-5',
	'a listener that was away finds with fetch() what it has missed');
$position = append('order-6');
is(hears_of($listener, 'evstore_sub_told', $position)->[-1][1], $position, 'and hears the next');

$writer->query('SELECT evstore.stop()');
$position = append('order-7');
is(scalar @{ notifications($listener, undef, 1) }, 0, 'without a dispatcher nobody is told');
$writer->query('SELECT evstore.start()');
$got = hear_of($listener, $position);
is(channels($got), 'evstore evstore_sub_told',
	'the next one tells of what came to be while there was none');

# ---- modes ----

sub locks_for_notify
{
	return $writer->query(
		"SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND pid = pg_backend_pid()");
}

$writer->query("BEGIN; SELECT evstore.append('order-1', 'x')");
is(locks_for_notify(), 0, 'mode worker: an append takes no lock of the cluster');
$writer->query("PREPARE TRANSACTION 'p'");
$writer->query("COMMIT PREPARED 'p'");
pass('mode worker: a transaction with an append can be prepared');

ok(set('evstore.notify', "'off'"), 'mode off');
$position = append('order-1');
is((grep { $_->[1] >= $position } @{ notifications($listener, undef, 1) }), 0,
	'mode off: nobody is told');

ok(set('evstore.notify', "'commit'"), 'mode commit');
$writer->query("BEGIN; SELECT evstore.append('order-1', 'x')");
is_error($writer, "PREPARE TRANSACTION 'p'", '0A000', qr/NOTIFY/,
	'mode commit: a transaction with an append cannot be prepared, as with any NOTIFY');
$writer->query("BEGIN; SELECT evstore.append('order-1', 'x'); ROLLBACK");
$writer->query("BEGIN; SAVEPOINT s; SELECT evstore.append('order-1', 'x'); ROLLBACK TO s; COMMIT");
is(scalar @{ notifications($listener, undef, 1) }, 0, 'mode commit: nothing of what is rolled back');
$writer->query("BEGIN; SELECT evstore.append('order-1', 'x') FROM generate_series(1, 50); COMMIT");
$position = $writer->query('SELECT evstore._last_position()');
$got = hears_of($listener, 'evstore', $position);
is(join(' ', map { "$_->[0] $_->[1]" } @$got), "evstore $position",
	'mode commit: one a transaction, with its last position');
$writer->query('SELECT evstore.stop()');
$position = append('order-1');
is(hears_of($listener, 'evstore', $position)->[-1][1], $position,
	'mode commit needs no dispatcher');
$writer->query('SELECT evstore.start()');
notifications($listener, undef, 1);

# A session's own mode, and that of a database for the sessions to come.
$writer->query("SET evstore.notify = 'off'");
$position = append('order-1');
is((grep { $_->[1] >= $position } @{ notifications($listener, undef, 1) }), 0,
	'a session may set a mode of its own');
$writer->query('RESET evstore.notify');
$node->safe_psql('postgres', "ALTER DATABASE store SET evstore.notify = 'off'");
$writer->close;
$writer = session($node, 'store');
$position = append('order-1');
is((grep { $_->[1] >= $position } @{ notifications($listener, undef, 1) }), 0,
	'ALTER DATABASE SET evstore.notify holds for new sessions');
$node->safe_psql('postgres', 'ALTER DATABASE store RESET evstore.notify');
$writer->close;
$writer = session($node, 'store');
ok(set('evstore.notify', "'worker'"), 'mode worker');
ok( poll(
		sub {
			my $position = append('order-1');
			my $got = hears_of($listener, 'evstore_sub_told', $position, 1);
			return scalar @$got;
		}),
	'back in mode worker the dispatcher tells again');

done_testing();
