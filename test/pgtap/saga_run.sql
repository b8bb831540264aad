-- Sagas, run in this session: definitions, starting, SQL and append steps, what is nobody's
-- fault, time, rights, pausing, dropping, retention, and the views.
\set QUIET 1
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;
LOAD 'evstore';
SET jit = off;

SELECT plan(128);

CREATE SCHEMA shop;
CREATE TABLE shop.done (n int GENERATED ALWAYS AS IDENTITY, what text, data jsonb, who text, step jsonb);
CREATE TABLE shop.broken (what text PRIMARY KEY);
CREATE FUNCTION shop.act(data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO shop.done (what, data, who, step) VALUES ('act', data, current_user, evstore.current_saga_step());
	CASE data ->> 'do'
	WHEN 'fail' THEN RAISE EXCEPTION 'cannot %', data ->> 'what' USING ERRCODE = 'P0007';
	WHEN 'declare' THEN RAISE EXCEPTION USING ERRCODE = 'VS014', MESSAGE = 'declared', DETAIL = '{"error": "Card.Declined", "cause": "no money"}';
	WHEN 'odd' THEN RAISE EXCEPTION USING ERRCODE = 'VS014', MESSAGE = 'odd', DETAIL = 'not json';
	WHEN 'unique' THEN INSERT INTO shop.broken VALUES ('x'), ('x');
	WHEN 'slow' THEN LOOP END LOOP;
	WHEN 'deadlock' THEN
		IF EXISTS (SELECT FROM shop.broken) THEN RAISE deadlock_detected; END IF;
	WHEN 'run' THEN PERFORM evstore.run_sagas();
	WHEN 'set' THEN PERFORM set_config('work_mem', '1234kB', false);
	WHEN 'start' THEN RETURN to_jsonb(evstore.start_saga('plain', '{"do": "ok"}'));
	WHEN 'append' THEN PERFORM evstore.append('by-step', 'Acted');
	ELSE NULL;
	END CASE;
	RETURN jsonb_build_object('did', data ->> 'do');
END $$;
CREATE FUNCTION shop.undo(data jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO shop.done (what, data, who, step) VALUES ('undo', data, current_user, evstore.current_saga_step());
END $$;
CREATE FUNCTION shop.of_text(data text) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
CREATE FUNCTION shop.to_text(data jsonb) RETURNS text LANGUAGE sql AS 'SELECT NULL::text';
CREATE FUNCTION shop.to_set(data jsonb) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
CREATE FUNCTION shop.nothing(data jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';

-- how a statement ends
CREATE FUNCTION pg_temp.outcome(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE query;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || COALESCE(' ' || NULLIF(detail, ''), '');
END $$;
CREATE FUNCTION pg_temp.later(by interval) RETURNS void LANGUAGE sql AS $$ SELECT set_config('evstore.now_override', (evstore._now() + by)::text, false) $$;
SELECT set_config('evstore.now_override', '2026-01-01T00:00:00Z', false) \g /dev/null

CREATE FUNCTION pg_temp.task(resource text, parameters text DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_strip_nulls(jsonb_build_object('Type', 'Task', 'Resource', resource, 'Parameters', parameters::jsonb, 'End', true)) $$;
CREATE FUNCTION pg_temp.one(resource text, parameters text DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('StartAt', 'A', 'States', jsonb_build_object('A', pg_temp.task(resource, parameters))) $$;
CREATE FUNCTION pg_temp.status(id uuid) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', status, error, cause) FROM evstore.sagas WHERE saga_id = id $$;

-- ---- definitions ----

SELECT is(evstore.create_saga('plain', pg_temp.one('evstore:sql:shop.act')), 1, 'the first version');
SELECT is(evstore.create_saga('plain', pg_temp.one('evstore:sql:shop.act')), 1, '... the same again is the same');
SELECT is(evstore.create_saga('plain', jsonb_build_object('asl', pg_temp.one('evstore:sql:shop.act'), 'options', '{}'::jsonb)), 1, '... in another form, too');
SELECT results_eq($$ SELECT version, paused, running, ended FROM evstore.saga_definitions WHERE saga = 'plain' $$,
	'VALUES (1, false, 0::bigint, 0::bigint)', 'it is in the view');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_saga('x', pg_temp.one('evstore:sql:shop.missing')) $$), 'VS010 {"path": "$.States.A.Resource"}', 'a function that is not there');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_saga('x', pg_temp.one('evstore:sql:nowhere.act')) $$), 'VS010 {"path": "$.States.A.Resource"}', '... in a schema that is not there');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_saga('x', pg_temp.one('evstore:sql:shop.of_text')) $$), 'VS010 {"path": "$.States.A.Resource"}', '... of another type');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_saga('x', pg_temp.one('evstore:sql:shop.to_text')) $$), 'VS010 {"path": "$.States.A.Resource"}', '... with another result');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_saga('x', pg_temp.one('evstore:sql:shop.to_set')) $$), 'VS010 {"path": "$.States.A.Resource"}', '... with a set as its result');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_saga('x', pg_temp.one('evstore:sql:shop.act(jsonb)')) $$), 'ok', 'a function may be named with its argument');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_saga('x', pg_temp.one('evstore:relay:nope')) $$), 'VS010 {"path": "$.States.A.Resource"}', 'a relay that is not there');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_saga('x', pg_temp.one('evstore:saga:nope')) $$), 'ok', 'a saga that is not there may come later');
