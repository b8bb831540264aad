-- Sagas: what comes in from outside.  Tasks, signals, operators, participants.

-- Mail for an instance; its workers look for it at commit.
CREATE OR REPLACE FUNCTION evstore._saga_mail(saga_id uuid, definition_id bigint, kind text,
	step bigint DEFAULT NULL, name text DEFAULT NULL, payload jsonb DEFAULT NULL,
	error text DEFAULT NULL, cause text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_saga_mail_sql';
COMMENT ON FUNCTION evstore._saga_mail(uuid, bigint, text, bigint, text, jsonb, text, text) IS
	'brings something to an instance of a saga from outside';

/*
 * fetch_tasks(activity, worker, max_count, wait_ms) -> setof (token, saga_id, saga, step, state, attempt,
 * idempotency_key, input, timeout_at, heartbeat_seconds): tasks of an activity, oldest first.
 *
 * max_count: 0 to 1000.  wait_ms: 0 to 3,600,000; returns with the first task.  A task is the worker's until
 * timeout_at, and as long as heartbeat_seconds do not go by without a heartbeat_task().  One of which neither
 * is said is given to others after evstore.default_lease without one.
 * Errors: 22004, 22023, 42501, 55000 (waiting in a transaction that has appended; a copy).
 */
CREATE OR REPLACE FUNCTION evstore.fetch_tasks(activity text, worker text, max_count integer DEFAULT 1,
	wait_ms integer DEFAULT 0)
RETURNS TABLE (token uuid, saga_id uuid, saga text, step bigint, state text, attempt integer,
	idempotency_key text, input jsonb, timeout_at timestamptz, heartbeat_seconds double precision)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_fetch_tasks';
COMMENT ON FUNCTION evstore.fetch_tasks(text, text, integer, integer) IS 'claim tasks of an activity; wait for the first one';

/*
 * complete_task(token, output): the task of a step is done.
 *
 * The same output once more changes nothing.  After the time-out, or when the step has been withdrawn, the saga
 * is told that there was an effect after all, while that can matter still.
 * Errors: VS007, 22004, 22023 (more than the saga's max_data), 42501.
 */
CREATE OR REPLACE FUNCTION evstore.complete_task(token uuid, output jsonb DEFAULT '{}') RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_complete_task';
COMMENT ON FUNCTION evstore.complete_task(uuid, jsonb) IS 'the task with this token has succeeded';

/*
 * fail_task(token, error, cause, no_effect): the task of a step has failed.
 *
 * error: 1 to 256 bytes, what Retry and Catch match.  no_effect: nothing has been changed, so there is nothing
 * to compensate; false: that is not known.
 * Errors: those of complete_task().
 */
CREATE OR REPLACE FUNCTION evstore.fail_task(token uuid, error text, cause text DEFAULT NULL,
	no_effect boolean DEFAULT true)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_fail_task';
COMMENT ON FUNCTION evstore.fail_task(uuid, text, text, boolean) IS 'the task with this token has failed';

/*
 * heartbeat_task(token) -> timestamptz: when the next one, or the reply, is due; null: never.
 *
 * Errors: VS007 (stop: nobody waits for the task any more), 22004, 42501.
 */
CREATE OR REPLACE FUNCTION evstore.heartbeat_task(token uuid) RETURNS timestamptz
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_heartbeat_task';
COMMENT ON FUNCTION evstore.heartbeat_task(uuid) IS 'a sign of life of the worker that has a task';

/*
 * signal_saga(saga_id, name, payload) -> boolean: is it the first of this name?
 *
 * The first of each name counts, also for steps that begin to wait for it later.
 * Errors: VS009 (no such instance, or it has ended), 22004, 22023, 42501.
 */
CREATE OR REPLACE FUNCTION evstore.signal_saga(saga_id uuid, name text, payload jsonb DEFAULT '{}') RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_signal_saga';
COMMENT ON FUNCTION evstore.signal_saga(uuid, text, jsonb) IS 'tell an instance of a saga something, by name; the first of each name counts';

CREATE OR REPLACE FUNCTION evstore.signal_saga_by_key(saga text, business_key text, name text,
	payload jsonb DEFAULT '{}')
RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_signal_saga_by_key';
COMMENT ON FUNCTION evstore.signal_saga_by_key(text, text, text, jsonb) IS 'as signal_saga(), for the instance with a business key';

/*
 * cancel_saga(saga_id, compensate): end an instance that is running.
 *
 * compensate: what its steps have done is undone first; false: it is left as it is.
 * The caller must be able to act as the saga's owner.  Errors: VS009, 22004, 42501, 55000 (it is not running).
 */
CREATE OR REPLACE FUNCTION evstore.cancel_saga(saga_id uuid, compensate boolean DEFAULT true) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_cancel_saga';
COMMENT ON FUNCTION evstore.cancel_saga(uuid, boolean) IS 'end an instance of a saga; what it has done is undone, or left as it is';

/*
 * retry_saga(saga_id): go on with an instance that has failed, timed out or been cancelled from where it was; or with
 * a compensation that has failed.
 *
 * Rights and errors: as cancel_saga().
 */
CREATE OR REPLACE FUNCTION evstore.retry_saga(saga_id uuid) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_retry_saga';
COMMENT ON FUNCTION evstore.retry_saga(uuid) IS 'go on with an instance that has failed, or with its compensation';

/*
 * resolve_saga(saga_id, outcome, reason): what becomes of an instance whose compensation has failed.
 *
 * outcome: skip (this compensator; the others go on), compensated or failed.  reason: 1 to 32768 bytes.
 * Rights and errors: as cancel_saga(), 22023.
 */
CREATE OR REPLACE FUNCTION evstore.resolve_saga(saga_id uuid, outcome text, reason text) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_resolve_saga';
COMMENT ON FUNCTION evstore.resolve_saga(uuid, text, text) IS 'say what becomes of an instance whose compensation has failed';

/*
 * compensate_saga(saga_id, compensations): undo what an instance has done.
 *
 * compensations: a list of objects {"state" or "eventType", "compensationAction", "data"}, or an object with this list as
 * compensationRequired: these, in this order; null: all of it, as the saga's definition says.
 * Rights and errors: as cancel_saga(), 22023.
 */
CREATE OR REPLACE FUNCTION evstore.compensate_saga(saga_id uuid, compensations jsonb DEFAULT NULL) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_compensate_saga';
COMMENT ON FUNCTION evstore.compensate_saga(uuid, jsonb) IS 'undo what an instance has done, as its definition or a list says';

/*
 * saga_barrier(saga, branch, op) -> boolean: is this call to be done?
 *
 * For participants, in the transaction of their work.  saga, branch: 1 to 512 bytes, the same for what belongs together.
 * op: action and compensate, or try, confirm and cancel.  false: it has been done; or there is nothing to
 * undo; or it has been undone before it came.  Errors: 22004, 22023, 42501.
 */
CREATE OR REPLACE FUNCTION evstore.saga_barrier(saga text, branch text, op text) RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_saga_barrier';
COMMENT ON FUNCTION evstore.saga_barrier(text, text, text) IS
	'true: do it; false: it is a repetition, nothing to undo, or undone already';

CREATE OR REPLACE FUNCTION evstore.saga_barrier_expire(older_than interval DEFAULT '30 days') RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_saga_barrier_expire';
COMMENT ON FUNCTION evstore.saga_barrier_expire(interval) IS 'forget calls of saga_barrier() that are older; returns how many rows';

/*
 * fail_step(error, cause): for functions of steps: this has gone wrong.
 *
 * error: 1 to 256 bytes, what Retry and Catch match.  Raises VS014 with {"error", "cause"} as DETAIL; what the
 * function has done is rolled back.
 */
CREATE OR REPLACE FUNCTION evstore.fail_step(error text, cause text DEFAULT NULL) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_fail_step';
COMMENT ON FUNCTION evstore.fail_step(text, text) IS 'fail a step of a saga with an error of its own';

-- Another attempt of a step that a relay is to deliver.  true: the event has arrived meanwhile.
CREATE OR REPLACE FUNCTION evstore._saga_relay_again(relay text, at_position bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(relay, 'relay');
	found text;
BEGIN
	-- in the order of others; the relay writes down what has become of the event before, or after, this transaction
	PERFORM evstore._slots_lock(s.id, 1);
	SELECT f.state INTO found FROM evstore.failed_event f WHERE f.subscription_id = s.id AND f."position" = at_position;
	IF found = 'parked' THEN
		PERFORM evstore.replay_parked(s.name, at_position);
	END IF;
	RETURN found IS NULL AND at_position <= (SELECT t.cursor FROM evstore.slot_state t
		WHERE t.subscription_id = s.id AND t.slot = 0 ORDER BY t.seq DESC LIMIT 1);
END
$$;
COMMENT ON FUNCTION evstore._saga_relay_again(text, bigint) IS 'sends the event of a step again; true: it has arrived';

-- A relay will not deliver events up to a position (null: any): the steps that wait for that fail.
CREATE OR REPLACE FUNCTION evstore._saga_relay_gone(relay text, up_to bigint, error text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	gone record;
BEGIN
	FOR gone IN
		UPDATE evstore.saga_step s SET status = 'reported', output = NULL, error = _saga_relay_gone.error
		FROM evstore.saga_instance i
		WHERE i.id = s.saga_id AND s.kind = 'relay' AND s.status = 'running' AND s.name = relay
			AND (up_to IS NULL OR s."position" <= up_to)
		RETURNING s.saga_id, i.definition_id, s.step
	LOOP
		PERFORM evstore._saga_mail(gone.saga_id, gone.definition_id, 'failure', gone.step, 'unknown', error => error);
	END LOOP;
END
$$;
COMMENT ON FUNCTION evstore._saga_relay_gone(text, bigint, text) IS 'fails steps whose events a relay will not deliver';
