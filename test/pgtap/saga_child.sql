-- Steps that are sagas themselves.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;
SET evstore.now_override = '2030-01-01 12:00+00';

SELECT plan(41);

CREATE FUNCTION later(seconds int) RETURNS text LANGUAGE sql AS
	$$ SELECT set_config('evstore.now_override', (current_setting('evstore.now_override')::timestamptz + seconds * interval '1 second')::text, false) $$;
CREATE FUNCTION id_of(key text) RETURNS uuid LANGUAGE sql AS 'SELECT i.id FROM evstore.saga_instance i WHERE i.business_key = $1';
CREATE FUNCTION begun(saga text, key text, input jsonb DEFAULT '{}') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evstore.start_saga(saga, input, key);
	PERFORM evstore.run_sagas();
END $$;
-- do the only task of an activity, and let the sagas go on
CREATE FUNCTION done(activity text, output jsonb DEFAULT '{}') RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	t uuid := (SELECT f.token FROM evstore.fetch_tasks(activity, 'worker') f);
BEGIN
	IF t IS NULL THEN
		RETURN false;
	END IF;
	PERFORM evstore.complete_task(t, output);
	PERFORM evstore.run_sagas();
	RETURN true;
END $$;
CREATE FUNCTION failed(activity text, error text, no_effect boolean DEFAULT true) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	t uuid := (SELECT f.token FROM evstore.fetch_tasks(activity, 'worker') f);
BEGIN
	IF t IS NULL THEN
		RETURN false;
	END IF;
	PERFORM evstore.fail_task(t, error, 'said the worker', no_effect);
	PERFORM evstore.run_sagas();
	RETURN true;
END $$;
CREATE FUNCTION steps_of(id uuid) RETURNS text LANGUAGE sql AS $$
	SELECT i.status || COALESCE(': ' || string_agg(s.state || ' ' || s.status || COALESCE(' ' || s.error, ''), ', ' ORDER BY s.step), '')
	FROM evstore.saga_instance i LEFT JOIN evstore.saga_step s ON s.saga_id = i.id WHERE i.id = $1 GROUP BY i.id $$;
CREATE FUNCTION state_of(key text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evstore.run_sagas();
	RETURN steps_of(id_of(key));
END $$;
-- of the newest child
CREATE FUNCTION child_of(key text) RETURNS uuid LANGUAGE sql AS $$
	SELECT s.child_id FROM evstore.saga_step s WHERE s.saga_id = id_of($1) AND s.child_id IS NOT NULL ORDER BY s.step DESC LIMIT 1 $$;
CREATE FUNCTION child_state(key text) RETURNS text LANGUAGE sql AS 'SELECT steps_of(child_of($1))';

SELECT evstore.create_saga('child', '{"steps": [{"name": "c", "resource": "evstore:activity:c", "compensate": "evstore:activity:undo_c"},
	{"name": "d", "resource": "evstore:activity:d", "compensate": "evstore:activity:undo_d"}]}');
SELECT evstore.create_saga('parent', '{"StartAt": "Sub", "States": {"Sub": {"Type": "Task", "Resource": "evstore:saga:child.sync", "TimeoutSeconds": 100, "Next": "Last"},
	"Last": {"Type": "Task", "Resource": "evstore:activity:last", "End": true}}}');

CREATE FUNCTION one_child(name text, resource text, options jsonb DEFAULT '{}') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evstore.create_saga(name, jsonb_build_object('asl', jsonb_build_object('StartAt', 'Sub', 'States', jsonb_build_object('Sub',
		jsonb_build_object('Type', 'Task', 'Resource', resource, 'End', true))), 'options', options));
END $$;

-- ---- waiting for it ----

SELECT begun('parent', 'p1', '{"x": 1}');
SELECT is(state_of('p1'), 'running: Sub running', 'it waits');
SELECT is(child_state('p1'), 'running: c running', 'for its child');
SELECT results_eq($$ SELECT d.name, i.input, i.parent_id = id_of('p1'), i.parent_step, i.correlation_id = id_of('p1')::text, i.business_key
	FROM evstore.saga_instance i JOIN evstore.saga d ON d.id = i.definition_id WHERE i.id = child_of('p1') $$,
	$$ VALUES ('child' COLLATE "C", '{"x": 1}'::jsonb, true, 1::bigint, true, NULL COLLATE "C") $$, 'which knows where it comes from');