SELECT alike(pg_temp.outcome($$ SELECT evstore.create_saga('x', '{"StartAt": "A"}') $$), 'VS010%', 'what cannot be compiled');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_saga('', pg_temp.one('evstore:append')) $$), '22023', 'no name');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_saga(repeat('x', 47), pg_temp.one('evstore:append')) $$), '22023', 'a name that is too long');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_saga(NULL, '{}') $$), '22004', 'a null name');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_saga('x', NULL) $$), '22004', 'a null definition');
SELECT is(pg_temp.outcome($$ SELECT evstore.drop_saga('x') $$), 'ok', 'dropped');
SELECT is(pg_temp.outcome($$ SELECT evstore.drop_saga('x') $$), 'VS009 {"saga": "x"}', '... and gone');

-- ---- starting ----

SELECT evstore.create_saga('keyed', jsonb_build_object('asl', pg_temp.one('evstore:sql:shop.act'), 'options', '{"business_key": "$.key", "priority": 3, "max_data": 2000}'::jsonb)) \g /dev/null
SELECT evstore.start_saga('keyed', '{"key": "k1", "do": "ok"}') AS k1 \gset
SELECT is(evstore.start_saga('keyed', '{"key": "k1", "do": "fail"}'), :'k1'::uuid, 'the same business key is the same instance');
SELECT is(evstore.start_saga('keyed', '{"key": 1}', business_key => 'k1'), :'k1'::uuid, '... given by hand, too');
SELECT isnt(evstore.start_saga('keyed', '{"key": "k2", "do": "ok"}'), :'k1'::uuid, 'another one is another');
SELECT isnt(evstore.start_saga('plain', '{"do": "ok"}', 'k1'), :'k1'::uuid, '... and so is that of another saga');
SELECT results_eq(format($$ SELECT saga COLLATE "default", version, status, business_key COLLATE "default", states, priority::int, input, transitions FROM evstore.sagas WHERE saga_id = %L $$, :'k1'),
	$$ VALUES ('keyed', 1, 'running', 'k1', ARRAY['A'], 3, '{"key": "k1", "do": "ok"}'::jsonb, 0) $$, 'a new instance');
SELECT results_eq(format($$ SELECT type, data ->> 'saga_type', correlation_id FROM evstore.saga_history(%L) $$, :'k1'),
	format($$ VALUES ('SagaStarted', 'keyed', %L) $$, :'k1'), '... and its history');
