# Projections do each event once, whatever is killed and when.
#
# Writers append singly, in batches, with savepoints, in transactions that are
# rolled back.  Seven projections make read models of it: one event a call, with
# several statements; all of a batch in one call; with events of its own; in four
# partitions; with a handler that fails by chance, where events are retried apart;
# inline, and inline with events of its own.  In each round something is killed
# with SIGKILL, at a debug point or at any moment: everything, the postmaster, or
# a worker.  An observer looks at checkpoints and tables all the time.
#
#   - what is in the tables is what the checkpoint says, at any moment
#   - in the end each event is there once, and the counters are what the log gives
#     and what a rebuild gives
#   - events of a partition's streams are handled in their order
#   - a rebuild goes on after a crash, and before it ends the old tables serve
#
# EVS_ROUNDS       number of rounds at any moment (default 5)
# EVS_CHAOS_SEED   repeats the choices of a run, though not its timing

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsChaos;
use EvsTest;
use Test::More;

my $rounds = $ENV{EVS_ROUNDS} || 5;
my $seed = $ENV{EVS_CHAOS_SEED} || int rand 1e9;
srand $seed;
note "EVS_CHAOS_SEED=$seed";

my $node = new_node(
	'projection_crash',
	started => 0,
	conf => "shared_preload_libraries = 'evstore'\nfsync = off\nrestart_after_crash = on\n"
	  . "max_worker_processes = 20\nmax_connections = 40\nshared_buffers = 32MB\n"
	  . "deadlock_timeout = 50ms\nlog_checkpoints = off\n");
crash_on_purpose($node);
run_postmaster($node);
wait_for_server($node, 'postgres')->close;
my $db = new_store($node, 'store', 2000);

my (@problems, %kills);

sub problem
{
	push @problems, @_ if @problems < 20;
	return;
}

sub none
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $good = ok(!@problems, $name) or diag(join "\n", @problems);
	@problems = ();
	return $good;
}

# ---- read models ----

# Each has a table NAME_seen, of what was handled, and NAME_count, by stream.
my @names = qw(single batch derive parted unsure inline inline_derive);
my %partitions = (parted => 4, unsure => 2);
my %filter = (map { $_ => '{"categories": ["order", "item"]}' } @names);
my @async = grep { !/inline/ } @names;

sub handle_one
{
	my ($name, $more) = @_;

	return qq(CREATE FUNCTION app.$name(e evstore.event) RETURNS void LANGUAGE plpgsql AS \$\$
		DECLARE more int := (e.data ->> 'amount')::int;
		BEGIN
			INSERT INTO ${name}_seen ("position", stream) VALUES (e.position, e.stream);
			UPDATE ${name}_count c SET n = c.n + 1 WHERE c.stream = e.stream;
			IF NOT FOUND THEN
				INSERT INTO ${name}_count VALUES (e.stream, 1, 0);
			END IF;
			UPDATE ${name}_count c SET amount = c.amount + more WHERE c.stream = e.stream;
			$more
		END \$\$);
}

sub make_projections
{
	my $session = session($node, $db);
	# by a fixed id: a second time would change nothing; without one it would be seen
	my $derive = q(PERFORM evstore.append('derived-' || e.stream, 'derived', jsonb_build_object('of', e.position),
			event_id => CASE WHEN e.position % 2 = 0 THEN md5(e.position::text)::uuid END););
	my %handlers = (
		single => handle_one('single', ''),
		parted => handle_one('parted', ''),
		inline => handle_one('inline', ''),
		unsure => handle_one('unsure', q(IF random() < 0.1 THEN RAISE EXCEPTION 'not now'; END IF;)),
		derive => handle_one('derive', $derive),
		inline_derive => handle_one('inline_derive', $derive =~ s/'derived-'/'follow-'/r =~ s/CASE.*END/NULL/r),
		batch => q(CREATE FUNCTION app.batch(e evstore.event[]) RETURNS void LANGUAGE plpgsql AS $$
			BEGIN
				INSERT INTO batch_seen ("position", stream) SELECT x.position, x.stream FROM unnest(e) x;
				INSERT INTO batch_count AS c
				SELECT x.stream, count(*), sum((x.data ->> 'amount')::int) FROM unnest(e) x GROUP BY 1
				ON CONFLICT (stream) DO UPDATE SET n = c.n + excluded.n, amount = c.amount + excluded.amount;
			END $$));
	my %options = (
		single => '"batch_size": 7',
		batch => '"batch_size": 20',
		derive => '"batch_size": 10',
		parted => '"partitions": 4, "batch_size": 10',
		unsure => '"partitions": 2, "on_error": "park", "batch_size": 30, "retry": {"max_attempts": 1000, "initial": 0.01, "max": 0.05}',
		inline => '"mode": "inline"',
		inline_derive => '"mode": "inline"');

	$session->query('CREATE SCHEMA app');
	for my $name (@names)
	{
		$session->query($_)
		  for qq(CREATE TABLE app.${name}_seen (id bigint GENERATED ALWAYS AS IDENTITY,
			"position" bigint NOT NULL, stream text NOT NULL)),
		  "CREATE INDEX ON app.${name}_seen (\"position\")",
		  "CREATE TABLE app.${name}_count (stream text PRIMARY KEY, n bigint NOT NULL, amount bigint NOT NULL)",
		  $handlers{$name},
		  qq(SELECT evstore.create_projection('$name', (SELECT 'app.$name'::regproc::regprocedure), '$filter{$name}', 'beginning',
			'{"tables": ["${name}_seen", "${name}_count"], $options{$name}}'));
	}
	$session->close;
	return;
}

