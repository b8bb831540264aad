-- Sagas and events, run in this session: events that start instances, events that
-- instances wait for, early ones and late ones, what a redefinition changes, pruning.
\set QUIET 1
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;
LOAD 'evstore';
SET jit = off;

SELECT plan(65);

CREATE FUNCTION pg_temp.outcome(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	message text;
BEGIN
	EXECUTE query;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, message = MESSAGE_TEXT;
	RETURN SQLSTATE || ' ' || COALESCE(NULLIF(detail, ''), message);
END $$;
CREATE FUNCTION pg_temp.later(by interval) RETURNS void LANGUAGE sql AS $$ SELECT set_config('evstore.now_override', (evstore._now() + by)::text, false) $$;
SELECT set_config('evstore.now_override', '2026-01-01T00:00:00Z', false) \g /dev/null

-- names have collation C, and results_eq() compares rows
CREATE TEMP VIEW instance AS SELECT g.name COLLATE "default" AS saga, i.version, i.status, i.business_key COLLATE "default" AS key, i.correlation_id COLLATE "default" AS correlation_id, i.causation_id, i.started_after, i.input, i.output, i.error, i.cause
FROM evstore.saga_instance i JOIN evstore.saga g ON g.id = i.definition_id;
CREATE TEMP VIEW wait AS SELECT i.key, w.type COLLATE "default" AS type, w.key COLLATE "default" AS wanted, w.fails FROM evstore.saga_wait w JOIN (SELECT id, business_key COLLATE "default" AS key FROM evstore.saga_instance) i ON i.id = w.saga_id;
CREATE TEMP VIEW arrival AS SELECT g.name COLLATE "default" AS saga, a.type COLLATE "default" AS type, a.key COLLATE "default" AS key, a.position FROM evstore.saga_arrival a JOIN evstore.saga g ON g.id = a.definition_id;
CREATE TEMP VIEW appended AS SELECT position, stream COLLATE "default" AS stream, type COLLATE "default" AS type, data, correlation_id COLLATE "default" AS correlation_id, causation_id, event_id FROM evstore.events;
-- a machine of one task that waits
CREATE FUNCTION pg_temp.waits(resource text, options jsonb, task jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('asl', jsonb_build_object('StartAt', 'Wait', 'States', jsonb_build_object('Wait', '{"Type": "Task", "End": true}' || jsonb_build_object('Resource', resource) || task)), 'options', options) $$;
CREATE FUNCTION pg_temp.app(stream text, type text, data jsonb DEFAULT '{}', correlation text DEFAULT NULL) RETURNS bigint LANGUAGE sql AS $$ SELECT position FROM evstore.append(stream, type, data, correlation_id => correlation) $$;

-- ---- the projection of a saga ----

SELECT evstore.create_saga('plain', '{"asl": {"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}}}') \g /dev/null
SELECT is_empty('SELECT FROM evstore.projection', 'a saga that no event concerns has no projection');
SELECT pg_temp.app('order-0', 'OrderPlaced', '{"id": 0}') \g /dev/null
SELECT evstore.create_saga('ship', pg_temp.waits('evstore:event:Packed', '{"business_key": "$.id", "start_on": [{"type": "OrderPlaced"}], "correlate": {"Packed": "$.data.id"}}')) \g /dev/null
SELECT results_eq($$ SELECT projection COLLATE "default", state, filter, handler, on_error, lag_events FROM evstore.projections $$,
	$$ VALUES ('saga:ship', 'running', '{"types": ["OrderPlaced", "Packed"]}'::jsonb, 'evstore._saga_events', 'park', 0::bigint) $$, 'else it has one, which begins at the end');
SELECT is(pg_temp.outcome(f), '55000 projection "saga:ship" belongs to saga "ship"', f) FROM unnest(ARRAY[$$SELECT evstore.drop_projection('saga:ship')$$, $$SELECT evstore.reset_projection('saga:ship')$$,
	$$SELECT evstore.rebuild_projection('saga:ship')$$, $$SELECT evstore.alter_projection('saga:ship', options => '{"batch_size": 5}')$$]) f;
SELECT is(pg_temp.outcome($$ SELECT evstore._saga_events(ARRAY(SELECT e::evstore.event FROM evstore.read_all() e)) $$), '55000 only the projection of a saga can bring it events', 'nobody else calls its handler');
SELECT evstore.create_projection('thief', 'evstore._saga_events(evstore.event[])', options => '{"on_error": "skip"}') \g /dev/null
SELECT evstore.run_projection('thief') \g /dev/null
SELECT is_empty('SELECT FROM instance', 'nor another projection');
SELECT evstore.drop_projection('thief') \g /dev/null

-- ---- start_on ----

SELECT pg_temp.app('order-1', 'OrderPlaced', '{"id": "1", "total": 5}', 'flow-1') AS one, pg_temp.app('order-1b', 'OrderPlaced', '{"id": "1"}') AS again, pg_temp.app('order-2', 'OrderPlaced', '{"id": 2}') AS two, pg_temp.app('order-3', 'OrderChanged', '{"id": 3}') AS three \gset
SELECT evstore.run_projection('saga:ship') \g /dev/null
SELECT results_eq($$ SELECT key, status, input, started_after FROM instance ORDER BY key $$, format($$ VALUES ('1', 'running', '{"id": "1", "total": 5}'::jsonb, %s::bigint), ('2', 'running', '{"id": 2}', %s) $$, :one, :two), 'an event starts an instance, a key once, with its data for input');
SELECT is((SELECT correlation_id FROM instance WHERE key = '1'), 'flow-1', 'it has the correlation id of the event');
SELECT results_eq($$ SELECT e.type, e.correlation_id, c.stream FROM appended e JOIN appended c ON c.event_id = e.causation_id WHERE e.stream LIKE 'saga-%' ORDER BY c.stream $$,
	$$ SELECT 'SagaStarted', 'flow-1', 'order-1' UNION ALL SELECT 'SagaStarted', id::text, 'order-2' FROM evstore.saga_instance WHERE business_key = '2' $$, 'and its history begins with the event as its cause');
-- the same events again
SELECT evstore._slot_reset(s.id, 0, 0) FROM evstore.subscription s WHERE s.name = 'saga:ship' \g /dev/null
SELECT evstore.run_projection('saga:ship') \g /dev/null
SELECT is((SELECT count(*) FROM instance), 2::bigint, 'events that are given again start nothing, nor do those from before the saga was there');

-- an event without a key is parked
SELECT pg_temp.app('order-4', 'OrderPlaced', '{"number": 4}') \g /dev/null
SELECT evstore.run_projection('saga:ship'), pg_temp.later('2 minutes') FROM generate_series(1, 5) \g /dev/null
SELECT alike((SELECT error FROM evstore.parked_events), '%business key at $.id', 'an event without a business key is parked');
SELECT is(evstore.replay_parked('saga:ship', (SELECT position FROM evstore.parked_events), data => '{"id": "4"}'), 1, 'replayed with one');
SELECT evstore.run_projection('saga:ship') \g /dev/null
SELECT is((SELECT count(*) FROM instance WHERE key = '4'), 1::bigint, 'it starts an instance');

-- entries with filters and paths of their own
SELECT evstore.create_saga('big', pg_temp.waits('evstore:signal:go', '{"start_on": [{"filter": {"types": ["OrderPlaced"], "jsonpath": "$.total > 100"}, "input": "$", "business_key": "$.stream"},
	{"filter": {"categories": ["audit"]}, "business_key": "$.metadata.ref"}]}')) \g /dev/null
SELECT is((SELECT filter FROM evstore.projections WHERE projection = 'saga:big'), '{}', 'where an entry names no types the projection gets all events');
SELECT pg_temp.app('order-5', 'OrderPlaced', '{"id": 5, "total": 500}'), pg_temp.app('order-6', 'OrderPlaced', '{"id": 6, "total": 50}') \g /dev/null
SELECT evstore.append('audit-1', 'Anything', '{"a": 1}', metadata => '{"ref": 77}') \g /dev/null
SELECT evstore.run_projection('saga:big') \g /dev/null
SELECT results_eq($$ SELECT key, input ->> 'type', input -> 'a' FROM instance WHERE saga = 'big' ORDER BY key $$, $$ VALUES ('77', NULL, '1'::jsonb), ('order-5', 'OrderPlaced', NULL) $$, 'filter, input and business key of an entry');
SELECT evstore.create_saga('any', pg_temp.waits('evstore:signal:go', '{"start_on": [{"filter": {"jsonpath": "$"}}]}')) \g /dev/null
SELECT pg_temp.app('note-1', 'Note') \g /dev/null
SELECT evstore.run_projection('saga:any') \g /dev/null
SELECT evstore.run_sagas() \g /dev/null
SELECT evstore.run_projection('saga:any') \g /dev/null
SELECT is((SELECT count(*) FROM instance WHERE saga = 'any'), 1::bigint, 'a saga that any event starts is not started by histories');
SELECT evstore.drop_saga(s, true) FROM unnest('{any,big,plain}'::text[]) s \g /dev/null
SELECT results_eq('SELECT projection COLLATE "default" FROM evstore.projections', $$ VALUES ('saga:ship') $$, 'a saga''s projection goes with it');

-- ---- waiting ----

SELECT evstore.run_projection('saga:ship') \g /dev/null
SELECT evstore.run_sagas() \g /dev/null
SELECT results_eq($$ SELECT key, type, wanted, fails FROM wait ORDER BY key $$, $$ VALUES ('1', 'Packed', '1', false), ('2', 'Packed', '2', false), ('4', 'Packed', '4', false), ('5', 'Packed', '5', false), ('6', 'Packed', '6', false) $$, 'instances wait for an event with their key');
SELECT pg_temp.app('box-7', 'Packed', '{"id": 7}'), pg_temp.app('box-1', 'Packed', '{"id": 1}') AS packed, pg_temp.app('box-1', 'Packed', '{"id": 1}'), pg_temp.app('box-0', 'Packed', '{"no": 1}') \g /dev/null
SELECT evstore.run_projection('saga:ship') \g /dev/null
SELECT evstore.run_sagas() \g /dev/null
SELECT results_eq($$ SELECT status, output ->> 'type', output ->> 'stream', output -> 'data' FROM instance WHERE key = '1' $$, $$ VALUES ('succeeded', 'Packed', 'box-1', '{"id": 1}'::jsonb) $$, 'the event is the output of the step');
SELECT is((SELECT count(*) FROM instance WHERE status = 'running'), 4::bigint, 'the others go on waiting');
SELECT results_eq('SELECT key, count(*) FROM arrival GROUP BY 1 ORDER BY 1', $$ VALUES ('1', 2::bigint), ('7', 1) $$, 'what has arrived is kept; an event without a key is nobody''s');
SELECT is((SELECT count(*) FROM evstore.saga_taken), 1::bigint, 'one event was taken');
SELECT is_empty($$ SELECT FROM wait WHERE key = '1' $$, 'and nothing is waited for any more');
SELECT evstore._slot_reset(s.id, 0, 0) FROM evstore.subscription s WHERE s.name = 'saga:ship' \g /dev/null
SELECT evstore.run_projection('saga:ship') \g /dev/null
SELECT results_eq($$ SELECT count(*), (SELECT count(*) FROM evstore.saga_mail), (SELECT count(*) FROM evstore.saga_taken) FROM arrival $$, 'VALUES (3::bigint, 0::bigint, 1::bigint)', 'events that are given again change nothing');
-- early: it comes before the instance waits, but after it has started
SELECT pg_temp.app('order-8', 'OrderPlaced', '{"id": 8}'), pg_temp.app('box-8', 'Packed', '{"id": 8}') \g /dev/null
SELECT evstore.run_projection('saga:ship') \g /dev/null
SELECT evstore.run_sagas() \g /dev/null
SELECT is((SELECT status FROM instance WHERE key = '8'), 'succeeded', 'an event that has come early is there');
-- too early: before the instance has started
SELECT pg_temp.app('box-9', 'Packed', '{"id": 9}'), pg_temp.app('order-9', 'OrderPlaced', '{"id": 9}') \g /dev/null
SELECT evstore.run_projection('saga:ship') \g /dev/null
SELECT evstore.run_sagas() \g /dev/null
SELECT is((SELECT status FROM instance WHERE key = '9'), 'running', 'one from before the start is not for it');
SELECT evstore.cancel_saga(id) FROM evstore.saga_instance WHERE business_key = '9' \g /dev/null
SELECT evstore.run_sagas() \g /dev/null
SELECT is_empty($$ SELECT FROM wait WHERE key = '9' $$, 'an instance that is cancelled waits no more');

-- ---- several types, failures, time-outs; a loop gets each event once ----

SELECT evstore.create_saga('pay', '{"asl": {"StartAt": "Ask", "States": {
	"Ask": {"Type": "Task", "Resource": "evstore:append", "Parameters": {"stream.$": "States.Format(''payment-{}'', $.id)", "type": "PaymentRequested", "data.$": "$"}, "ResultPath": "$.asked", "Next": "Answer"},
	"Answer": {"Type": "Task", "Resource": "evstore:event:PaymentProcessed", "Parameters": {"types": ["PaymentWaived"], "failures": ["PaymentFailed"]}, "TimeoutSeconds": 1800, "ResultPath": "$.answer",
		"Catch": [{"ErrorEquals": ["PaymentFailed"], "ResultPath": "$.failure", "Next": "Cancel"}, {"ErrorEquals": ["States.Timeout"], "Next": "Alert"}], "End": true},
	"Cancel": {"Type": "Task", "Resource": "evstore:append", "Parameters": {"stream.$": "States.Format(''order-{}'', $.id)", "type": "OrderCancelled", "data": {"why.$": "$.failure.Error", "data.$": "$.failure.Cause"}}, "End": true},
	"Alert": {"Type": "Task", "Resource": "evstore:append", "Parameters": {"stream": "alerts", "type": "PaymentMissing", "data": {}}, "End": true}}},
	"options": {"business_key": "$.id", "start_on": [{"type": "OrderCreated"}]}}') \g /dev/null