SELECT is((SELECT count(*) FROM shop.done), 0::bigint, 'no step has been run');
SELECT is(pg_temp.outcome($$ SELECT evstore.start_saga('keyed', '{"do": 1}') $$), '22023', 'an input without a business key');
SELECT is(pg_temp.outcome($$ SELECT evstore.start_saga('keyed', '{"key": {"a": 1}}') $$), '22023', '... with one that is an object');
SELECT is(pg_temp.outcome($$ SELECT evstore.start_saga('keyed', '{}', '') $$), '22023', '... with an empty one');
SELECT is(pg_temp.outcome($$ SELECT evstore.start_saga('keyed', '{}', repeat('x', 513)) $$), '22023', '... with one that is too long');
SELECT alike(pg_temp.outcome($$ SELECT evstore.start_saga('keyed', jsonb_build_object('key', 'k3', 'more', repeat('x', 3000))) $$), '22023 {"size": %, "limit": 2000}', 'an input that is too large');
SELECT is(pg_temp.outcome($$ SELECT evstore.start_saga('plain', priority => 10) $$), '22023', 'a priority that there is not');
SELECT is(pg_temp.outcome($$ SELECT evstore.start_saga('nope') $$), 'VS009 {"saga": "nope"}', 'a saga that there is not');
SELECT is(pg_temp.outcome($$ SELECT evstore.start_saga('plain', correlation_id => E'a\nb') $$), 'VS005 {"index": 0, "field": "correlation_id"}', 'a correlation id that cannot be one');
SELECT evstore.start_saga('plain', '{"do": "ok"}', correlation_id => 'flow', causation_id => '018f0000-0000-7000-8000-000000000001') AS flow \gset
SELECT results_eq(format($$ SELECT correlation_id, causation_id FROM evstore.saga_history(%L) $$, :'flow'),
	$$ VALUES ('flow', '018f0000-0000-7000-8000-000000000001'::uuid) $$, 'correlation and cause as they are given');
BEGIN;
SET LOCAL evstore.correlation_id = 'of session';
SELECT evstore.start_saga('plain', '{"do": "ok"}') AS flow \gset
SELECT is((SELECT correlation_id FROM evstore.sagas WHERE saga_id = :'flow'), 'of session', '... or as the session has them');
ROLLBACK;
SELECT is((SELECT count(*) FROM evstore.saga_history(:'flow')), 0::bigint, 'what is rolled back has not been started');

-- ---- transitions ----

SELECT is(evstore.run_sagas(1), 1::bigint, 'one transition');
SELECT is((SELECT string_agg(step ->> 'saga', ' ') FROM shop.done), 'keyed', '... of the one with the highest priority that came first');
SELECT is(pg_temp.status(:'k1'), 'succeeded', '... which has come to its end');
SELECT is(evstore.run_sagas(saga => 'keyed'), 1::bigint, 'all of a saga');
SELECT is(evstore.run_sagas(), 2::bigint, 'all others');
SELECT is(evstore.run_sagas(), 0::bigint, 'nothing is left');
SELECT results_eq(format($$ SELECT step, state, visit, attempt, kind, status, outcome, input, output FROM evstore.saga_steps WHERE saga_id = %L $$, :'k1'),
	$$ VALUES (1::bigint, 'A', 1, 1, 'sql', 'succeeded', 'succeeded', '{"do": "ok", "key": "k1"}'::jsonb, '{"did": "ok"}'::jsonb) $$, 'the step');
SELECT results_eq(format($$ SELECT version, type FROM evstore.saga_history(%L) $$, :'k1'),
	$$ VALUES (0::bigint, 'SagaStarted'), (1, 'StepStarted'), (2, 'StepSucceeded'), (3, 'SagaSucceeded') $$, 'the history');
SELECT ok(bool_and(causation_id IS NOT DISTINCT FROM before), '... of which each event follows from the one before')
	FROM (SELECT causation_id, lag(event_id) OVER (ORDER BY version) AS before FROM evstore.saga_history(:'k1')) AS t;
SELECT is((SELECT step FROM shop.done ORDER BY n LIMIT 1), jsonb_build_object('saga_id', :'k1', 'saga', 'keyed', 'step', 1, 'state', 'A', 'visit', 1, 'attempt', 1,
	'compensates', NULL, 'idempotency_key', :'k1' || '/A/1'), 'what the function knows about the step');
SELECT is(evstore.current_saga_step(), NULL, '... and nobody else');
SELECT is((SELECT output FROM evstore.sagas WHERE saga_id = :'k1'), '{"did": "ok"}', 'the output');
SELECT is(evstore.start_saga('keyed', '{"key": "k1"}'), :'k1'::uuid, 'a key that has been used counts when its instance has ended');

-- a chain: a transaction each
SELECT evstore.create_saga('chain', '{"steps": [{"name": "a", "resource": "evstore:sql:shop.act", "parameters": {"do": "ok"}, "compensate": "evstore:sql:shop.undo"},
	{"name": "b", "resource": "evstore:sql:shop.nothing"}, {"name": "c", "resource": "evstore:sql:shop.act", "parameters": {"do": "append"}}]}') \g /dev/null