# ---- writers ----

sub append
{
	my $kind = (qw(order order item other))[ rand 4 ];

	return sprintf q(SELECT FROM evstore.append('%s-%d', 't', '{"amount": %d}')), $kind, rand 12,
	  1 + rand 100;
}

sub write_something
{
	my ($session) = @_;
	my $kind = int rand 6;

	return $session->query(append()) if $kind <= 2;
	if ($kind == 3)
	{
		my $events = join ', ', map { sprintf '{"type": "t", "data": {"amount": %d}}', 1 + rand 100 } 0 .. rand 10;
		return $session->query(sprintf q(SELECT FROM evstore.append_events('order-%d', '[%s]')), rand 12, $events);
	}
	$session->query('BEGIN');
	$session->query(append());
	$session->query('SAVEPOINT s');
	$session->query(append());
	$session->query(rand() < 0.5 ? 'ROLLBACK TO s' : 'RELEASE s');
	return $session->query($kind == 4 ? 'ROLLBACK' : 'COMMIT');
}

sub writer
{
	my ($n) = @_;

	return start_process(
		"writer_$n",
		sub {
			my ($log) = @_;
			my $session = session($node, $db);

			while (1)
			{
				if (eval { write_something($session); 1 }) { $log->('wrote'); next; }
				die $@ unless $@ =~ /^(40P01|55P03)/;
				$session->try('ROLLBACK');
			}
		});
}

# ---- what must be true ----

# Events that were passed but not handled, or handled but not passed, or twice.
# One statement, so one snapshot; a rebuild has a slot of its own until it ends.
sub mismatch
{
	my ($name) = @_;

	return qq(SELECT '$name', x.at_position, count(s."position"), max(x.cursor)
		FROM (SELECT e.at_position, t.cursor FROM evstore.subscription_slots t
				CROSS JOIN LATERAL evstore._slot_events(t.subscription, t.slot, 0, t.cursor) e
			WHERE t.subscription = '$name') x
			FULL JOIN app.${name}_seen s ON s."position" = x.at_position
			LEFT JOIN evstore.failed_events f ON f.subscription = '$name' AND f."position" = x.at_position
		WHERE f."position" IS NULL OR s."position" IS NOT NULL
		GROUP BY x.at_position HAVING x.at_position IS NULL OR count(s."position") <> 1);
}

sub misplaced
{
	my ($session) = @_;

	return $session->query(join(' UNION ALL ', map { '(' . mismatch($_) . ')' } @async) . ' LIMIT 5');
}

sub observer
{
	return start_process(
		'observer',
		sub {
			my ($log) = @_;
			my $session = session($node, $db);

			while (1)
			{
				my $misplaced = misplaced($session);
				$log->('misplaced', $misplaced =~ s/\s+/ /gr) if $misplaced ne '';
				$log->('looked');
			}
		});
}

# Lines of what is not as the log says; none is good.
sub compare
{
	my ($session, $name) = @_;
	my $events = q(SELECT e.position, e.stream, (e.data ->> 'amount')::int AS amount
		FROM evstore.read_all(0, 1000000) e WHERE e.stream ~ '^(order|item)-');

	return $session->query(
		qq(WITH x AS MATERIALIZED ($events),
			counts AS (SELECT stream, count(*) AS n, sum(amount)::bigint AS amount FROM x GROUP BY stream)
		(SELECT 'seen', COALESCE(x.position, s."position")::text, count(s."position"), count(x.position) FROM x
			FULL JOIN app.${name}_seen s ON s."position" = x.position
			GROUP BY 2 HAVING count(s."position") <> 1 OR count(x.position) <> 1 LIMIT 5)
		UNION ALL (SELECT 'too much', d.* FROM (TABLE app.${name}_count EXCEPT TABLE counts) d)
		UNION ALL (SELECT 'missing', d.* FROM (TABLE counts EXCEPT TABLE app.${name}_count) d)));
}