SELECT done('c', '{"c": 1}'), done('d', '{"d": 2}');
SELECT is(state_of('p1'), 'running: Sub succeeded, Last running', 'its end is the reply');
SELECT is((SELECT input -> 'd' FROM evstore.saga_step WHERE saga_id = id_of('p1') AND step = 2), '{"d": 2}', 'with its output');
-- compensated as a whole
SELECT failed('last', 'Oops');
SELECT is(state_of('p1'), 'compensating: Sub succeeded, Last failed Oops, Sub running', 'what comes after it fails: it is to be undone');
SELECT is(child_state('p1'), 'compensating: c succeeded, d succeeded, d running', 'by itself, in reverse order');
SELECT done('undo_d'), done('undo_c');
SELECT is(child_state('p1'), 'compensated: c succeeded, d succeeded, d succeeded, c succeeded', 'it has done so');
SELECT is(state_of('p1'), 'compensated: Sub succeeded, Last failed Oops, Sub succeeded', 'and its parent, too');
SELECT results_eq($$ SELECT count(*), count(DISTINCT child_id) FROM evstore.saga_step WHERE saga_id = id_of('p1') AND kind = 'saga' $$,
	'VALUES (2::bigint, 1::bigint)', 'it is the same child');

-- ---- it fails ----

SELECT begun('parent', 'p2'), done('c'), failed('d', 'NoSeats');
SELECT is(state_of('p2'), 'running: Sub running', 'while it undoes what it has done, its parent waits');
SELECT done('undo_c');
SELECT is(child_state('p2'), 'compensated: c succeeded, d failed NoSeats, c succeeded', 'it has undone it');
SELECT is(state_of('p2'), 'failed: Sub failed NoSeats', 'the step fails with its error');
SELECT is((SELECT outcome FROM evstore.saga_step WHERE saga_id = id_of('p2')), 'no_effect', 'and has had no effect');
-- what it has done cannot be undone: somebody has to decide
SELECT evstore.create_saga('stuck', '{"steps": [{"name": "c", "resource": "evstore:activity:c", "compensate": {"Resource": "evstore:activity:undo_c", "Retry": [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 0}]}},
	{"name": "d", "resource": "evstore:activity:d"}]}');
SELECT one_child('holder', 'evstore:saga:stuck.sync');
SELECT begun('holder', 'h1'), done('c'), failed('d', 'NoSeats'), failed('undo_c', 'Broken');
SELECT is(state_of('h1') || ', ' || child_state('h1'), 'running: Sub running, compensation_failed: c succeeded, d failed NoSeats, c failed Broken', 'its parent waits');
SELECT evstore.resolve_saga(child_of('h1'), 'compensated', 'by hand');
SELECT is(state_of('h1'), 'failed: Sub failed NoSeats', 'it has been undone by hand');
SELECT begun('holder', 'h2'), done('c'), failed('d', 'NoSeats'), failed('undo_c', 'Broken'), evstore.resolve_saga(child_of('h2'), 'failed', 'cannot be done');
SELECT is(state_of('h2'), 'compensating: Sub failed NoSeats, Sub failed Saga.NotCompensated', 'it has not been undone: its parent must not say so');

-- ---- withdrawn ----

SELECT begun('parent', 'p4'), done('c'), evstore.cancel_saga(id_of('p4'));
SELECT is(state_of('p4'), 'compensating: Sub cancelled, Sub running', 'its parent is cancelled');
SELECT is(child_state('p4'), 'compensating: c succeeded, d cancelled, d running', 'so is it: what may have happened is undone, too');
SELECT done('undo_d'), done('undo_c');
SELECT is(state_of('p4'), 'cancelled: Sub cancelled, Sub succeeded', 'both are undone');
SELECT begun('parent', 'p5'), later(101), evstore.run_sagas();
SELECT is(state_of('p5') || ', ' || child_state('p5'), 'compensating: Sub timed_out States.Timeout, Sub running, compensating: c cancelled, c running', 'it has taken too long');
SELECT done('undo_c');
SELECT is(state_of('p5') || ', ' || child_state('p5'), 'compensated: Sub timed_out States.Timeout, Sub succeeded, cancelled: c cancelled, c succeeded', 'what it may have done is undone');
-- one that nobody waits for any more undoes what it has done, also where its parent does not
SELECT begun('parent', 'p6'), evstore.cancel_saga(id_of('p6'), false);
SELECT is(state_of('p6') || ', ' || child_state('p6'), 'cancelled: Sub cancelled, compensating: c cancelled, c running', 'nobody waits for it any more');
SELECT done('undo_c');
-- one that ends at the same time
SELECT begun('parent', 'p7'), done('c', '{"c": 1}');
SELECT evstore.cancel_saga(id_of('p7'));
SELECT evstore.complete_task(token, '{"d": 1}') FROM evstore.fetch_tasks('d', 'worker');
SELECT evstore.run_sagas(1, 'child'), evstore.run_sagas();
SELECT is(child_state('p7'), 'compensating: c succeeded, d succeeded, d running', 'it had succeeded when its parent was cancelled');
SELECT done('undo_d'), done('undo_c');
SELECT is(state_of('p7'), 'cancelled: Sub cancelled, Sub succeeded', 'it is undone even so');