SELECT is((SELECT filter FROM evstore.projections WHERE projection = 'saga:pay'), '{"types": ["OrderCreated", "PaymentFailed", "PaymentProcessed", "PaymentWaived"]}', 'types that tasks wait for need no correlate');
SELECT pg_temp.app('order-' || n, 'OrderCreated', jsonb_build_object('id', n), 'order ' || n) FROM generate_series(21, 25) n \g /dev/null
SELECT evstore.run_projection('saga:pay'), evstore.run_sagas() \g /dev/null
SELECT results_eq($$ SELECT correlation_id, data ->> 'id' FROM appended WHERE type = 'PaymentRequested' ORDER BY position $$, $$ SELECT 'order ' || n, n::text FROM generate_series(21, 25) n $$, 'commands have the correlation id');
SELECT results_eq($$ SELECT type, wanted, fails FROM wait WHERE key = '21' ORDER BY 1 $$, $$ VALUES ('PaymentFailed', 'order 21', true), ('PaymentProcessed', 'order 21', false), ('PaymentWaived', 'order 21', false) $$, 'and so have the answers');
SELECT pg_temp.app('p-21', 'PaymentProcessed', '{"ok": true}', 'order 21'), pg_temp.app('p-22', 'PaymentFailed', '{"reason": "no money"}', 'order 22'), pg_temp.app('p-23', 'PaymentWaived', '{}', 'order 23'),
	pg_temp.app('p-24', 'PaymentProcessed', '{"id": 24}'), pg_temp.app('p-21', 'PaymentFailed', '{}', 'order 21') \g /dev/null
