-- Steps that are done outside: tasks and their tokens, signals, and what operators decide.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;
SET evstore.now_override = '2030-01-01 12:00+00';

SELECT plan(134);

-- ---- helpers ----

CREATE TABLE tokens (name text PRIMARY KEY, token uuid);
CREATE FUNCTION token_of(name text) RETURNS uuid LANGUAGE sql AS 'SELECT t.token FROM tokens t WHERE t.name = $1';
CREATE FUNCTION later(seconds int) RETURNS text LANGUAGE sql AS
	$$ SELECT set_config('evstore.now_override', (current_setting('evstore.now_override')::timestamptz + seconds * interval '1 second')::text, false) $$;
CREATE FUNCTION id_of(key text) RETURNS uuid LANGUAGE sql AS 'SELECT i.id FROM evstore.saga_instance i WHERE i.business_key = $1';
CREATE FUNCTION begun(saga text, key text, input jsonb DEFAULT '{}') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evstore.start_saga(saga, input, key);
	PERFORM evstore.run_sagas();
END $$;
-- fetch one task, and remember its token
CREATE FUNCTION fetched(name text, activity text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO tokens AS o SELECT fetched.name, t.token FROM evstore.fetch_tasks(activity, 'worker') t
	ON CONFLICT ON CONSTRAINT tokens_pkey DO UPDATE SET token = excluded.token;
	RETURN FOUND;
END $$;
-- how it is, with its steps
CREATE FUNCTION state_of(key text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evstore.run_sagas();
	RETURN (SELECT i.status || COALESCE(': ' || string_agg(s.state || ' ' || s.status, ', ' ORDER BY s.step), '')
		FROM evstore.saga_instance i LEFT JOIN evstore.saga_step s ON s.saga_id = i.id WHERE i.business_key = state_of.key GROUP BY i.id);
END $$;
CREATE FUNCTION output_of(key text) RETURNS jsonb LANGUAGE sql AS 'SELECT i.output FROM evstore.saga_instance i WHERE i.business_key = $1';
CREATE FUNCTION outcome(query text, role text DEFAULT current_user) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', role, true);
	EXECUTE query;
	RESET ROLE;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
-- a saga of one task, with members added to its state
CREATE FUNCTION one_task(name text, resource text, members jsonb DEFAULT '{}', more jsonb DEFAULT '{}') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evstore.create_saga(name, jsonb_build_object('asl', jsonb_build_object('StartAt', 'Do', 'States', jsonb_build_object('Do',
		jsonb_build_object('Type', 'Task', 'Resource', resource, 'End', true) || members))) || more);
END $$;

-- ---- fetching ----

SELECT one_task('plain', 'evstore:activity:plain');
SELECT is_empty($$ SELECT * FROM evstore.fetch_tasks('plain', 'w') $$, 'nothing to do');
SELECT begun('plain', 'p1', '{"n": 1}'), later(1), begun('plain', 'p2', '{"n": 2}'), later(1), begun('plain', 'p3', '{"n": 3}');
SELECT is_empty($$ SELECT * FROM evstore.fetch_tasks('plain', 'w', 0) $$, 'a count of 0 claims nothing');
SELECT is_empty($$ SELECT * FROM evstore.fetch_tasks('Plain', 'w') $$, 'another activity has none');
SELECT results_eq($$ SELECT saga_id = id_of('p1'), saga, step, state, attempt, idempotency_key = saga_id || '/Do/1', input, timeout_at, heartbeat_seconds
	FROM evstore.fetch_tasks('plain', 'w') $$,
	$$ VALUES (true, 'plain', 1::bigint, 'Do', 1, true, '{"n": 1}'::jsonb, NULL::timestamptz, 30::float8) $$, 'the oldest one, with all about it');
SELECT results_eq($$ SELECT input FROM evstore.fetch_tasks('plain', 'w', 10) $$, $$ VALUES ('{"n": 2}'::jsonb), ('{"n": 3}') $$, 'the others, oldest first');
SELECT is_empty($$ SELECT * FROM evstore.fetch_tasks('plain', 'w', 10) $$, 'each is given once');
SELECT results_eq($$ SELECT DISTINCT worker, fetched_at FROM evstore.saga_step WHERE name = 'plain' $$,
	$$ VALUES ('w', evstore._now()) $$, 'who has them, and since when');
-- a lease that runs out
SELECT later(29), evstore.heartbeat_task(token) FROM evstore.saga_step WHERE saga_id = id_of('p2');
SELECT is_empty($$ SELECT * FROM evstore.fetch_tasks('plain', 'v', 10) $$, 'for as long as the lease lasts, nobody else gets them');
SELECT later(1);
SELECT results_eq($$ SELECT input, attempt, token = (SELECT token FROM evstore.saga_step WHERE saga_id = id_of('p1')) FROM evstore.fetch_tasks('plain', 'v') $$,
	$$ VALUES ('{"n": 1}'::jsonb, 1, true) $$, 'then the next one does, with the same token; the claim that lapsed first comes first');
SELECT results_eq($$ SELECT input FROM evstore.fetch_tasks('plain', 'v', 10) $$, $$ VALUES ('{"n": 3}'::jsonb) $$, 'one that was heard of is still its worker''s');
SELECT results_eq($$ SELECT evstore.heartbeat_task(token) FROM evstore.saga_step WHERE saga_id = id_of('p2') $$,
	$$ VALUES (evstore._now() + interval '30 s') $$, 'a heartbeat says until when');
-- a claim that is rolled back
SELECT begun('plain', 'p4');
BEGIN;
SELECT evstore.fetch_tasks('plain', 'w');
ROLLBACK;
SELECT ok(fetched('p4', 'plain'), 'a claim that is rolled back is none');
BEGIN;
SELECT evstore.start_saga('plain', '{}');
SELECT is(outcome($$ SELECT * FROM evstore.fetch_tasks('plain', 'w', 1, 10) $$), '55000', 'who has started a saga in the transaction cannot wait in it');
SELECT is(outcome($$ SELECT * FROM evstore.fetch_tasks('plain', 'w') $$), 'ok', 'but look');
ROLLBACK;
SELECT is_empty($$ SELECT * FROM evstore.fetch_tasks('none', 'w', 1, 20) $$, 'waiting in vain ends');
SELECT is(outcome(format('SELECT evstore.fetch_tasks(%s)', a.args)), a.sqlstate, 'arguments: ' || a.args)
FROM (VALUES ('NULL, ''w''', '22004'), ('''a'', NULL', '22004'), ('''a'', ''w'', NULL', '22004'), ('''a'', ''w'', 1, NULL', '22004'),
	('''''', '42883'), (''''', ''w''', '22023'), ('repeat(''a'', 257), ''w''', '22023'), ('''a'', ''''', '22023'), ('''a'', ''w'', -1', '22023'),
	('''a'', ''w'', 1001', '22023'), ('''a'', ''w'', 1, -1', '22023'), ('''a'', ''w'', 1, 3600001', '22023')) AS a (args, sqlstate);

-- ---- replies ----

SELECT lives_ok($$ SELECT evstore.complete_task(token_of('p4'), '{"a": 1}') $$, 'a task is done');
SELECT is(state_of('p4'), 'succeeded: Do succeeded', 'and the saga goes on');
SELECT is(output_of('p4'), '{"a": 1}', 'with the output');
SELECT lives_ok($$ SELECT evstore.complete_task(token_of('p4'), '{"a": 1.0}') $$, 'the same once more changes nothing');
SELECT throws_ok($$ SELECT evstore.complete_task(token_of('p4'), '{"a": 2}') $$, 'VS007', NULL, 'another output is refused');
SELECT throws_ok($$ SELECT evstore.fail_task(token_of('p4'), 'E') $$, 'VS007', NULL, 'and so is a failure');
SELECT throws_ok($$ SELECT evstore.heartbeat_task(token_of('p4')) $$, 'VS007', NULL, 'and a heartbeat');
SELECT throws_ok($$ SELECT evstore.complete_task('00000000-0000-4000-8000-000000000000') $$, 'VS007', NULL, 'a token that never was');
SELECT is((SELECT count(*) FROM evstore.saga_mail), 0::bigint, 'nothing is left in the mail');
SELECT begun('plain', 'p5'), fetched('p5', 'plain');
BEGIN;
SELECT evstore.complete_task(token_of('p5'));
SELECT lives_ok($$ SELECT evstore.complete_task(token_of('p5')) $$, 'twice in one transaction');
ROLLBACK;
SELECT is(state_of('p5'), 'running: Do running', 'a reply that is rolled back is none');
SELECT lives_ok($$ SELECT evstore.fail_task(token_of('p5'), 'Declined', 'no money') $$, 'a task has failed');
SELECT lives_ok($$ SELECT evstore.fail_task(token_of('p5'), 'Declined', 'no money') $$, 'the same once more, before it is taken in');
SELECT is(state_of('p5'), 'failed: Do failed', 'and the saga with it');
SELECT lives_ok($$ SELECT evstore.fail_task(token_of('p5'), 'Declined', 'no money') $$, 'and after it');
SELECT throws_ok($$ SELECT evstore.fail_task(token_of('p5'), 'Declined') $$, 'VS007', NULL, 'another cause is another reply');
SELECT results_eq($$ SELECT error, cause, outcome FROM evstore.saga_step WHERE saga_id = id_of('p5') $$, $$ VALUES ('Declined', 'no money', 'no_effect') $$,
	'a failure has no effect unless it says so');
SELECT is(outcome(format('SELECT evstore.%s', a.call)), a.sqlstate, a.call)
FROM (VALUES ('complete_task(NULL)', '22004'), ('complete_task(gen_random_uuid(), NULL)', '22004'), ('fail_task(NULL, ''E'')', '22004'),
	('fail_task(gen_random_uuid(), NULL)', '22004'), ('fail_task(gen_random_uuid(), '''')', '22023'), ('fail_task(gen_random_uuid(), repeat(''e'', 257))', '22023'),
	('fail_task(gen_random_uuid(), ''E'', repeat(''c'', 32769))', '22023'), ('fail_task(gen_random_uuid(), ''E'', NULL, NULL)', '22004'),
	('heartbeat_task(NULL)', '22004')) AS a (call, sqlstate);
SELECT one_task('small', 'evstore:activity:small', more => '{"options": {"max_data": 1024}}');
SELECT begun('small', 's1'), fetched('s1', 'small');
SELECT throws_ok($$ SELECT evstore.complete_task(token_of('s1'), to_jsonb(repeat('x', 1024))) $$, '22023', NULL, 'an output that the saga cannot take is the caller''s mistake');
SELECT lives_ok($$ SELECT evstore.complete_task(token_of('s1'), to_jsonb(repeat('x', 500))) $$, 'who may try again');

-- ---- time-outs ----

SELECT one_task('timed', 'evstore:activity:timed', '{"TimeoutSeconds": 60, "HeartbeatSeconds": 20}',
	'{"compensation": {"states": {"Do": {"Resource": "evstore:activity:undo"}}}}');
SELECT begun('timed', 't1'), later(10);
SELECT results_eq($$ SELECT timeout_at - evstore._now(), heartbeat_seconds FROM evstore.fetch_tasks('timed', 'w') $$,
	$$ VALUES (interval '50 s', 20::float8) $$, 'a worker knows its limits');
SELECT later(19);
SELECT is(state_of('t1'), 'running: Do running', 'fetching is a sign of life');
SELECT results_eq($$ SELECT evstore.heartbeat_task(token) - evstore._now() FROM evstore.saga_step WHERE saga_id = id_of('t1') $$, $$ VALUES (interval '20 s') $$, 'and so is this');
SELECT later(19);
SELECT is(state_of('t1'), 'running: Do running', 'the heartbeat is in time');
SELECT results_eq($$ SELECT evstore.heartbeat_task(token) - evstore._now() FROM evstore.saga_step WHERE saga_id = id_of('t1') $$, $$ VALUES (interval '12 s') $$, 'the end of it all comes first');
SELECT is_empty($$ SELECT * FROM evstore.fetch_tasks('timed', 'v') $$, 'nobody else gets a task that has a time-out');
SELECT later(12);
SELECT is(state_of('t1'), 'compensating: Do timed_out, Do running', 'the time-out: what is unknown is undone');
-- late replies
SELECT throws_ok(format('SELECT evstore.heartbeat_task(%L)', token), 'VS007', NULL, 'a heartbeat after it') FROM evstore.saga_step WHERE saga_id = id_of('t1') AND step = 1;
SELECT lives_ok(format('SELECT evstore.complete_task(%L, ''{"late": 1}'')', token), 'a reply after it is taken') FROM evstore.saga_step WHERE saga_id = id_of('t1') AND step = 1;
SELECT lives_ok(format('SELECT evstore.complete_task(%L, ''{"late": 1}'')', token), 'once') FROM evstore.saga_step WHERE saga_id = id_of('t1') AND step = 1;
SELECT is((SELECT count(*) FROM evstore.saga_mail), 1::bigint, 'as the mail says');
SELECT is(state_of('t1'), 'compensating: Do timed_out, Do running', 'it is undone anyway');
SELECT ok(fetched('u1', 'undo'), 'what undoes it is a task as well');
SELECT lives_ok($$ SELECT evstore.complete_task(token_of('u1')) $$, 'which is done');
SELECT throws_ok(format('SELECT evstore.complete_task(%L, ''{"later": 1}'')', token), 'VS007', NULL, 'a reply after that is too late') FROM evstore.saga_step WHERE saga_id = id_of('t1') AND step = 1;
SELECT is(state_of('t1'), 'compensated: Do timed_out, Do succeeded', 'undone');
-- no effect, said late: nothing to undo
SELECT one_task('again', 'evstore:activity:again', '{"TimeoutSeconds": 10, "Retry": [{"ErrorEquals": ["States.Timeout"], "IntervalSeconds": 100, "MaxAttempts": 1}]}',
	'{"compensation": {"states": {"Do": {"Resource": "evstore:activity:undo"}}}}');
SELECT begun('again', 'a1'), fetched('a1', 'again'), later(10);
SELECT is(state_of('a1'), 'running: Do timed_out', 'timed out, to be tried again');
SELECT lives_ok($$ SELECT evstore.fail_task(token_of('a1'), 'Declined') $$, 'late: it had no effect');
SELECT is(state_of('a1'), 'running: Do timed_out', 'still to be tried again');
SELECT later(100);
SELECT is(state_of('a1'), 'running: Do timed_out, Do running', 'tried again');
SELECT ok(fetched('a2', 'again') AND token_of('a2') <> token_of('a1'), 'with another token');
SELECT lives_ok($$ SELECT evstore.fail_task(token_of('a2'), 'Declined') $$, 'it fails once more');
SELECT is(state_of('a1'), 'failed: Do timed_out, Do failed', 'so that nothing is left to undo');

-- ---- tokens of other steps ----

SELECT one_task('mail', 'evstore:append.waitForTaskToken', '{"Parameters": {"stream": "mails-1", "type": "MailWanted", "data": {"token.$": "$$.Task.Token"}}}');
SELECT begun('mail', 'm1');
SELECT is(state_of('m1'), 'running: Do running', 'a step that appends waits for its token');
SELECT lives_ok($$ SELECT evstore.complete_task((data ->> 'token')::uuid, '{"mailed": true}') FROM evstore.read_stream('mails-1') $$, 'which is in the event');
SELECT is(state_of('m1'), 'succeeded: Do succeeded', 'done');

-- ---- signals ----

SELECT one_task('wait', 'evstore:signal:go');
SELECT begun('wait', 'w1');
SELECT is(evstore.signal_saga(id_of('w1'), 'other', '1'), true, 'one of another name');
SELECT is(state_of('w1'), 'running: Do running', 'it is not waited for');
SELECT is(evstore.signal_saga(id_of('w1'), 'go', '{"n": 1}'), true, 'the first');
SELECT is(evstore.signal_saga_by_key('wait', 'w1', 'go', '{"n": 2}'), false, 'the second');
SELECT is(state_of('w1') || output_of('w1'), 'succeeded: Do succeeded{"n": 1}', 'the first one counts');
SELECT evstore.start_saga('wait', '{}', 'w2');
SELECT is(evstore.signal_saga_by_key('wait', 'w2', 'go', '{"n": 3}'), true, 'before anybody waits');
SELECT is(state_of('w2') || output_of('w2'), 'succeeded: Do succeeded{"n": 3}', 'it counts as well');
SELECT evstore.create_saga('both', '{"StartAt": "P", "States": {"P": {"Type": "Parallel", "End": true, "Branches": [
	{"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:signal:go", "End": true}}},
	{"StartAt": "B", "States": {"B": {"Type": "Task", "Resource": "evstore:signal:go", "End": true}}}]}}}');
SELECT begun('both', 'b1'), evstore.signal_saga_by_key('both', 'b1', 'go', '7');
SELECT is(state_of('b1') || output_of('b1'), 'succeeded: P[0].A succeeded, P[1].B succeeded[7, 7]', 'two that wait for the same one');
SELECT is(outcome(format('SELECT evstore.%s', a.call)), a.sqlstate, a.call)
FROM (VALUES ('signal_saga(NULL, ''go'')', '22004'), ('signal_saga(id_of(''w1''), NULL)', '22004'), ('signal_saga(id_of(''w1''), ''go'', NULL)', '22004'),
	('signal_saga(id_of(''w1''), '''')', '22023'), ('signal_saga(id_of(''w1''), ''new'')', 'VS009'), ('signal_saga(gen_random_uuid(), ''go'')', 'VS009'),
	('signal_saga_by_key(''none'', ''w1'', ''go'')', 'VS009'), ('signal_saga_by_key(''wait'', ''none'', ''go'')', 'VS009')) AS a (call, sqlstate);

-- ---- operators ----

SELECT evstore.create_saga('op', '{"steps": [{"name": "a", "resource": "evstore:activity:op", "compensate": {"Resource": "evstore:activity:undo_op", "Retry": [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 0}]}},
	{"name": "b", "resource": "evstore:activity:op"}]}');
SELECT begun('op', 'o1'), fetched('o', 'op'), evstore.complete_task(token_of('o'));
SELECT is(state_of('o1'), 'running: a succeeded, b running', 'half way');
SELECT is(outcome($$ SELECT evstore.retry_saga(id_of('o1')) $$), '55000', 'what goes on is not tried again');
SELECT is(outcome($$ SELECT evstore.resolve_saga(id_of('o1'), 'skip', 'r') $$), '55000', 'nor resolved');
SELECT lives_ok($$ SELECT evstore.cancel_saga(id_of('o1')) $$, 'cancelled');
SELECT is(state_of('o1'), 'compensating: a succeeded, b cancelled, a running', 'what it has done is undone');
SELECT is(outcome($$ SELECT evstore.cancel_saga(id_of('o1')) $$), '55000', 'only once');
SELECT fetched('o', 'undo_op'), evstore.fail_task(token_of('o'), 'Broken');
SELECT is(state_of('o1'), 'compensation_failed: a succeeded, b cancelled, a failed', 'which fails');
SELECT lives_ok($$ SELECT evstore.retry_saga(id_of('o1')) $$, 'tried again');
SELECT state_of('o1'), fetched('o', 'undo_op'), evstore.fail_task(token_of('o'), 'Broken');
SELECT is(state_of('o1'), 'compensation_failed: a succeeded, b cancelled, a failed, a failed', 'in vain');
SELECT lives_ok($$ SELECT evstore.resolve_saga(id_of('o1'), 'compensated', 'by hand') $$, 'resolved');
SELECT is(state_of('o1'), 'compensated: a succeeded, b cancelled, a failed, a failed', 'somebody has done it');
SELECT begun('op', 'o2'), evstore.cancel_saga(id_of('o2'), false);
SELECT is(state_of('o2'), 'cancelled: a cancelled', 'just stopped');
SELECT begun('op', 'o3'), fetched('o', 'op'), evstore.complete_task(token_of('o')), state_of('o3'), fetched('o', 'op'), evstore.complete_task(token_of('o')), state_of('o3');
SELECT lives_ok($$ SELECT evstore.compensate_saga(id_of('o3'), '{"compensationRequired": [{"state": "b", "compensationAction": "undo_op", "data": {"d": 1}}, {"state": "a"}]}') $$, 'an explicit list');
SELECT is(state_of('o3'), 'compensating: a succeeded, b succeeded, b running', 'in its order');
SELECT results_eq($$ SELECT input -> 'data' FROM evstore.fetch_tasks('undo_op', 'w') $$, $$ VALUES ('{"d": 1}'::jsonb) $$, 'with its data');
SELECT evstore.complete_task(token) FROM evstore.saga_step WHERE saga_id = id_of('o3') AND step = 3;
SELECT state_of('o3'), fetched('o', 'undo_op'), evstore.complete_task(token_of('o'));
SELECT is(state_of('o3'), 'compensated: a succeeded, b succeeded, b succeeded, a succeeded', 'all of it');
SELECT is(outcome($$ SELECT evstore.compensate_saga(id_of('o3')) $$), '55000', 'once');
SELECT is(outcome(format('SELECT evstore.%s', a.call)), a.sqlstate, a.call)
FROM (VALUES ('cancel_saga(NULL)', '22004'), ('cancel_saga(gen_random_uuid())', 'VS009'), ('cancel_saga(id_of(''o1''), NULL)', '22004'), ('resolve_saga(id_of(''o1''), ''maybe'', ''r'')', '22023'),
	('resolve_saga(id_of(''o1''), ''skip'', NULL)', '22004'), ('resolve_saga(id_of(''o1''), ''skip'', '''')', '22023'), ('compensate_saga(id_of(''o2''), ''[]'')', '22023'),
	('compensate_saga(id_of(''o2''), ''[{"data": 1}]'')', '22023'), ('compensate_saga(id_of(''o2''), ''3'')', '22023')) AS a (call, sqlstate);
SELECT results_eq($$ SELECT action, detail - 'saga_id' FROM evstore.audit_log WHERE detail ->> 'saga_id' = id_of('o1')::text ORDER BY at $$,
	$$ VALUES ('cancel_saga', '{"saga": "op", "compensate": true}'::jsonb), ('retry_saga', '{"saga": "op"}'),
		('resolve_saga', '{"saga": "op", "outcome": "compensated", "reason": "by hand"}') $$, 'all of it is written down');

-- ---- rights ----

CREATE ROLE evs_tasks_consumer;
CREATE ROLE evs_tasks_writer;
CREATE ROLE evs_tasks_admin;
SELECT evstore.grant_access('evs_tasks_consumer', 'consumer'), evstore.grant_access('evs_tasks_writer', 'writer'), evstore.grant_access('evs_tasks_admin', 'admin');
GRANT ALL ON tokens TO evs_tasks_consumer, evs_tasks_writer;
SELECT begun('plain', 'r1'), evstore.start_saga('op', '{}', 'r2'), evstore.start_saga('wait', '{}', 'r3');
SELECT is(outcome(format('SELECT evstore.%s', a.call), 'evs_tasks_writer'), '42501', 'not for writers: ' || a.call)
FROM (VALUES ('fetch_tasks(''plain'', ''w'')'), ('complete_task(gen_random_uuid())'), ('signal_saga(gen_random_uuid(), ''go'')'), ('saga_barrier(''s'', ''b'', ''action'')')) AS a (call);
SELECT is(outcome($$ SELECT evstore.fetch_tasks('plain', 'w') $$, 'evs_tasks_consumer'), 'ok', 'a consumer may fetch');
SELECT is(outcome(format('SELECT evstore.complete_task(%L)', token), 'evs_tasks_consumer'), 'ok', 'and reply') FROM evstore.saga_step WHERE saga_id = id_of('r1');
SELECT is(outcome(format('SELECT evstore.signal_saga(%L, ''go'')', id_of('r3')), 'evs_tasks_consumer'), 'ok', 'and signal');
SELECT is(outcome(format('SELECT evstore.cancel_saga(%L)', id_of('r2')), r.role), '42501', 'but not cancel a saga that is another''s: ' || r.role)
FROM (VALUES ('evs_tasks_consumer'), ('evs_tasks_admin')) AS r (role);
SELECT is(outcome(format('SELECT evstore._saga_mail(%L, 1, ''cancel'')', id_of('r2')), 'evs_tasks_consumer'), '42501', 'nor write mail');
DROP OWNED BY evs_tasks_consumer, evs_tasks_writer, evs_tasks_admin;
DROP ROLE evs_tasks_consumer, evs_tasks_writer, evs_tasks_admin;

SELECT * FROM finish();