-- one that has succeeded before it hears that it is to be undone
SELECT begun('parent', 'p8'), done('c', '{"c": 1}');
SELECT evstore.complete_task(token, '{"d": 1}') FROM evstore.fetch_tasks('d', 'worker');
SELECT evstore.cancel_saga(id_of('p8')), evstore.run_sagas(10, 'parent');
SELECT is(steps_of(id_of('p8')), 'compensating: Sub cancelled, Sub running', 'its parent waits already for its compensation');
SELECT evstore.run_sagas(1, 'child');
SELECT is(child_state('p8'), 'succeeded: c succeeded, d succeeded', 'and it succeeds');
SELECT evstore.run_sagas(), done('undo_d'), done('undo_c');
SELECT is(state_of('p8') || ', ' || child_state('p8'), 'cancelled: Sub cancelled, Sub succeeded, compensated: c succeeded, d succeeded, d succeeded, c succeeded', 'it is undone all the same');

-- ---- not waited for ----

SELECT evstore.create_saga('starter', '{"StartAt": "Go", "States": {"Go": {"Type": "Task", "Resource": "evstore:saga:child", "Next": "Last"},
	"Last": {"Type": "Task", "Resource": "evstore:activity:last", "End": true}}}');
SELECT begun('starter', 's1');
SELECT is(state_of('s1'), 'running: Go succeeded, Last running', 'it is started, and that is all');
SELECT is((SELECT output FROM evstore.saga_step WHERE saga_id = id_of('s1') AND step = 1), jsonb_build_object('saga_id', child_of('s1')), 'the output is its id');
SELECT failed('last', 'Oops');
SELECT is(state_of('s1') || '; ' || child_state('s1'), 'failed: Go succeeded, Last failed Oops; running: c running', 'it goes its own way');
SELECT is((SELECT parent_id FROM evstore.saga_instance WHERE id = child_of('s1')), NULL, 'it has no parent');

-- ---- what cannot be started ----

SELECT one_child('lost', 'evstore:saga:nothing.sync');
SELECT begun('lost', 'l1');
SELECT is(state_of('l1'), 'failed: Sub failed Saga.NotFound', 'there is no such saga');
SELECT one_child('loop', 'evstore:saga:loop.sync');
SELECT begun('loop', 'l2');
SELECT is(state_of('l2'), 'compensated: Sub failed Saga.TooDeep, Sub succeeded', 'a saga in itself comes to an end');
SELECT is((SELECT count(*) FROM evstore.saga_instance i JOIN evstore.saga d ON d.id = i.definition_id WHERE d.name = 'loop'), 32::bigint, 'after 32 of them');
SELECT one_child('keyed', 'evstore:activity:k', '{"business_key": "$.k"}');
SELECT one_child('twice', 'evstore:saga:keyed.sync');
SELECT begun('twice', 't1', '{"k": "a"}'), begun('twice', 't2', '{"k": "a"}');
SELECT is(state_of('t1'), 'running: Sub running', 'one with a key');
SELECT is(state_of('t2'), 'failed: Sub failed Saga.DuplicateKey', 'is not another one''s child');
SELECT is(id_of('a'), child_of('t1'), 'the key is the child''s');
SELECT one_child('tiny', 'evstore:activity:k', '{"max_data": 1024}');
SELECT one_child('large', 'evstore:saga:tiny.sync');
SELECT begun('large', 'l3', jsonb_build_object('x', repeat('x', 2000)));
SELECT is(state_of('l3'), 'failed: Sub failed States.DataLimitExceeded', 'it does not take so much data');
CREATE ROLE evs_child_owner;
SELECT evstore.alter_saga('tiny', 'evs_child_owner');
SELECT begun('large', 'l4');
SELECT is(state_of('l4'), 'running: Sub running', 'who can act as its owner can start it');
CREATE ROLE evs_parent_owner;
SELECT evstore.alter_saga('large', 'evs_parent_owner');
SELECT begun('large', 'l5');
SELECT is(state_of('l5'), 'failed: Sub failed States.Permissions', 'and nobody else');
SELECT evstore.drop_saga('tiny', true), evstore.drop_saga('large', true);
DROP ROLE evs_child_owner, evs_parent_owner;

SELECT * FROM finish();