SELECT evstore.start_saga('chain', '{"x": 1}') AS chain \gset
SELECT results_eq($$ SELECT evstore.run_sagas(1) FROM generate_series(1, 4) $$, 'VALUES (1::bigint), (1), (1), (0)', 'a chain of three steps is three transitions');
SELECT is((SELECT output FROM evstore.sagas WHERE saga_id = :'chain'), '{"x": 1, "a": {"did": "ok"}, "b": null, "c": {"did": "append"}}', 'a null result is JSON null');
SELECT results_eq($$ SELECT correlation_id, causation_id IN (SELECT event_id FROM evstore.events WHERE stream = 'saga-' || correlation_id) FROM evstore.read_stream('by-step') $$,
	format('VALUES (%L, true)', :'chain'), 'events that a step appends belong to the flow, and follow from the history');
SELECT is((SELECT step ->> 'saga_id' FROM shop.done WHERE data ->> 'do' = 'set'), NULL, 'nothing of it is left in the session');

-- ---- errors ----

CREATE FUNCTION pg_temp.try(what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	id uuid := evstore.start_saga('plain', jsonb_build_object('do', what, 'what', 'act'));
BEGIN
	PERFORM evstore.run_sagas();
	RETURN pg_temp.status(id);
END $$;
SELECT is(pg_temp.try('fail'), 'failed SQL.P0007 cannot act', 'an exception is the error of the step');
SELECT is((SELECT count(*) FROM shop.done WHERE data ->> 'do' = 'fail'), 0::bigint, '... and what the function did is undone');
SELECT results_eq($$ SELECT status, outcome, error, cause FROM evstore.saga_steps WHERE error = 'SQL.P0007' $$,
	$$ VALUES ('failed', 'no_effect', 'SQL.P0007', 'cannot act') $$, '... so that it has had no effect');
SELECT alike(pg_temp.try('unique'), 'failed SQL.23505 %', 'a constraint');
SELECT is(pg_temp.try('declare'), 'failed Card.Declined no money', 'an error that the function declares');
SELECT is(pg_temp.try('odd'), 'failed SQL.VS014 odd', '... and one that says it in its own way');
SELECT is(pg_temp.try('run'), 'failed SQL.55000 cannot run sagas in a step of a saga', 'a step cannot run sagas');
SELECT is(pg_temp.try('set'), 'succeeded', 'a step may set what it likes');
SELECT isnt(current_setting('work_mem'), '1234kB', '... for itself');
SELECT is(pg_temp.try('start'), 'succeeded', 'a step may start sagas');
SELECT evstore.create_saga('slow', jsonb_build_object('asl', pg_temp.one('evstore:sql:shop.act', '{"do": "slow"}'), 'options', '{"statement_timeout": 0.05}'::jsonb)) \g /dev/null
SELECT evstore.start_saga('slow') AS slow \gset
SELECT evstore.run_sagas() \g /dev/null
SELECT is(pg_temp.status(:'slow'), 'failed States.Timeout the function was ended after 0.05 s', 'a function that takes too long');
SELECT is((SELECT data FROM shop.done WHERE what = 'undo'), NULL, 'nothing had been done that is to be undone');

-- compensation
SELECT evstore.create_saga('undone', '{"steps": [{"name": "a", "resource": "evstore:sql:shop.act", "parameters": {"do": "ok"}, "compensate": "evstore:sql:shop.undo"},
	{"name": "b", "resource": "evstore:sql:shop.act", "parameters": {"do": "fail", "what": "go on"}}]}') \g /dev/null
SELECT evstore.start_saga('undone') AS undone \gset
SELECT evstore.run_sagas() \g /dev/null
SELECT is(pg_temp.status(:'undone'), 'compensated SQL.P0007 cannot go on', 'a saga that is undone');
SELECT results_eq($$ SELECT data, step ->> 'idempotency_key' FROM shop.done WHERE what = 'undo' $$,
	format($$ VALUES ('{"input": {"do": "ok"}, "output": {"did": "ok"}, "error": null, "outcome": "succeeded"}'::jsonb, %L) $$, :'undone' || '/a/1/compensate'), 'the compensator knows what has been done');