SELECT evstore.run_projection('saga:pay'), evstore.run_sagas() \g /dev/null
SELECT results_eq($$ SELECT key, status, output #>> '{answer,type}' FROM instance WHERE saga = 'pay' ORDER BY key $$,
	$$ VALUES ('21', 'succeeded', 'PaymentProcessed'), ('22', 'succeeded', NULL), ('23', 'succeeded', 'PaymentWaived'), ('24', 'running', NULL), ('25', 'running', NULL) $$, 'any of the types ends the step; of two the first; one without a correlation id none');
SELECT results_eq($$ SELECT stream, data FROM appended WHERE type = 'OrderCancelled' $$, $$ VALUES ('order-22', '{"why": "PaymentFailed", "data": "{\"reason\": \"no money\"}"}'::jsonb) $$, 'a failure is an error by the name of the event, its data the cause');
-- not_followed_by
SELECT pg_temp.later('29 minutes') \g /dev/null
SELECT evstore.run_sagas() \g /dev/null
SELECT is_empty($$ SELECT FROM appended WHERE stream = 'alerts' $$, 'half an hour is not over');
SELECT pg_temp.app('p-24', 'PaymentProcessed', '{}', 'order 24') \g /dev/null
SELECT evstore.run_projection('saga:pay'), evstore.run_sagas() \g /dev/null
SELECT pg_temp.later('2 minutes') \g /dev/null
SELECT evstore.run_sagas() \g /dev/null
SELECT results_eq($$ SELECT type, correlation_id FROM appended WHERE stream = 'alerts' $$, $$ VALUES ('PaymentMissing', 'order 25') $$, 'an order without a payment in half an hour is an alert');
SELECT is_empty($$ SELECT FROM wait WHERE key = '25' $$, 'nothing is waited for after the time-out');
SELECT pg_temp.app('p-25', 'PaymentProcessed', '{}', 'order 25') \g /dev/null
SELECT evstore.run_projection('saga:pay'), evstore.run_sagas() \g /dev/null
SELECT is((SELECT count(*) FROM appended WHERE stream = 'alerts' OR type = 'OrderCancelled'), 2::bigint, 'a late payment changes nothing');

