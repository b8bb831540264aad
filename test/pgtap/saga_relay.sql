-- Steps that a relay delivers.  The double writes down what arrives, or fails as its script says.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;
SET evstore.now_override = '2030-01-01 12:00+00';

SELECT plan(32);

CREATE FUNCTION later(seconds int) RETURNS text LANGUAGE sql AS
	$$ SELECT set_config('evstore.now_override', (current_setting('evstore.now_override')::timestamptz + seconds * interval '1 second')::text, false) $$;
CREATE FUNCTION id_of(key text) RETURNS uuid LANGUAGE sql AS 'SELECT i.id FROM evstore.saga_instance i WHERE i.business_key = $1';
CREATE FUNCTION begun(saga text, key text, input jsonb DEFAULT '{}') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evstore.start_saga(saga, input, key);
	PERFORM evstore.run_sagas();
END $$;
CREATE FUNCTION state_of(key text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evstore.run_sagas();
	RETURN (SELECT i.status || COALESCE(': ' || string_agg(s.state || ' ' || s.status || COALESCE(' ' || s.error || COALESCE(' ' || s.outcome, ''), ''), ', ' ORDER BY s.step), '')
		FROM evstore.saga_instance i LEFT JOIN evstore.saga_step s ON s.saga_id = i.id WHERE i.business_key = state_of.key GROUP BY i.id);
END $$;
CREATE FUNCTION one_step(name text, members jsonb, more jsonb DEFAULT '{}') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evstore.create_saga(name, jsonb_build_object('asl', jsonb_build_object('StartAt', 'Send', 'States', jsonb_build_object('Send',
		jsonb_build_object('Type', 'Task', 'Resource', 'evstore:relay:out', 'End', true) || members))) || more);
END $$;
SELECT evstore.create_relay('out', 'double', '{}', '{"categories": ["outbox"]}', options => '{"retry": {"max_attempts": 2, "initial": 60, "max": 60, "jitter": 0}}');

-- ---- delivered ----

SELECT one_step('plain', '{"Parameters": {"type": "OrderShipped", "data": {"order.$": "$.order"}, "key": "k", "topic": "ship", "headers": {"h": "1"}}}');
SELECT begun('plain', 'p1', '{"order": 7}');
SELECT is(state_of('p1'), 'running: Send running', 'it waits for the relay');
SELECT results_eq($$ SELECT type, data, metadata, correlation_id = id_of('p1')::text, causation_id IS NOT NULL FROM evstore.read_stream('outbox-out') $$,
	$$ VALUES ('OrderShipped', '{"order": 7}'::jsonb, '{"key": "k", "topic": "ship", "headers": {"h": "1"}}'::jsonb, true, true) $$, 'which finds its event in the log');
SELECT is(evstore.run_relay('out'), 1::bigint, 'and sends it');
SELECT is((SELECT status FROM evstore.saga_step WHERE saga_id = id_of('p1')), 'reported', 'and says so with its checkpoint');
SELECT is(state_of('p1'), 'succeeded: Send succeeded', 'the saga goes on');
SELECT results_eq($$ SELECT i.output FROM evstore.saga_instance i WHERE i.id = id_of('p1') $$,
	$$ SELECT jsonb_build_object('stream', e.stream, 'version', e.version, 'position', e.position, 'event_id', e.event_id) FROM evstore.read_stream('outbox-out') e $$, 'with where the event is');
-- what it sends is its own affair
BEGIN;
SELECT begun('plain', 'p2', '{"order": 8}');
ROLLBACK;
SELECT is(evstore.run_relay('out'), 0::bigint, 'a transition that is rolled back sends nothing');
SELECT begun('plain', 'p3', '{"order": 9}');
BEGIN;
SELECT evstore.run_relay('out');
ROLLBACK;
SELECT is(state_of('p3'), 'running: Send running', 'nor does one that the relay has rolled back count');
SELECT evstore.run_relay('out');
SELECT is(state_of('p3'), 'succeeded: Send succeeded', 'it is sent again');
-- a stream of its own
SELECT one_step('own', '{"Parameters": {"stream": "outbox-mine", "type": "T", "data": {}}}');
SELECT begun('own', 'o1');
SELECT evstore.run_relay('out');
SELECT results_eq($$ SELECT state_of('o1'), stream FROM evstore.read_stream('outbox-mine') $$, $$ VALUES ('succeeded: Send succeeded', 'outbox-mine') $$, 'a stream of one''s own');

-- ---- what cannot be sent ----

SELECT evstore.create_relay('none', 'double');
SELECT one_step('lost', '{"Resource": "evstore:relay:none"}');
SELECT evstore.drop_relay('none');
SELECT begun('lost', 'l1');
SELECT is(state_of('l1'), 'failed: Send failed Relay.NotFound no_effect', 'the relay has gone');
SELECT one_step('filtered', '{"Parameters": {"stream": "other-1", "type": "T"}}');
SELECT begun('filtered', 'l2');
SELECT is(state_of('l2'), 'failed: Send failed Relay.NotTaken no_effect', 'its filter does not take the event');
SELECT is(evstore.stream_exists('other-1'), false, 'which is not there');
SELECT one_step('wrong', '{"Parameters": {"stream": "", "type": "T"}}');
SELECT begun('wrong', 'l3');
SELECT is(state_of('l3'), 'failed: Send failed SQL.22023 no_effect', 'nor one that cannot be appended');

-- ---- it fails ----

SELECT one_step('again', '{"Parameters": {"type": "T", "data": {"at.$": "$$.State.EnteredTime"}}, "Retry": [{"ErrorEquals": ["Relay.Parked"], "IntervalSeconds": 10, "MaxAttempts": 2}]}');
SELECT evstore.alter_relay('out', '{"script": "all:permanent*0"}');
SELECT begun('again', 'a1');
SELECT evstore.run_relay('out');
SELECT is(state_of('a1'), 'running: Send failed Relay.Parked unknown', 'it is parked');
SELECT later(10);
SELECT is(state_of('a1'), 'running: Send failed Relay.Parked unknown, Send running', 'another attempt');
SELECT is((SELECT count(*) FROM evstore.read_stream('outbox-out') WHERE type = 'T'), 1::bigint, 'is of the same event');
SELECT is((SELECT count(*) FROM evstore.parked_events), 0::bigint, 'which is replayed');
SELECT evstore.run_relay('out');
SELECT is(state_of('a1'), 'running: Send failed Relay.Parked unknown, Send failed Relay.Parked unknown', 'and parked again');
SELECT evstore.alter_relay('out', '{}'), later(20), evstore.run_sagas();
SELECT evstore.run_relay('out');
SELECT is(state_of('a1'), 'succeeded: Send failed Relay.Parked unknown, Send failed Relay.Parked unknown, Send succeeded', 'the third attempt');
-- somebody has replayed it meanwhile
SELECT evstore.alter_relay('out', '{"script": "all:permanent*0"}');
SELECT begun('again', 'a2');
SELECT evstore.run_relay('out');
SELECT state_of('a2'), evstore.alter_relay('out', '{}'), evstore.replay_parked_relay('out');
SELECT evstore.run_relay('out');
SELECT later(10);
SELECT is(state_of('a2'), 'succeeded: Send failed Relay.Parked unknown, Send succeeded', 'it has arrived before the next attempt');
-- a failure that is tried again by the relay is none
SELECT evstore.alter_relay('out', '{"script": "all:retry*0"}');
SELECT begun('again', 'a3');
SELECT evstore.run_relay('out');
SELECT is(state_of('a3'), 'running: Send running', 'the relay tries again by itself');
SELECT evstore.alter_relay('out', '{}'), later(60);
SELECT evstore.run_relay('out');
SELECT is(state_of('a3'), 'succeeded: Send succeeded', 'and has delivered it');
-- parked behind another one: it has certainly not been sent
SELECT evstore.alter_relay('out', '{"script": "all:permanent*0"}', options => '{"on_failure": "park_key"}');
SELECT begun('plain', 'b1', '{"order": 1}');
SELECT evstore.run_relay('out');
SELECT begun('plain', 'b2', '{"order": 2}');
SELECT evstore.run_relay('out');
SELECT is(state_of('b1'), 'failed: Send failed Relay.Parked unknown', 'one is parked');
SELECT is(state_of('b2'), 'failed: Send failed Relay.Parked no_effect', 'and what is behind it');
SELECT evstore.alter_relay('out', '{}', options => '{"on_failure": "block_key"}'), evstore.discard_parked('out');

-- ---- compensation by relay ----

SELECT one_step('undone', '{"Resource": "evstore:activity:do"}', '{"compensation": {"states": {"Send": {"Resource": "evstore:relay:out", "Parameters": {"type": "Undo", "data": {"output.$": "$.output"}}}}}}');
SELECT begun('undone', 'u1');
SELECT evstore.complete_task(token, '{"x": 1}') FROM evstore.fetch_tasks('do', 'w');
SELECT evstore.run_sagas(), evstore.compensate_saga(id_of('u1'));
SELECT is(state_of('u1'), 'compensating: Send succeeded, Send running', 'a message undoes it');
SELECT evstore.run_relay('out');
SELECT is(state_of('u1'), 'compensated: Send succeeded, Send succeeded', 'when it has been delivered');
SELECT results_eq($$ SELECT data FROM evstore.read_stream('outbox-out') WHERE type = 'Undo' $$, $$ VALUES ('{"output": {"x": 1}}'::jsonb) $$, 'with what has to be undone');

-- ---- the relay goes ----

SELECT begun('plain', 'g1', '{"order": 1}'), begun('plain', 'g2', '{"order": 2}');
SELECT evstore.seek_relay('out', (SELECT s."position"::text FROM evstore.saga_step s WHERE s.saga_id = id_of('g1')));
SELECT is(state_of('g1'), 'failed: Send failed Relay.Skipped unknown', 'what it has been told to skip is not sent');
SELECT is(state_of('g2'), 'running: Send running', 'the rest is');
SELECT evstore.drop_relay('out');
SELECT is(state_of('g2'), 'failed: Send failed Relay.Dropped unknown', 'it has gone');
SELECT is((SELECT count(*) FROM evstore.saga_step WHERE status IN ('running', 'reported')), 0::bigint, 'nothing is left');

SELECT * FROM finish();