SELECT results_eq(format($$ SELECT step, compensates, status FROM evstore.saga_steps WHERE saga_id = %L ORDER BY step $$, :'undone'),
	$$ VALUES (1::bigint, NULL::bigint, 'succeeded'), (2, NULL, 'failed'), (3, 1, 'succeeded') $$, 'it is a step of its own');

-- ---- append steps ----

SELECT evstore.create_saga('appends', pg_temp.one('evstore:append')) \g /dev/null
SELECT evstore.start_saga('appends', '{"stream": "order-1", "type": "Placed", "data": {"a": 1}, "metadata": {"m": 1}, "expected_version": -1, "tags": ["t"]}') AS a1 \gset
SELECT evstore.run_sagas() \g /dev/null
SELECT results_eq($$ SELECT stream, version, type, data, metadata, tags, correlation_id FROM evstore.read_stream('order-1') $$,
	format($$ VALUES ('order-1', 0::bigint, 'Placed', '{"a": 1}'::jsonb, '{"m": 1}'::jsonb, ARRAY['t'], %L) $$, :'a1'), 'an event is appended');
SELECT is((SELECT output FROM evstore.sagas WHERE saga_id = :'a1'), (SELECT jsonb_build_object('stream', stream, 'version', version, 'position', position, 'event_id', event_id)
	FROM evstore.read_stream('order-1')), '... and the step tells which');
SELECT is((SELECT left(event_id::text, 13) FROM evstore.read_stream('order-1')), left(:'a1', 13), 'its id has the time of the instance');
SELECT evstore.start_saga('appends', '{"stream": "order-1", "type": "Placed", "expected_version": -1}') AS a2 \gset
SELECT evstore.run_sagas() \g /dev/null
SELECT alike(pg_temp.status(:'a2'), 'failed SQL.VS001 wrong expected version%', 'a wrong expected version');
SELECT evstore.start_saga('appends', '{"stream": "order-1"}') AS a3 \gset
SELECT evstore.start_saga('appends', '{"stream": "order-1", "type": "T", "nonsense": 1}') AS a4 \gset
SELECT evstore.start_saga('appends', '[1]') AS a5 \gset
SELECT evstore.run_sagas() \g /dev/null
SELECT is(pg_temp.status(:'a3'), 'failed SQL.VS005 event field "type" must not be null', 'parameters without a type');
SELECT is(pg_temp.status(:'a4'), 'failed SQL.VS005 event field "nonsense" is not known', '... with what is not known');
SELECT is(pg_temp.status(:'a5'), 'failed SQL.22023 the parameters of an append step must be an object', '... that are no object');

-- ---- what is nobody's fault ----

INSERT INTO shop.broken VALUES ('deadlock');
SELECT evstore.create_saga('deadlock', jsonb_build_object('StartAt', 'A', 'States', jsonb_build_object('A', pg_temp.task('evstore:sql:shop.act', '{"do": "deadlock"}')
	|| '{"Retry": [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 0}]}'))) \g /dev/null
SELECT evstore.start_saga('deadlock') AS d \gset
SELECT is(evstore.run_sagas(), 0::bigint, 'a deadlock undoes the transition');
SELECT results_eq(format($$ SELECT status, transitions, last_error, next_due > evstore._now(), next_due <= evstore._now() + interval '0.2 s' FROM evstore.sagas WHERE saga_id = %L $$, :'d'),
	$$ VALUES ('waiting', 0, 'deadlock_detected', true, true) $$, '... which is to be tried again soon');
SELECT results_eq($$ SELECT reason, error FROM evstore.stuck_sagas $$, $$ VALUES ('cannot go on', 'deadlock_detected') $$, 'somebody may look at it');
SELECT results_eq($$ SELECT ok, detail FROM evstore.health() WHERE check_name = 'sagas go on' $$, $$ VALUES (false, 'deadlock: cannot go on (1)') $$, '... and monitoring tells');
SELECT is(evstore.run_sagas(), 0::bigint, 'it is left alone until then');
SELECT pg_temp.later('1 second') \g /dev/null
SELECT evstore.run_sagas() \g /dev/null
SELECT is((SELECT failures FROM evstore.saga_instance WHERE id = :'d'), 2, 'tried again');
DELETE FROM shop.broken;
SELECT pg_temp.later('1 minute') \g /dev/null
SELECT is(evstore.run_sagas(), 1::bigint, 'when there is no reason any more');
SELECT results_eq(format($$ SELECT s.status, s.last_error, t.attempt, i.failures FROM evstore.sagas s JOIN evstore.saga_steps t USING (saga_id) JOIN evstore.saga_instance i ON i.id = s.saga_id WHERE saga_id = %L $$, :'d'),
	$$ VALUES ('succeeded', NULL, 1, 0) $$, 'it goes on, and the saga''s own attempts have not been used');