SELECT evstore.create_saga('count', '{"asl": {"StartAt": "Wait", "States": {
	"Wait": {"Type": "Task", "Resource": "evstore:event:Tick", "Parameters": {"key.$": "$.key"}, "ResultPath": "$.last", "Next": "More"},
	"More": {"Type": "Choice", "Choices": [{"Variable": "$.last.data.n", "NumericGreaterThanEquals": 3, "Next": "Done"}], "Default": "Wait"},
	"Done": {"Type": "Succeed"}}}, "options": {"correlate": {"Tick": "$.data.clock"}}}') \g /dev/null
SELECT evstore.start_saga('count', '{"key": "a"}'), evstore.start_saga('count', '{"key": "a"}'), evstore.start_saga('count', '{"key": true}') \g /dev/null
SELECT evstore.run_sagas() \g /dev/null
SELECT pg_temp.app('clock', 'Tick', '{"clock": "a", "n": 1}'), pg_temp.app('clock', 'Tick', '{"clock": "a", "n": 2}'), pg_temp.app('clock', 'Tick', '{"clock": "a", "n": 3}'), pg_temp.app('clock', 'Tick', '{"clock": true, "n": 4}') \g /dev/null
SELECT evstore.run_projection('saga:count'), evstore.run_sagas() \g /dev/null
SELECT results_eq($$ SELECT input ->> 'key', status, output #> '{last,data,n}' FROM instance WHERE saga = 'count' ORDER BY 1 $$, $$ VALUES ('a', 'succeeded', '3'::jsonb), ('a', 'succeeded', '3'), ('true', 'succeeded', '4') $$,
	'a loop gets each event once, in order; an event is for all that have its key');
