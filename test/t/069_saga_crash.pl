# Sagas go on after a crash where they were: no step is done twice or left out,
# whatever is killed and when.
#
# First the order saga of the sample, with steps that are SQL functions, and with
# activities that a worker fetches.  For each transition of it there is an instance that
# has come that far, in a database without workers.  All of them make their next
# transition at the same time, and everything is killed with SIGKILL while each stands at
# the same point of it.
#
# Then trips, with functions, activities, timers, events, children and chance in them,
# under workers; servers, workers and participants are killed at any moment.  In the end each
# trip has all of its parts, or nothing of it is left.
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

# transitions commit without waiting for the log, and stay out of it for long
my $node = new_node(
	'saga_crash',
	started => 0,
	conf => "shared_preload_libraries = 'evstore'\nfsync = off\nrestart_after_crash = on\n"
	  . "max_worker_processes = 20\nmax_connections = 100\nshared_buffers = 32MB\n"
	  . "wal_writer_delay = 10s\nwal_writer_flush_after = 0\nlog_checkpoints = off\n"
	  . "evstore.databases = 'chaos'\n");
crash_on_purpose($node);
run_postmaster($node);
wait_for_server($node, 'postgres')->close;
my $db = new_store($node, 'store');

my (@problems, %moves);

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

sub quote
{
	my ($text) = @_;

	return "'" . ($text =~ s/'/''/gr) . "'";
}

# ---- what must be true at any time ----

# Histories that are not contiguous, or do not say the same as the steps do: of instances
# whose business key matches.  A history is read by a function, so one snapshot must do for
# all of it.
sub contradictions
{
	my ($session, $keys) = @_;

	$session->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
	my $found = $session->query(
		qq(WITH instance AS MATERIALIZED (SELECT id, status FROM evstore.saga_instance WHERE business_key ~ '$keys'),
		history AS MATERIALIZED (
			SELECT i.id, h.version, h.type, (h.data ->> 'step')::bigint AS step, i.status
			FROM instance i CROSS JOIN LATERAL evstore.saga_history(i.id) h),
		said AS (SELECT id, step, count(*) FILTER (WHERE type = 'StepStarted') AS started,
				COALESCE(string_agg(type, ' ') FILTER (WHERE type IN
					('StepSucceeded', 'StepFailed', 'StepTimedOut', 'StepWithdrawn', 'StepCompensated', 'CompensationStepFailed')), 'nothing') AS ended
			FROM history WHERE step IS NOT NULL GROUP BY 1, 2),
		step AS (SELECT s.saga_id, s.step, s.status, CASE s.status
				WHEN 'succeeded' THEN CASE WHEN s.compensates IS NULL THEN 'StepSucceeded' ELSE 'StepCompensated' END
				WHEN 'failed' THEN CASE WHEN s.compensates IS NULL THEN 'StepFailed' ELSE 'CompensationStepFailed' END
				WHEN 'timed_out' THEN 'StepTimedOut'
				WHEN 'cancelled' THEN 'StepWithdrawn'
				ELSE 'nothing' END AS should_say
			FROM evstore.saga_step s JOIN instance i ON i.id = s.saga_id)
		SELECT 'gap', id, count(*)::text, max(version)::text FROM history GROUP BY id HAVING max(version) <> count(*) - 1
		UNION ALL SELECT 'steps', saga_id, count(*)::text, max(step)::text FROM step GROUP BY saga_id HAVING max(step) <> count(*)
		UNION ALL SELECT 'step ' || COALESCE(h.step, s.step), COALESCE(h.id, s.saga_id), h.started || ' ' || h.ended, s.status
			FROM said h FULL JOIN step s ON s.saga_id = h.id AND s.step = h.step
			WHERE (h.started = 1 AND h.ended = s.should_say) IS NOT TRUE
		UNION ALL SELECT 'end', id, status, (array_agg(type ORDER BY version DESC))[1] FROM history WHERE type ~ '^Saga' GROUP BY id, status
			HAVING (array_agg(type ORDER BY version DESC))[1] <> CASE
				WHEN status IN ('succeeded', 'compensated', 'cancelled', 'failed') THEN 'Saga' || initcap(status) ELSE 'SagaStarted' END
		LIMIT 10));
	$session->query('COMMIT');
	return $found;
}

# ---- the order saga ----

# A service writes down that it has been called; the input says which of them is broken.
sub make_shop
{
	my ($session) = @_;

	$session->query($_) for 'SELECT evstore.install_sample()', 'CREATE SCHEMA app',
	  'CREATE TABLE app.did (id bigint GENERATED ALWAYS AS IDENTITY, saga_id uuid NOT NULL, service text NOT NULL)',
	  'CREATE TABLE app.answer (key text PRIMARY KEY, output jsonb)',
	  q(CREATE OR REPLACE FUNCTION sample.check_service(service text) RETURNS void LANGUAGE plpgsql AS $$
		DECLARE
			me uuid := COALESCE(evstore.current_saga_step() ->> 'saga_id', current_setting('app.saga_id', true))::uuid;
		BEGIN
			INSERT INTO app.did (saga_id, service) VALUES (me, check_service.service);
			IF (SELECT i.input ->> 'broken' FROM evstore.saga_instance i WHERE i.id = me) = service THEN
				PERFORM evstore.fail_step('Broken');
			END IF;
		END $$),
	  # the work of an activity: done once, whoever does it and however often
	  q(CREATE FUNCTION app.work(activity text, saga_id uuid, key text, input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
		DECLARE
			branch text := regexp_replace(key, '/compensate$', '');
			output jsonb := (SELECT a.output FROM app.answer a WHERE a.key = work.key);
		BEGIN
			IF evstore.saga_barrier(saga_id::text, branch, CASE WHEN branch = key THEN 'action' ELSE 'compensate' END) THEN
				PERFORM set_config('app.saga_id', saga_id::text, true);
				EXECUTE format('SELECT to_jsonb(sample.%I($1))', split_part(activity, '.', 2)) INTO output USING input;
				INSERT INTO app.answer VALUES (key, output);
			END IF;
			RETURN COALESCE(output, '{}');
		END $$),
	  q(CREATE FUNCTION app.order(id text) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM evstore.execute_command(sample.stock_stream(id), 'sample.receive_stock(jsonb,jsonb)', '{"quantity": 3}');
			PERFORM evstore.execute_command(sample.order_stream(id), 'sample.place_order(jsonb,jsonb)', jsonb_build_object(
				'customer_id', 'ann', 'items', jsonb_build_array(jsonb_build_object('product_id', id, 'quantity', 2, 'price', 1.25))));
		END $$),
	  # up to n transitions, and replies of workers, of an instance that has a saga for itself; how many
	  q(CREATE FUNCTION app.move(saga text, id uuid, n int) RETURNS int LANGUAGE plpgsql AS $$
		DECLARE
			activity text;
			task record;
		BEGIN
			FOR i IN 1 .. n LOOP
				activity := (SELECT s.name FROM evstore.saga_step s WHERE s.saga_id = id AND s.kind = 'activity' AND s.status = 'running');
				IF activity IS NOT NULL THEN
					SELECT * INTO STRICT task FROM evstore.fetch_tasks(activity, 'worker');
					BEGIN
						PERFORM evstore.complete_task(task.token, app.work(activity, id, task.idempotency_key, task.input));
					EXCEPTION WHEN SQLSTATE 'VS014' THEN
						PERFORM evstore.fail_task(task.token, 'Broken');
					END;
				ELSIF evstore.run_sagas(1, saga) = 0 THEN
					RETURN i - 1;
				END IF;
			END LOOP;
			RETURN n;
		END $$),
	  # one line of what has become of an order, and which services were called, in order
	  q(CREATE FUNCTION app.outcome(wanted text) RETURNS text LANGUAGE sql AS $$
		SELECT concat_ws(' ', (SELECT i.status FROM evstore.saga_instance i WHERE i.business_key = wanted),
			(SELECT l.state ->> 'status' FROM evstore.load_aggregate(sample.order_stream(wanted)) l),
			CASE WHEN (SELECT l.state -> 'reservations' ? wanted FROM evstore.load_aggregate(sample.stock_stream(wanted)) l) THEN 'reserved' END,
			(SELECT string_agg(p.status, '+') FROM sample.payment p WHERE p.order_id = wanted),
			(SELECT string_agg(h.status, '+') FROM sample.shipment h WHERE h.order_id = wanted),
			(SELECT string_agg(k.kind, '+') FROM sample.notice k WHERE k.order_id = wanted)) || ': ' ||
			(SELECT string_agg(d.service, ' ' ORDER BY d.id) FROM app.did d
				JOIN evstore.saga_instance i ON i.id = d.saga_id WHERE i.business_key = wanted) $$);
	return;
}

my @forward = qw(AcceptOrder ReserveInventory ProcessPayment ShipOrder);
my %outcome = (
	good => "succeeded shipped reserved taken sent confirmation: @forward SendConfirmation",
	broken => "compensated cancelled refunded cancelled cancellation: @forward CancelShipment RefundPayment ReleaseInventory CancelOrder");

# One saga for each instance of a round, so that it can be run alone.
sub make_saga
{
	my ($session, $name) = @_;
	my $to = $name =~ /^remote/ ? "evstore:activity:$name." : 'evstore:sql:sample.';

	$session->query(
		qq(SELECT evstore.create_saga('$name', replace(definition::text, 'evstore:sql:sample.', '$to')::jsonb)
		FROM evstore.saga_definitions WHERE saga = 'sample_order'));
	return;
}

sub start_order
{
	my ($session, $saga, $order) = @_;
	my $input = $saga =~ /broken/ ? q("broken": "SendConfirmation", ) : '';

	$session->query("SELECT app.order('$order')");
	return {
		saga => $saga,
		order => $order,
		id => $session->query(qq(SELECT evstore.start_saga('$saga', '{$input"order_id": "$order"}')))
	};
}

# The activity whose turn it is, or nothing.
sub open_activity
{
	my ($session, $instance) = @_;

	return $session->query(
		qq(SELECT name FROM evstore.saga_step WHERE saga_id = '$instance->{id}' AND kind = 'activity' AND status = 'running'));
}

# What a worker does with a task: fetched, worked, replied.  Returns the reply, which has
# been given if all of it is to be done.
sub work
{
	my ($session, $activity, $until) = @_;
	my $task = $session->rows("SELECT token, saga_id, idempotency_key, input FROM evstore.fetch_tasks('$activity', 'worker')")->[0]
	  or die "there is no task of $activity";
	return if $until eq 'fetched';
	my $output = $session->try(sprintf "SELECT app.work('%s', '%s', %s, %s)", $activity, $task->[1], map { quote($_) } @$task[ 2, 3 ]);
	die $output->{M} if ref $output && $output->{C} ne 'VS014';
	my $reply =
	  ref $output
	  ? "evstore.fail_task('$task->[0]', 'Broken')"
	  : "evstore.complete_task('$task->[0]', " . quote($output) . ')';
	$session->query("SELECT $reply") if $until eq 'replied';
	return $reply;
}

# The next transitions of an instance, and replies to it: how many there were.
sub move
{
	my ($session, $instance, $n) = @_;

	return $session->query("SELECT app.move('$instance->{saga}', '$instance->{id}', $n)");
}

# ---- killed at each point ----

# A statement that is to stand at a point, or nothing: what is done is done.
sub begin_transition
{
	my ($session, $instance, $point) = @_;
	my $sql = "SELECT evstore.run_sagas(1, '$instance->{saga}')";

	$session->query('SET synchronous_commit = off');
	if ($point eq 'committed') { $session->query($sql); return 0; }
	$session->send($sql);
	return $point ne 'saga_step_run' || $instance->{saga} =~ /^local/;
}

sub begin_work
{
	my ($session, $activity, $point) = @_;

	if ($point =~ /^task_(found|claimed)$/)
	{
		$session->send("SELECT token FROM evstore.fetch_tasks('$activity', 'worker')");
		return 1;
	}
	my $reply = work($session, $activity, $point);
	return 0 unless $point =~ /^task_/;
	$session->send("SELECT $reply");
	return 1;
}

sub hold
{
	my ($holder, $point) = @_;

	$holder->query("SELECT pg_advisory_lock(hashtextextended('evstore.$point', 0))");
	return;
}

# Those that succeed differ from those that fail in their last step only.
sub first_move
{
	my ($kind) = @_;

	return $kind =~ /broken/ ? 0 : $moves{$kind} - ($kind =~ /local/ ? 1 : 3);
}

# An instance for each transition of each saga, that is about to make it.
sub prepare_instances
{
	my ($session, $round) = @_;
	my @instances;

	for my $kind (sort keys %moves)
	{
		for my $n (first_move($kind) .. $moves{$kind} - 1)
		{
			my $instance = start_order($session, "${kind}_$n", "${kind}_${n}_$round");
			move($session, $instance, $n) == $n or problem("$instance->{order} has come to an end");
			push @instances, $instance;
		}
	}
	return @instances;
}

# In a later hour, so that tasks whose worker was killed are given to another.
sub finish_instances
{
	my ($session, $round, @instances) = @_;

	$session->query("SELECT set_config('evstore.now_override', (clock_timestamp() + '$round hours')::text, false)");
	for my $instance (@instances)
	{
		my $kind = $instance->{saga} =~ /good/ ? 'good' : 'broken';

		move($session, $instance, 100);
		my $outcome = $session->query("SELECT app.outcome('$instance->{order}')");
		problem("$instance->{order}: $outcome") if $outcome ne $outcome{$kind};
	}
	my $stuck = $session->query('SELECT * FROM evstore.stuck_sagas');
	problem("stuck: $stuck") if $stuck ne '';
	return;
}

# All of them stand at one point of a transition, or of what a worker does, when
# everything is killed.
sub crash_at
{
	my ($round, $transition, $work) = @_;
	my $session = session($node, $db);
	my $holder = session($node, $db);
	my @instances = prepare_instances($session, $round);
	my @sessions;
	my $standing = 0;

	/^(saga|task)_/ and hold($holder, $_) for $transition, $work;
	for my $instance (sort { open_activity($session, $b) cmp open_activity($session, $a) } @instances)
	{
		my $activity = open_activity($session, $instance);
		push @sessions, session($node, $db);
		$standing +=
		  $activity eq ''
		  ? begin_transition($sessions[-1], $instance, $transition)
		  : begin_work($sessions[-1], $activity, $work);
	}
	poll(sub { $session->query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == $standing }, 30)
	  or problem("not all stand at $transition and $work");
	kill_server($node, 'everything');
	$_->close for $session, $holder, @sessions;

	$session = wait_for_server($node, $db);
	problem(contradictions($session, "_$round\$") || ());
	finish_instances($session, $round, @instances);
	problem(contradictions($session, "_$round\$") || ());
	none(sprintf 'killed at %s and %s: %d instances, %d stood there', $transition, $work, scalar @instances, $standing);
	$session->close;
	return;
}

my $session = session($node, $db);
make_shop($session);
for my $kind (qw(local_good local_broken remote_good remote_broken))
{
	make_saga($session, $kind);
	my $instance = start_order($session, $kind, "${kind}_whole");
	$moves{$kind} = move($session, $instance, 100);
	is($session->query("SELECT app.outcome('${kind}_whole')"), $outcome{ $kind =~ s/.*_//r }, "$kind: without a crash, $moves{$kind} moves");
	make_saga($session, "${kind}_$_") for first_move($kind) .. $moves{$kind} - 1;
}
is(contradictions($session, '.'), '', 'histories and steps agree');
$session->close;

my $round = 0;
crash_at(++$round, @$_)
  for [ 'saga_found', 'task_found' ],
  [ 'saga_locked', 'task_claimed' ],
  [ 'saga_step_run', 'fetched' ],
  [ 'saga_store', 'worked' ],
  [ 'saga_stored', 'task_reply' ],
  [ 'committed', 'task_reported' ],
  [ 'saga_stored', 'replied' ];

$session = session($node, $db);
is($session->query('SELECT check_name, detail FROM evstore.verify() WHERE NOT ok'), '', 'the store is sound');
$session->close;

# ---- anything at any moment ----

my $chaos = new_store($node, 'chaos', 5000);
$node->safe_psql('postgres', "ALTER DATABASE chaos SET evstore.default_lease = '1s'");
my $trips = 60;    # started in each round

# A trip succeeds with all of it, or nothing of it is left: ledger has a row of 1 for
# what has been done, and one of -1 for what has been undone.  Nothing there is unique.
sub make_trips
{
	my ($session) = @_;
	my $undo = '{"Resource": "evstore:sql:app.undo", "Retry": [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 1000, "BackoffRate": 1}]}';
	my $refund = $undo =~ s/sql:app.undo/activity:refund/r;

	$session->query($_) for 'CREATE SCHEMA app',
	  'CREATE TABLE app.ledger (trip text NOT NULL, part text NOT NULL, amount int NOT NULL)',
	  'CREATE TABLE app.decision (trip text PRIMARY KEY)',
	  'CREATE TABLE app.call (saga_id uuid NOT NULL, part text NOT NULL, key text NOT NULL)',
	  q(CREATE FUNCTION app.effect(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO app.ledger VALUES (p ->> 'id', evstore.current_saga_step() ->> 'state', 1);
			IF random() < 0.03 THEN
				PERFORM evstore.fail_step('Chance');
			END IF;
		END $$),
	  q(CREATE FUNCTION app.undo(p jsonb) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO app.ledger VALUES (p #>> '{input,id}', evstore.current_saga_step() ->> 'state', -1);
			IF random() < 0.1 THEN
				RAISE EXCEPTION 'not now';
			END IF;
		END $$),
	  # a participant's transaction: what has been done is not done again, and what is undone is not done after that
	  q(CREATE FUNCTION app.take_part(activity text, key text, input jsonb) RETURNS void LANGUAGE plpgsql AS $$
		DECLARE
			branch text := regexp_replace(key, '/compensate$', '');
			amount int := CASE activity WHEN 'charge' THEN 1 ELSE -1 END;
		BEGIN
			IF evstore.saga_barrier('trip', branch, CASE activity WHEN 'charge' THEN 'action' ELSE 'compensate' END) THEN
				INSERT INTO app.ledger VALUES (COALESCE(input ->> 'id', input #>> '{input,id}'), 'Charge', amount);
			END IF;
		END $$),
	  qq(SELECT evstore.create_saga('fuel', '{
		"asl": {"StartAt": "Fuel", "States": {"Fuel": {"Type": "Task", "Resource": "evstore:sql:app.effect", "End": true}}},
		"compensation": {"states": {"Fuel": $undo}}}')),
	  qq(SELECT evstore.create_saga('trip', '{
		"asl": {"StartAt": "Book", "States": {
			"Book": {"Type": "Task", "Resource": "evstore:sql:app.effect", "ResultPath": null, "Next": "Both"},
			"Both": {"Type": "Parallel", "ResultPath": null, "Next": "Pause", "Branches": [
				{"StartAt": "Seat", "States": {"Seat": {"Type": "Task", "Resource": "evstore:sql:app.effect", "End": true}}},
				{"StartAt": "Bag", "States": {"Bag": {"Type": "Task", "Resource": "evstore:sql:app.effect", "End": true}}}]},
			"Pause": {"Type": "Wait", "Seconds": 0.05, "Next": "Charge"},
			"Charge": {"Type": "Task", "Resource": "evstore:activity:charge", "TimeoutSeconds": 2, "ResultPath": null, "Next": "Approve",
				"Retry": [{"ErrorEquals": ["States.Timeout", "Busy"], "MaxAttempts": 3, "BackoffRate": 1}]},
			"Approve": {"Type": "Task", "Resource": "evstore:event:approved", "Parameters": {"failures": ["refused"]}, "ResultPath": null, "Next": "Fuel"},
			"Fuel": {"Type": "Task", "Resource": "evstore:saga:fuel.sync", "ResultPath": null, "Next": "Settle"},
			"Settle": {"Type": "Task", "Resource": "evstore:sql:app.effect", "End": true}}},
		"compensation": {"states": {"Book": $undo, "Seat": $undo, "Bag": $undo, "Charge": $refund}},
		"options": {"business_key": "\$.id", "correlate": {"approved": "\$.data.id", "refused": "\$.data.id"}, "workers": 3}}'));
	return;
}

# Work until the server is lost; what goes wrong otherwise is an end that check_ends() reports.
sub start_loop
{
	my ($name, $body) = @_;

	return start_process(
		$name,
		sub {
			my ($log) = @_;
			my $session = session($node, $chaos);

			while (1)
			{
				next if eval { $body->($session, $log); 1 };
				die $@ unless $@ =~ /^(40P01|55P03)/;
				$session->try('ROLLBACK');
			}
		});
}

# What has been acknowledged is noted.
sub starter
{
	my ($round) = @_;
	my $n = 0;

	return start_loop(
		'starter',
		sub {
			my ($session, $log) = @_;
			die "done\n" if $n++ == $trips;
			my $start = "SELECT evstore.start_saga('trip', '{\"id\": \"$round-$n\"}')";

			if (rand() < 0.1)
			{
				$session->query("BEGIN; $start; ROLLBACK");
				return;
			}
			$session->query($start);
			$log->('started', "$round-$n");
		});
}

# A customer: decides about each trip once, some time after its start.
sub customer
{
	return start_loop(
		'customer',
		sub {
			my ($session, $log) = @_;
			my $trip = $session->query(
				q(SELECT i.business_key FROM evstore.saga_instance i WHERE i.status = 'running' AND i.business_key IS NOT NULL
					AND i.business_key NOT IN (SELECT trip FROM app.decision) ORDER BY random() LIMIT 1));
			return if $trip eq '';
			my $type = rand() < 0.1 ? 'refused' : 'approved';

			$session->query('BEGIN');
			$session->query("INSERT INTO app.decision VALUES ('$trip')");
			$session->query("SELECT FROM evstore.append('trip-$trip', '$type', '{\"id\": \"$trip\"}')");
			$session->query('COMMIT');
			return if rand() > 0.05;
			# one that has ended meanwhile is not cancelled
			my $error = $session->try("SELECT evstore.cancel_saga(id) FROM evstore.saga_instance WHERE business_key = '$trip'");
			die "$error->{C}: $error->{M}\n" if ref $error && $error->{C} ne '55000';
		});
}

# A worker of activities.  It may do a task and say that it has failed, or that nobody
# knows, or reply after the time-out.
sub participant
{
	my ($n) = @_;
	my @late;

	return start_loop(
		"participant_$n",
		sub {
			my ($session, $log) = @_;
			my $activity = rand() < 0.5 ? 'charge' : 'refund';
			my $tasks = $session->rows("SELECT token, saga_id, idempotency_key, input FROM evstore.fetch_tasks('$activity', 'p$n', 3, 20)");

			for my $task (@$tasks)
			{
				my ($token, $saga_id, $key, $input) = @$task;
				my $chance = rand;

				$session->query("INSERT INTO app.call VALUES ('$saga_id', '$activity', '$key')");
				if ($chance < 0.05) { reply($session, "fail_task('$token', 'Busy')", $log); next; }
				$session->query(sprintf "SELECT app.take_part('%s', %s, %s)", $activity, map { quote($_) } $key, $input);
				if ($chance < 0.1) { reply($session, "fail_task('$token', 'Lost', NULL, false)", $log); }
				elsif ($chance < 0.15) { push @late, [ time + 3, $token ]; }
				else { reply($session, "complete_task('$token')", $log); }
			}
			reply($session, "complete_task('" . (shift @late)->[1] . "')", $log) while @late && $late[0][0] < time;
		});
}

# A reply can be too late; then the work has been undone, or somebody else has done it.
sub reply
{
	my ($session, $reply, $log) = @_;
	my $error = $session->try("SELECT evstore.$reply");

	die "$error->{C}: $error->{M}\n" if ref $error && $error->{C} ne 'VS007';
	$log->(ref $error ? 'too late' : 'replied');
	return;
}

sub check_ends
{
	my ($signal, @processes) = @_;

	for my $process (@processes)
	{
		my @notes = finish_process($process, $signal);
		my $why = pop @notes;

		problem("$process->{name}: @$why") unless $why->[0] eq 'end' && is_end_of_server($why->[1] // '');
	}
	return;
}

my (%acknowledged, %killed);

sub chaos_round
{
	my ($round, $what) = @_;
	my $session = wait_for_server($node, $chaos);
	my ($before) = $session->query('SELECT COALESCE(sum(transitions), 0) FROM evstore.saga_instance');
	my $enough = $before + 100 + int rand 400;
	my $starter = starter($round);
	my @workers = (customer(), map { participant($_) } 1 .. 3);

	# a participant dies, too
	poll(sub { lines_of($workers[1], '^replied') }, 30) or problem("no progress of participants in round $round");
	kill 'KILL', $workers[1]{pid};
	waitpid $workers[1]{pid}, 0;
	$workers[1] = participant(4);
	poll(sub { $session->query('SELECT sum(transitions) FROM evstore.saga_instance') >= $enough }, 30)
	  or problem("no progress in round $round");
	poll(sub { kill_server($node, $what) }, 20) or problem("nothing to kill in round $round");
	$killed{$what}++;
	$session->close;
	$acknowledged{ $_->[1] } = 1 for grep { $_->[0] eq 'started' } finish_process($starter);
	check_ends(undef, @workers);

	$session = wait_for_server($node, $chaos);
	problem("after round $round: $_") for contradictions($session, '-') || ();
	$session->close;
	return;
}

# Until every trip has come to its end.
sub drain
{
	my $session = wait_for_server($node, $chaos);
	my @workers = (customer(), map { participant($_) } 1 .. 3);

	poll(sub { $session->query(q(SELECT count(*) FROM evstore.saga_instance WHERE status IN ('running', 'compensating'))) == 0 }, 60)
	  or problem('some do not come to their end: ' . $session->query(
		q(SELECT s.*, x.status, x.wait_reason, x.next_due, x.last_error FROM evstore.sagas x LEFT JOIN evstore.stuck_sagas s USING (saga_id)
		WHERE x.ended_at IS NULL LIMIT 5)));
	check_ends('TERM', @workers);
	return $session;
}

$session = session($node, $chaos);
make_trips($session);
$session->close;
my @ways = ('everything', qr/evstore saga/, 'postmaster', qr/\[local\]/);
chaos_round($_, $ways[ ($_ - 1) % @ways ]) for 1 .. $rounds;
none("all is well after each of $rounds rounds");
cmp_ok(scalar keys %killed, '>=', $rounds < 4 ? $rounds : 4, 'each way of killing was used');

$session = drain();
none('every trip comes to its end');
my $missing = join ', ', grep { $session->query("SELECT count(*) FROM evstore.saga_instance WHERE business_key = '$_'") != 1 } sort keys %acknowledged;
is($missing, '', scalar(keys %acknowledged) . ' starts that were acknowledged are there');
is(contradictions($session, '-'), '', 'histories and steps agree');
is( $session->query(
		q(WITH part AS (SELECT i.business_key AS trip, i.status, p.part, count(l.amount) AS n, COALESCE(sum(l.amount), 0) AS amount
			FROM evstore.saga_instance i CROSS JOIN unnest('{Book,Both[0].Seat,Both[1].Bag,Charge,Fuel,Settle}'::text[]) p (part)
				LEFT JOIN app.ledger l ON l.trip = i.business_key AND l.part = p.part
			WHERE i.business_key IS NOT NULL GROUP BY 1, 2, 3)
		SELECT * FROM part WHERE CASE status WHEN 'succeeded' THEN n <> 1 OR amount <> 1 ELSE n NOT IN (0, 2) OR amount <> 0 END
		ORDER BY 1, 3 LIMIT 10)),
	'', 'a trip has all of its parts, once, or nothing of it is left');
is($session->query(q(SELECT count(*) FROM app.ledger WHERE trip NOT IN (SELECT business_key FROM evstore.saga_instance WHERE business_key IS NOT NULL)
			OR part NOT IN ('Book', 'Both[0].Seat', 'Both[1].Bag', 'Charge', 'Fuel', 'Settle'))), 0, 'there is nothing else in the ledger');
is($session->query('SELECT saga_id, part, count(DISTINCT key) FROM app.call GROUP BY 1, 2 HAVING count(DISTINCT key) <> 1'), '',
	'attempts of a task have the same idempotency key');
is($session->query('SELECT * FROM evstore.stuck_sagas'), '', 'none is stuck');
is($session->query('SELECT count(*) FROM evstore.saga_mail'), 0, 'nothing has come in that nobody has taken');
is($session->query('SELECT check_name, detail FROM evstore.verify() WHERE NOT ok'), '', 'the store is sound');
note 'trips and calls: ' . $session->query(
	q(SELECT string_agg(format('%s %s', n, status), ', ') FROM (SELECT count(*) AS n, status FROM evstore.saga_instance WHERE business_key IS NOT NULL GROUP BY 2) x));
note 'tasks that were done again: ' . $session->query('SELECT count(*) - count(DISTINCT key) FROM app.call');
note 'steps by outcome: ' . $session->query(
	q(SELECT string_agg(format('%s %s', n, status), ', ') FROM (SELECT count(*) AS n, status FROM evstore.saga_step GROUP BY 2) x));

# ---- what is not durable yet ----

# Nothing writes the log but who must: its writer is stopped, and who fetches does not wait
# for it at his own commit.
$session->query($_) for q(SELECT evstore.create_saga('deliver', '{"asl": {"StartAt": "Deliver", "States": {
		"Deliver": {"Type": "Task", "Resource": "evstore:activity:deliver", "End": true}}}, "options": {"durable": false}}')),
	q(SELECT evstore.create_saga('keep', '{"StartAt": "Keep", "States": {
		"Keep": {"Type": "Task", "Resource": "evstore:activity:keep", "End": true}}}'));

sub start_delivery
{
	my ($session, $saga) = @_;
	my $id = $session->query("SELECT evstore.start_saga('" . ($saga // 'deliver') . "')");

	# looking does not write the log
	poll(sub { $session->query("SELECT count(*) FROM evstore.saga_step WHERE saga_id = '$id'") == 1 }) or die 'no worker begins the step';
	return $id;
}

{
	my $fetcher = session($node, $chaos, options => '-c synchronous_commit=off');
	my $holder = session($node, $chaos);
	my ($log_writer) = grep { title($_) =~ /walwriter/ } children($node->{_pid});

	kill 'STOP', $log_writer;
	my $kept = start_delivery($session, 'keep');
	my $token = $session->query("SELECT token FROM evstore.saga_step WHERE saga_id = '$kept'");
	my @ids = start_delivery($session);
	hold($holder, 'task_found');
	$fetcher->send(q(SELECT token, saga_id FROM evstore.fetch_tasks('deliver', 'worker', 10)));
	ok($fetcher->waits($session), 'a worker that fetches has found a task');
	# what comes while it is about to claim it is given to it, too
	push @ids, start_delivery($session);
	$holder->close;
	my @tasks = @{ $fetcher->result->{rows} };
	is(join(' ', sort map { $_->[1] } @tasks), join(' ', sort @ids), 'tasks that were committed asynchronously are handed out');
	kill_server($node, 'everything');
	$_->close for $session, $fetcher;

	$session = wait_for_server($node, $chaos);
	is($session->query("SELECT token FROM evstore.saga_step WHERE saga_id = '$kept'"), $token, 'a transition is durable unless its saga says otherwise');
	is($session->try("SELECT evstore.complete_task('$_->[0]', '{\"by\": \"$_->[1]\"}')"), '', 'a crash does not take back a task that was handed out') for @tasks;
	kill_server($node, 'everything');
	$session->close;
	$session = wait_for_server($node, $chaos);
	ok( poll(sub { $session->query("SELECT count(*) FROM evstore.sagas WHERE saga = 'deliver' AND status = 'succeeded' AND output ->> 'by' = saga_id::text") == @ids }, 30),
		'nor a reply that was accepted')
	  or diag($session->query("SELECT * FROM evstore.sagas WHERE saga = 'deliver'"));
}

# ---- a worker that does not come back ----

{
	my $id = start_delivery($session);
	my $dead = session($node, $chaos);
	my $first = $dead->query(q(SELECT token, idempotency_key, attempt FROM evstore.fetch_tasks('deliver', 'dead')));

	$dead->close;
	$session->query(q(SET evstore.default_lease = '1s'));
	is($session->query(q(SELECT token, idempotency_key, attempt FROM evstore.fetch_tasks('deliver', 'another', 1, 30000))),
		$first,
		'the task of a worker that is gone is given to another, under the same key');
	$session->query('SELECT evstore.complete_task(' . quote((split /\|/, $first)[0]) . ')');
	ok(poll(sub { $session->query("SELECT status FROM evstore.sagas WHERE saga_id = '$id'") eq 'succeeded' }, 30), 'who does it');
}
is($session->query('SELECT check_name, detail FROM evstore.verify() WHERE NOT ok'), '', 'the store is sound after all');

$session->close;
$node->stop('fast');
done_testing();