# Events of a stream out of order.
sub disordered
{
	my ($session, $name) = @_;

	return $session->query(
		qq(SELECT * FROM (SELECT s.stream, s."position",
				lag(s."position") OVER (PARTITION BY s.stream ORDER BY s.id) AS previous FROM app.${name}_seen s) x
		WHERE previous > "position" LIMIT 3));
}

sub derived
{
	my ($session, $prefix, $name) = @_;

	return $session->query(
		qq(WITH d AS MATERIALIZED (SELECT (e.data ->> 'of')::bigint AS of, e.stream, e.causation_id
			FROM evstore.read_all(0, 1000000) e WHERE e.stream LIKE '$prefix-%')
		SELECT s."position", count(d.of), count(d.causation_id) FROM app.${name}_seen s
			FULL JOIN d ON d.of = s."position" AND d.stream = '$prefix-' || s.stream
		GROUP BY 1 HAVING count(d.of) <> 1 OR count(d.causation_id) <> 1 LIMIT 3));
}

# ---- rounds ----

sub hold
{
	my ($point) = @_;
	my $holder = session($node, $db);

	$holder->query("SELECT pg_advisory_lock(hashtextextended('evstore.$point', 0))");
	return $holder;
}

# How many processes stand at a debug point.
sub waiting
{
	my ($session) = @_;

	return $session->query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted");
}