SELECT is((SELECT count(*) FROM evstore.saga_taken t JOIN evstore.saga_instance i ON i.id = t.saga_id JOIN evstore.saga g ON g.id = i.definition_id WHERE g.name = 'count'), 7::bigint, 'three, three and one');

-- two branches that wait for the same get one event each
SELECT evstore.create_saga('both', '{"asl": {"StartAt": "Both", "States": {"Both": {"Type": "Parallel", "End": true, "Branches": [
	{"StartAt": "L", "States": {"L": {"Type": "Task", "Resource": "evstore:event:Half", "End": true}}}, {"StartAt": "R", "States": {"R": {"Type": "Task", "Resource": "evstore:event:Half", "End": true}}}]}}},
	"options": {"business_key": "$.id", "correlate": {"Half": "$.data.id"}}}') \g /dev/null
SELECT evstore.start_saga('both', '{"id": "x"}') \g /dev/null
SELECT evstore.run_sagas() \g /dev/null
SELECT pg_temp.app('half', 'Half', '{"id": "x", "n": 1}') \g /dev/null
SELECT evstore.run_projection('saga:both'), evstore.run_sagas() \g /dev/null
SELECT is((SELECT status FROM instance WHERE saga = 'both'), 'running', 'an event is not both of them');
SELECT pg_temp.app('half', 'Half', '{"id": "x", "n": 2}') \g /dev/null
SELECT evstore.run_projection('saga:both'), evstore.run_sagas() \g /dev/null
SELECT is((SELECT jsonb_path_query_array(output, '$[*].data.n') FROM instance WHERE saga = 'both'), '[1, 2]', 'two are');

-- ---- what cannot be waited for ----

