# Sagas go on after a crash where they were: no step is done twice or left out,
# whatever is killed and when.
#
# First the order saga of the sample, with steps that are SQL functions, and with
# activities that a worker fetches.  For each transition of it there is an instance that
# has come that far, in a database without workers.  All of them make their next
# transition at the same time, and everything is killed with SIGKILL while each stands at
# the same point of it.
#
# EVS_CHAOS_SEED   repeats the choices of a run, though not its timing

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsChaos;
use EvsTest;
use Test::More;

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

# Histories that are not contiguous, or do not say the same as the steps do.  Commits are
# as a crash left them, so this is true after each.
sub contradictions
{
	my ($session, $keys) = @_;

	return $session->query(
		q(WITH history AS MATERIALIZED (
			SELECT i.id, h.version, h.type, (h.data ->> 'step')::bigint AS step, i.status
			FROM evstore.saga_instance i CROSS JOIN LATERAL evstore.saga_history(i.id) h WHERE i.business_key ~ '#'),
		begun AS (SELECT id, step, count(*) FILTER (WHERE type = 'StepStarted') AS started,
				string_agg(type, '+') FILTER (WHERE type IN ('StepSucceeded', 'StepCompensated', 'StepFailed', 'CompensationStepFailed')) AS ended
			FROM history WHERE step IS NOT NULL GROUP BY 1, 2)
		SELECT 'gap', id, count(*)::text, max(version)::text FROM history GROUP BY id HAVING max(version) <> count(*) - 1
		UNION ALL SELECT 'steps', id, count(*)::text, max(step)::text FROM evstore.saga_step s JOIN evstore.saga_instance i ON i.id = s.saga_id
			WHERE i.business_key ~ '#' GROUP BY id HAVING max(step) <> count(*)
		UNION ALL SELECT 'step ' || COALESCE(b.step, s.step), COALESCE(b.id, s.saga_id), b.started || COALESCE(' ' || b.ended, ''), s.status
			FROM begun b FULL JOIN (SELECT s.* FROM evstore.saga_step s JOIN evstore.saga_instance i ON i.id = s.saga_id WHERE i.business_key ~ '#') s ON s.saga_id = b.id AND s.step = b.step
			WHERE (b.started = 1 AND CASE
				WHEN s.status = 'succeeded' THEN b.ended = CASE WHEN s.compensates IS NULL THEN 'StepSucceeded' ELSE 'StepCompensated' END
				WHEN s.status IN ('failed', 'timed_out') THEN b.ended = CASE WHEN s.compensates IS NULL THEN 'StepFailed' ELSE 'CompensationStepFailed' END
				ELSE b.ended IS NULL END) IS NOT TRUE
		UNION ALL SELECT 'end', id, status, (array_agg(type ORDER BY version DESC))[1] FROM history GROUP BY id, status
			HAVING CASE status WHEN 'succeeded' THEN 'SagaSucceeded' WHEN 'compensated' THEN 'SagaCompensated' END
				<> (array_agg(type ORDER BY version DESC))[1]
		LIMIT 10) =~ s/#/$keys/gr);
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

$node->stop('fast');
done_testing();