sub check_ends
{
	for my $process (@_)
	{
		my @notes = finish_process($process);
		my $why = pop @notes;

		problem("$process->{name}: @$why") unless $why->[0] eq 'end' && is_end_of_server($why->[1] // '');
		problem(map { "observer: @$_" } grep { $_->[0] eq 'misplaced' } @notes);
	}
	return;
}

my @ways = ('everything', qr/evstore projection worker/, 'postmaster');
my @way_names = ('everything', 'a worker', 'the postmaster');
my $n_rounds = 0;

# The point at which a process is to stand when it is killed; undef: anywhere.
sub round
{
	my ($point, $way) = @_;
	return if @problems;
	my $session = wait_for_server($node, $db);
	my $holder = defined $point ? hold($point) : undef;
	my $title = 'round ' . $n_rounds++ . ', ' . ($point // 'at any moment') . ", $way_names[$way]";
	my $enough = 20 + int rand 60;
	my @writers = map { writer($_) } 1 .. 2;
	my $observer = observer();

	poll(
		sub {
			my $n = 0;
			$n += lines_of($_, '^wrote') for @writers;
			return $n >= $enough && lines_of($observer, '^looked') && (!$holder || waiting($session) > 0);
		},
		30) or problem("no progress in $title");
	poll(sub { kill_server($node, $ways[$way]) }, 20) or problem("nothing to kill in $title");
	$kills{ $way_names[$way] }++;
	$session->close;
	$holder->close if $holder;
	check_ends(@writers, $observer);
	$session = wait_for_server($node, $db);
	my $misplaced = misplaced($session);
	problem("after $title: $misplaced") if $misplaced ne '';
	my $inline = compare($session, 'inline');
	problem("after $title, inline: $inline") if $inline ne '';
	$session->close;
	return;
}

sub drain
{
	my $session = wait_for_server($node, $db);

	for my $name (@async)
	{
		my $come = $session->try("SELECT evstore.wait_for_projection('$name', NULL, '60 seconds')");
		problem("$name does not come to its end: " . (ref $come ? $come->{M} : $come) . "\n"
			  . $session->query("SELECT * FROM evstore.projections WHERE projection = '$name'")
			  . "\n" . $session->query('SELECT * FROM evstore.workers'))
		  if ref $come || $come ne 't';
	}
	# one that failed may still be tried again behind the cursor
	poll(sub { $session->query("SELECT count(*) FROM evstore.failed_event") == 0 }) or problem('failed events are left');
	return $session;
}

sub check_all
{
	my ($session, $when) = @_;

	is(misplaced($session), '', "$when: tables and checkpoints agree");
	is(compare($session, $_), '', "$when: $_: each event once, counters as in the log") for @names;
	is(disordered($session, $_), '', "$when: $_: in the order of each stream") for @names;
	is(derived($session, 'derived', 'derive'), '', "$when: events appended by a handler are there once");
	is(derived($session, 'follow', 'inline_derive'), '', "$when: those of an inline one, too");
	is($session->query('SELECT check_name, detail FROM evstore.verify() WHERE NOT ok'), '', "$when: the store is sound");
	return;
}

make_projections();
for my $point ('projection_gather', 'projection_event', 'projection_checkpoint')
{
	round($point, $_) for 0, 1;
}
round(undef, $_ % 3) for 1 .. $rounds;
none("all is well after each of $n_rounds rounds") or BAIL_OUT('a crash did harm');
cmp_ok(scalar(keys %kills), '>=', $rounds > 1 ? 3 : 2, 'each way of killing was used');

my $session = drain();
none('all projections come to their end');
check_all($session, 'in the end');
is( $session->query("SELECT count(*), count(DISTINCT state) FROM evstore.projections WHERE state IN ('running', 'inline') AND parked = 0"),
	'7|2', 'no projection has stopped, nothing is parked');
is( $session->query("SELECT count(*) FROM evstore.subscription_slots WHERE checkpoint <> cursor AND subscription IN ("
		  . join(', ', map { "'$_'" } @async) . ')'),
	0, 'checkpoints are where the cursors are');
note $session->query('SELECT count(*) FROM evstore.events') . ' events';

# ---- rebuilds ----

# One value of what a read model has; ids are those of the table.
sub content
{
	my ($session, $name) = @_;

	return $session->query(
		qq(SELECT (SELECT md5(string_agg(s."position" || s.stream, ',' ORDER BY s."position")) FROM app.${name}_seen s),
			(SELECT md5(string_agg(c::text, ',' ORDER BY c.stream)) FROM app.${name}_count c)));
}

sub left_behind
{
	my ($session) = @_;

	return $session->query(
		q(SELECT nspname FROM pg_namespace WHERE nspname LIKE 'evstore_rebuild%'
		UNION ALL SELECT name FROM evstore.subscription WHERE kind = 'rebuild'
		UNION ALL SELECT rebuild_of::text FROM evstore.projection WHERE rebuild_of IS NOT NULL
		UNION ALL SELECT subscription_id::text FROM evstore.slot_state
			WHERE subscription_id NOT IN (SELECT id FROM evstore.subscription)));
}

sub rebuilt
{
	my ($session, $name) = @_;

	return poll(
		sub {
			$session->query("SELECT rebuild_state IS NULL FROM evstore.projections WHERE projection = '$name'") eq 't';
		});
}

# By a handler that counts by stream, nothing but the order of rows can differ.
my @rebuilds = (
	[ 'single', 'rebuild_finish', 1 ],
	[ 'batch', 'rebuild_finish', 0 ],
	[ 'parted', 'rebuild_swapped', 1 ],
	[ 'single', 'rebuild_swapped', 0 ],
	[ 'unsure', undef, 0 ],
	[ 'batch', 'projection_checkpoint', 1 ]);
for my $rebuild (@rebuilds)
{
	my ($name, $point, $way) = @$rebuild;
	my $title = "$name, killed at " . ($point // 'any moment') . ", $way_names[$way]";
	my $before = content($session, $name);
	my $table = $session->query("SELECT 'app.${name}_count'::regclass::oid");
	my $holder = defined $point ? hold($point) : undef;

	$session->query("SELECT evstore.rebuild_projection('$name')");
	ok(poll(sub { waiting($session) > 0 }), "$title: it stands there") if $holder;
	# who swaps has the tables locked; others read the old ones
	if (!$holder || $point eq 'rebuild_finish')
	{
		is(content($session, $name), $before, "$title: the old tables serve meanwhile");
	}
	poll(sub { kill_server($node, $ways[$way]) }, 20) or fail("$title: nothing to kill");
	$_->close for grep { defined } $session, $holder;

	# before it has come to its end again, or after that
	$session = wait_for_server($node, $db);
	is(content($session, $name), $before, "$title: the tables are whole after the crash");
	ok(rebuilt($session, $name), "$title: it goes on, and ends");
	isnt($session->query("SELECT 'app.${name}_count'::regclass::oid"), $table, "$title: there are new tables");
	is(compare($session, $name), '', "$title: with what the log gives");
	is(content($session, $name), $before, "$title: and what the old ones had");
	is(left_behind($session), '', "$title: nothing is left behind");
}

# New events after all that.
{
	my @writers = map { writer($_) } 1 .. 2;
	poll(sub { lines_of($writers[0], '^wrote') > 50 });
	finish_process($_, 'TERM') for @writers;
	$session->close;
	$session = drain();
	none('all projections come to their end again');
	check_all($session, 'after rebuilds');
}
$session->close;
$node->stop;
waitpid $node->{_pid}, 0 if $node->{_pid};
done_testing();