CREATE FUNCTION pg_temp.fails(resource text, options jsonb, parameters jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	saga_id uuid;
BEGIN
	PERFORM evstore.create_saga('wrong', pg_temp.waits(resource, options, jsonb_build_object('Parameters', parameters)));
	saga_id := evstore.start_saga('wrong', '{"types": ["Tock"], "number": 5}');
	PERFORM evstore.run_sagas(saga => 'wrong');
	RETURN (SELECT i.status || ': ' || i.error || ': ' || i.cause FROM evstore.saga_instance i WHERE i.id = saga_id);
END $$;
SELECT is(pg_temp.fails('evstore:event:Tick', '{}', p), 'failed: States.Runtime: ' || e, p::text) FROM (VALUES
	('{"types": "Tick"}'::jsonb, 'types must be an array of types of events'), ('{"failures": [5]}', 'failures must be an array of types of events'), ('{"key": {}}', 'key must be a string, a number, or true or false'),
	('{"types.$": "$.types"}', 'events of type "Tock" are not brought to the saga: name it in the option correlate')) AS t (p, e);
SELECT is(pg_temp.fails('evstore:event:Tick', '{"correlate": {"Tick": "$.data.id"}}', '{}'), 'failed: States.Runtime: the saga has no business key by which to know an event of type "Tick"', 'no business key');
SELECT evstore.drop_saga('wrong', true) \g /dev/null

-- ---- defined again ----

SELECT evstore.create_saga('ship', pg_temp.waits('evstore:event:Sent', '{"business_key": "$.id", "start_on": [{"type": "OrderPaid"}, {"type": "OrderPlaced"}], "correlate": {"Sent": "$.data.ref"}}')) \g /dev/null
SELECT is((SELECT filter FROM evstore.projections WHERE projection = 'saga:ship'), '{"types": ["OrderPaid", "OrderPlaced", "Packed", "Sent"]}', 'of the new version, and of those that still run');
SELECT pg_temp.app('box-2', 'Packed', '{"id": 2}'), pg_temp.app('order-31', 'OrderPaid', '{"id": "31"}'), pg_temp.app('sent-31', 'Sent', '{"ref": 31}') \g /dev/null
SELECT evstore.run_projection('saga:ship'), evstore.run_sagas() \g /dev/null
SELECT results_eq($$ SELECT key, version, status FROM instance WHERE saga = 'ship' AND key IN ('2', '31') ORDER BY key $$, $$ VALUES ('2', 1, 'succeeded'), ('31', 2, 'succeeded') $$, 'each instance gets its events');
SELECT evstore.cancel_saga(i.id, false) FROM evstore.saga_instance i JOIN evstore.saga g ON g.id = i.definition_id WHERE g.name = 'ship' AND i.status = 'running' \g /dev/null
SELECT evstore.run_sagas() \g /dev/null
SELECT pg_temp.app('order-41', 'OrderShown', '{"id": "41"}') \g /dev/null
SELECT evstore.create_saga('ship', pg_temp.waits('evstore:signal:go', '{"business_key": "$.id", "start_on": [{"type": "OrderShown"}]}')) \g /dev/null
SELECT evstore.create_saga('ship', pg_temp.waits('evstore:signal:gone', '{"business_key": "$.id", "start_on": [{"type": "OrderShown"}]}')) \g /dev/null
SELECT is((SELECT filter FROM evstore.projections WHERE projection = 'saga:ship'), '{"types": ["OrderShown"]}', 'without what nobody waits for any more');
SELECT pg_temp.app('order-42', 'OrderShown', '{"id": "42"}') \g /dev/null
SELECT evstore.run_projection('saga:ship') \g /dev/null
SELECT is((SELECT string_agg(key, ' ') FROM instance WHERE key IN ('41', '42')), '42', 'a new entry begins with the definition');
SELECT evstore.create_saga('ship', '{"asl": {"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}}}') \g /dev/null
SELECT evstore.create_saga('ship', '{"asl": {"StartAt": "Done", "States": {"Done": {"Type": "Pass", "End": true}}}}') \g /dev/null
SELECT is_empty($$ SELECT FROM evstore.projections WHERE projection = 'saga:ship' $$, 'no events concern it any more');
SELECT is((SELECT trigger_id FROM evstore.saga WHERE name = 'ship'), NULL, 'it knows');

-- ---- pruning ----

SELECT evstore.start_saga('count', '{"key": "old"}') \g /dev/null
SELECT evstore.run_sagas() \g /dev/null
SELECT pg_temp.app('clock', 'Tick', jsonb_build_object('clock', 'none', 'n', n)) FROM generate_series(1, 600) n \g /dev/null
SELECT evstore.run_projection('saga:count') FROM generate_series(1, 3) \g /dev/null
SELECT id AS count_id FROM evstore.saga WHERE name = 'count' \gset
SELECT is((SELECT count(*) FROM arrival WHERE saga = 'count'), 604::bigint, 'arrivals');
SELECT results_eq(format('SELECT * FROM evstore._saga_arrivals_prune(%s, 0)', :count_id), 'VALUES (0::bigint, 0::bigint)', 'young ones are kept');
SELECT pg_temp.later('8 days') \g /dev/null
SELECT is((SELECT deleted FROM evstore._saga_arrivals_prune(:count_id, 0)), 4::bigint, 'old ones go, as far as no instance can need them');
SELECT is((SELECT deleted FROM evstore._saga_arrivals_prune(:count_id, 0)), 0::bigint, 'the others not');
SELECT evstore.cancel_saga(id) FROM evstore.saga_instance WHERE input = '{"key": "old"}' \g /dev/null
SELECT evstore.run_sagas() \g /dev/null
SELECT deleted, up_to FROM evstore._saga_arrivals_prune(:count_id, 0) \gset
SELECT is(:deleted, 500, 'when it has ended they go, some at a time');
SELECT is((SELECT deleted FROM evstore._saga_arrivals_prune(:count_id, :up_to)), 100::bigint, 'and so on from there');
SELECT is((SELECT count(*) FROM arrival WHERE saga = 'count'), 0::bigint, 'none is left');

-- ---- rights ----

CREATE ROLE evs_saga_owner;
CREATE ROLE evs_saga_other;
SELECT evstore.grant_access(r, 'admin') FROM unnest('{evs_saga_owner,evs_saga_other}'::regrole[]) r \g /dev/null
GRANT EXECUTE ON FUNCTION evstore.create_saga(text, jsonb) TO evs_saga_owner;
SELECT pg_temp.waits('evstore:event:Mine', '{"start_on": [{"type": "Begin"}]}') AS mine \gset
SET ROLE evs_saga_owner;
SELECT evstore.create_saga('mine', :'mine') \g /dev/null
RESET ROLE;
SELECT is((SELECT owner::text FROM evstore.projections WHERE projection = 'saga:mine'), 'evs_saga_owner', 'the projection belongs to the owner of the saga');
SELECT pg_temp.app('b', 'Begin'), pg_temp.app('b', 'Mine') \g /dev/null
SELECT evstore.run_projection('saga:mine') \g /dev/null
SELECT is((SELECT count(*) FROM instance WHERE saga = 'mine'), 1::bigint, 'and runs as the owner');
SELECT evstore.alter_saga('mine', 'evs_saga_other') \g /dev/null
SELECT is((SELECT owner::text FROM evstore.projections WHERE projection = 'saga:mine'), 'evs_saga_other', 'and goes with it');
SELECT evstore.drop_saga('mine', true) \g /dev/null
DROP OWNED BY evs_saga_owner, evs_saga_other;
DROP ROLE evs_saga_owner, evs_saga_other;

-- sagas are in the choreography
SELECT set_eq($$ SELECT from_type COLLATE "default", to_type COLLATE "default", observed FROM evstore.choreography WHERE route = 'saga:pay' $$,
	$$ SELECT f, t, NULL::bigint FROM unnest('{OrderCreated,PaymentProcessed,PaymentWaived,PaymentFailed}'::text[]) f, unnest('{PaymentRequested,OrderCancelled,PaymentMissing}'::text[]) t $$, 'sagas are part of the choreography');

SELECT evstore.drop_saga(name, true) FROM evstore.saga \g /dev/null
SELECT is_empty('SELECT FROM evstore.saga_arrival UNION ALL SELECT FROM evstore.saga_wait UNION ALL SELECT FROM evstore.saga_taken UNION ALL SELECT FROM evstore.saga_trigger UNION ALL SELECT FROM evstore.projection', 'nothing is left of sagas that are dropped');

SELECT finish();