-- a function, a definition and a role that have gone
CREATE FUNCTION shop.gone(data jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
SELECT evstore.create_saga('of_gone', pg_temp.one('evstore:sql:shop.gone')) \g /dev/null
SELECT evstore.start_saga('of_gone') AS g1 \gset
DROP FUNCTION shop.gone(jsonb);
SELECT evstore.create_saga('corrupt', pg_temp.one('evstore:sql:shop.nothing')) \g /dev/null
SELECT evstore.start_saga('corrupt') AS g2 \gset
UPDATE evstore.saga_instance SET version = 7 WHERE id = :'g2';
SELECT evstore.start_saga('plain', '{"do": "ok"}') AS g3 \gset
SELECT is(evstore.run_sagas(), 1::bigint, 'what is broken does not stop the others');
SELECT is(pg_temp.status(:'g3'), 'succeeded', '... which go on');
SELECT results_eq($$ SELECT saga COLLATE "default", error FROM evstore.stuck_sagas ORDER BY 1 $$,
	$$ VALUES ('corrupt', 'version 7 of saga ' || (SELECT id FROM evstore.saga WHERE name = 'corrupt') || ' does not exist'), ('of_gone', 'function shop.gone(jsonb) of a saga''s step does not exist') $$, '... and is shown');
SELECT evstore.drop_saga('corrupt', true), evstore.drop_saga('of_gone', true) \g /dev/null
SELECT is_empty('SELECT FROM evstore.stuck_sagas', 'nothing is stuck any more');

-- ---- steps that are run at once, and wait for a reply all the same ----

SELECT evstore.create_saga('token', pg_temp.one('evstore:sql:shop.act.waitForTaskToken', '{"do.$": "$.do", "what": "begin", "token.$": "$$.Task.Token"}')) \g /dev/null
SELECT evstore.start_saga('token', '{"do": "ok"}') AS t1 \gset
SELECT evstore.start_saga('token', '{"do": "fail"}') AS t2 \gset
SELECT evstore.run_sagas() \g /dev/null
SELECT results_eq(format($$ SELECT status, wait_reason FROM evstore.sagas WHERE saga_id = %L $$, :'t1'), $$ VALUES ('waiting', 'sql shop.act') $$, 'a function has been called, and the step waits');
SELECT is(pg_temp.status(:'t2'), 'failed SQL.P0007 cannot begin', '... not if it has failed');
SELECT results_eq(format($$ SELECT status, outcome FROM evstore.saga_steps WHERE saga_id = %L $$, :'t2'), $$ VALUES ('failed', 'no_effect') $$, '... which its row says');
SELECT evstore.complete_task((data ->> 'token')::uuid, '{"by": "token"}') FROM shop.done WHERE data ? 'token' \g /dev/null
SELECT is(evstore.run_sagas(), 1::bigint, 'the reply is taken in');
SELECT is((SELECT output FROM evstore.sagas WHERE saga_id = :'t1'), '{"by": "token"}', '... and is the result');

-- a saga that waits for one that is dropped
SELECT evstore.create_saga('child', '{"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 600, "End": true}}}') \g /dev/null
SELECT evstore.create_saga('parent', pg_temp.one('evstore:saga:child.sync')) \g /dev/null
SELECT evstore.start_saga('parent') AS parent \gset
SELECT evstore.run_sagas() \g /dev/null
SELECT evstore.drop_saga('child', true) \g /dev/null
SELECT evstore.run_sagas() \g /dev/null
SELECT is(pg_temp.status(:'parent'), 'compensated Saga.Dropped saga "child" has been dropped', 'who waits for a saga that is dropped is told');

-- ---- time, versions and priorities ----

SELECT evstore.create_saga('waits', '{"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 60, "Next": "A"}, "A": {"Type": "Task", "Resource": "evstore:sql:shop.act", "End": true}}}') \g /dev/null
SELECT evstore.start_saga('waits', '{"do": "ok"}') AS w \gset
SELECT evstore.run_sagas() \g /dev/null
SELECT results_eq(format($$ SELECT status, states, next_due - evstore._now(), wait_reason = 'until ' || next_due FROM evstore.sagas WHERE saga_id = %L $$, :'w'),
	$$ VALUES ('waiting', ARRAY['W'], interval '1 minute', true) $$, 'it waits');
SELECT results_eq(format($$ SELECT due - evstore._now(), what, state FROM evstore.saga_timers WHERE saga_id = %L $$, :'w'), $$ VALUES (interval '1 minute', 'wait', 'W') $$, '... for a timer');
SELECT is(evstore.create_saga('waits', pg_temp.one('evstore:sql:shop.nothing')), 2, 'meanwhile the saga is another');
SELECT pg_temp.later('59.9 seconds') \g /dev/null
SELECT is(evstore.run_sagas(), 0::bigint, 'not yet');
SELECT pg_temp.later('0.1 seconds') \g /dev/null
SELECT ok(evstore.run_sagas() > 0, 'now');
SELECT results_eq(format($$ SELECT status, version, output FROM evstore.sagas WHERE saga_id = %L $$, :'w'), $$ VALUES ('succeeded', 1, '{"did": "ok"}'::jsonb) $$, 'an instance keeps its definition');

TRUNCATE shop.done RESTART IDENTITY;
SELECT evstore.start_saga('plain', '{"do": "5"}'), evstore.start_saga('plain', '{"do": "9"}', priority => 9), evstore.start_saga('plain', '{"do": "0"}', priority => 0),
	evstore.start_saga('plain', '{"do": "4"}', priority => 4) \g /dev/null
SELECT evstore.run_sagas() \g /dev/null
SELECT is((SELECT string_agg(data ->> 'do', '' ORDER BY n) FROM shop.done), '0459', 'by priority');

-- ---- waiting instances cost nothing ----

SELECT evstore.create_saga('many', '{"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 600, "End": true}}}') \g /dev/null
SELECT count(evstore.start_saga('many', priority => i % 10)) FROM generate_series(1, 300) i \g /dev/null
SELECT evstore.run_sagas() \g /dev/null
BEGIN;
CREATE TEMP VIEW counts AS SELECT sum(seq_scan) AS seq, sum(idx_tup_fetch) FILTER (WHERE relname = 'saga_instance') AS fetched
	FROM pg_stat_xact_user_tables WHERE schemaname = 'evstore' AND relname IN ('saga_instance', 'saga_step', 'saga_mail');
SELECT seq AS seq, fetched AS fetched FROM counts \gset
SELECT is(evstore.run_sagas(), 0::bigint, 'three hundred wait');
SELECT is((SELECT seq FROM counts), :seq::numeric, '... and no table is read');
SELECT cmp_ok((SELECT fetched FROM counts) - :fetched, '<', 20::numeric, '... and no more of them are looked at than there are priorities, and sagas');
COMMIT;

-- ---- pausing and dropping ----

SELECT evstore.start_saga('plain', '{"do": "ok"}') AS p \gset
SELECT evstore.pause_saga('plain') \g /dev/null
SELECT is(evstore.run_sagas(), 0::bigint, 'a saga that is paused stands still');
SELECT is(pg_temp.outcome($$ SELECT evstore.drop_saga('plain') $$), '55000 {"saga": "plain", "running": 1}', 'a saga that runs is not dropped');
SELECT evstore.resume_saga('plain') \g /dev/null
SELECT is(evstore.run_sagas(), 1::bigint, 'it goes on');
SELECT is(pg_temp.outcome($$ SELECT evstore.drop_saga('many') $$), '55000 {"saga": "many", "running": 300}', 'nor one that waits');
SELECT is(pg_temp.outcome($$ SELECT evstore.drop_saga('many', true) $$), 'ok', '... unless it must');
SELECT is_empty($$ SELECT FROM evstore.saga_instance i WHERE NOT EXISTS (SELECT FROM evstore.saga s WHERE s.id = i.definition_id) $$, 'then nothing is left of it');
SELECT is_empty($$ SELECT FROM evstore.saga_step t WHERE NOT EXISTS (SELECT FROM evstore.saga_instance i WHERE i.id = t.saga_id) $$, '... neither of its steps');

-- ---- retention ----

SELECT evstore.create_saga('kept', jsonb_build_object('asl', pg_temp.one('evstore:sql:shop.nothing'), 'options', '{"retention": "1 hour"}'::jsonb)) \g /dev/null
SELECT evstore.start_saga('kept', business_key => 'k') AS kept \gset
SELECT evstore.run_sagas() \g /dev/null
SELECT is(evstore.purge_sagas(saga => 'kept'), 0::bigint, 'an hour is not over');
SELECT pg_temp.later('61 minutes') \g /dev/null
SELECT is(evstore.purge_sagas(), 1::bigint, 'now it is, and others are kept for ever');
SELECT isnt(evstore.start_saga('kept', business_key => 'k'), :'kept'::uuid, 'the key is free again');
SELECT is((SELECT count(*) FROM evstore.saga_history(:'kept')), 4::bigint, 'the history stays');
SELECT ok(evstore.purge_sagas('0') > 10, 'all that have ended');

-- ---- rights ----

CREATE ROLE saga_owner;
CREATE ROLE saga_other;
CREATE ROLE saga_writer;
SELECT evstore.grant_access('saga_owner', 'admin'), evstore.grant_access('saga_other', 'admin'), evstore.grant_access('saga_writer', 'writer') \g /dev/null
GRANT USAGE ON SCHEMA shop TO saga_owner, saga_other;
GRANT INSERT ON shop.done TO saga_owner;
SET ROLE saga_owner;
SELECT evstore.create_saga('owned', pg_temp.one('evstore:sql:shop.act')) \g /dev/null
RESET ROLE;
SELECT evstore.start_saga('owned', '{"do": "ok"}') AS o \gset
TRUNCATE shop.done;
SELECT evstore.run_sagas(saga => 'owned') \g /dev/null
SELECT is((SELECT who FROM shop.done), 'saga_owner', 'a step runs as the saga''s owner');
SET ROLE saga_other;
SELECT is(pg_temp.outcome($$ SELECT evstore.create_saga('owned', pg_temp.one('evstore:append')) $$), '42501', 'somebody else cannot replace it');
SELECT is(pg_temp.outcome($$ SELECT evstore.drop_saga('owned') $$), '42501', '... or drop it');
SELECT is(pg_temp.outcome($$ SELECT evstore.pause_saga('owned') $$), '42501', '... or pause it');
SELECT is(pg_temp.outcome($$ SELECT evstore.start_saga('owned') $$), '42501', '... or start it');
SELECT is(pg_temp.outcome($$ SELECT evstore.run_sagas(saga => 'owned') $$), '42501', '... or run it');
SELECT is(pg_temp.outcome($$ SELECT evstore.purge_sagas('0', 'owned') $$), '42501', '... or purge it');
SELECT is(pg_temp.outcome($$ SELECT evstore.alter_saga('owned', 'saga_other') $$), '42501', '... or take it');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION shop.nothing(jsonb) FROM PUBLIC;
SET ROLE saga_owner;
SELECT is(pg_temp.outcome($$ SELECT evstore.create_saga('o2', pg_temp.one('evstore:sql:shop.nothing')) $$), 'VS010 {"path": "$.States.A.Resource"}', 'a function that the owner may not execute');
RESET ROLE;
SELECT is(pg_temp.outcome($$ SELECT evstore.alter_saga('owned', 'saga_other') $$), 'ok', 'given to somebody else');
SELECT evstore.start_saga('owned', '{"do": "ok"}') AS o \gset
SELECT evstore.run_sagas() \g /dev/null
SELECT is((SELECT last_error FROM evstore.sagas WHERE saga_id = :'o'), 'permission denied for table done', '... who lacks a right: it waits until he has it');
GRANT INSERT ON shop.done TO saga_other;
SELECT pg_temp.later('1 minute') \g /dev/null
SELECT evstore.run_sagas() \g /dev/null
SELECT is(pg_temp.status(:'o'), 'succeeded', '... and goes on');

SELECT * FROM finish();
DROP OWNED BY saga_owner, saga_other, saga_writer;
SELECT evstore.drop_saga('owned', true) \g /dev/null
DROP ROLE saga_owner, saga_other, saga_writer;
