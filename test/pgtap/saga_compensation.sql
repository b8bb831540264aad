-- The machine of sagas: what is undone, and when; what comes late; what people decide.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;
\ir lib/saga_driver.sql

SELECT plan(86);

-- Members of b over those of a, member by member: null takes a member away.
CREATE FUNCTION pg_temp.over(a jsonb, b jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT coalesce(jsonb_object_agg(key, (SELECT jsonb_object_agg(m.key, m.value)
		FROM jsonb_each(coalesce(a -> k.key, '{}') || coalesce(b -> k.key, '{}')) AS m WHERE m.value <> 'null')), '{}')
	FROM (SELECT jsonb_object_keys(a) UNION SELECT jsonb_object_keys(b)) AS k (key)
$$;
-- A, B and C, one after the other, with compensators that are tried twice; each state and
-- each compensator with something else.
CREATE FUNCTION pg_temp.saga_of(names text[], states jsonb, compensation jsonb, options jsonb, more jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_build_object('asl', chain || jsonb_build_object('States', pg_temp.over(chain -> 'States', states)),
		'compensation', jsonb_build_object('states', pg_temp.over(pg_temp.compensators('A', 'B', 'C') -> 'states', compensation)) || more, 'options', options)
	FROM (SELECT pg_temp.chain(VARIADIC names)) AS c (chain)
$$;
CREATE FUNCTION pg_temp.abc(states jsonb DEFAULT '{}', compensation jsonb DEFAULT '{}', options jsonb DEFAULT '{}', more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT pg_temp.saga_of('{A,B,C}', states, compensation, options, more)
$$;
CREATE FUNCTION pg_temp.abcd(states jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT pg_temp.saga_of('{A,B,C,D}', states, '{}', '{}', '{}')
$$;
-- A, B and C at the same time, then D
CREATE FUNCTION pg_temp.forked(more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_build_object('asl', jsonb_build_object('StartAt', 'P', 'States', jsonb_build_object('P', jsonb_build_object('Type', 'Parallel', 'ResultPath', '$.p', 'Next', 'D',
		'Branches', jsonb_build_array(pg_temp.chain('A'), pg_temp.chain('B'), pg_temp.chain('C')))) || (pg_temp.chain('D') -> 'States')),
		'compensation', pg_temp.compensators('A', 'B', 'C') || more)
$$;

-- ---- order, and what compensators get ----

SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{"C": [{"error": "Bad"}]}', detailed => true), ARRAY[
	'0: A#1 {"x": 1}', '0: B#1 {"A": {"A": 1}, "x": 1}', '0: C#1 {"A": {"A": 1}, "B": {"B": 1}, "x": 1}', '0: StepFailed C Bad no_effect', '0: CompensationStarted C Bad failure', '0: undo B#1 {"error": null, "input": {"A": {"A": 1}, "x": 1}, "output": {"B": 1}, "outcome": "succeeded"}', '0: StepCompensated B succeeded', '0: undo A#1 {"error": null, "input": {"x": 1}, "output": {"A": 1}, "outcome": "succeeded"}', '0: StepCompensated A succeeded', '0: end compensated Bad', 'compensated'],
	'undone in reverse order, each with what is known');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{"A": [{"error": "Bad"}]}'), ARRAY[
	'0: A#1', '0: StepFailed A Bad no_effect', '0: end failed Bad', 'failed'],
	'the first step fails: there is nothing to undo');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{"B": [{"error": "Bad"}]}'), ARRAY[
	'0: A#1', '0: B#1', '0: StepFailed B Bad no_effect', '0: CompensationStarted B Bad failure', '0: undo A#1', '0: StepCompensated A succeeded', '0: end compensated Bad', 'compensated'],
	'the second step fails');
SELECT is(pg_temp.saga_run(pg_temp.abc(more => '{"automatic": false}'), '{"x": 1}', '{"C": [{"error": "Bad"}]}', '[{"at": 10, "kind": "compensate"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: StepFailed C Bad no_effect', '0: end failed Bad', '10: CompensationStarted order', '10: undo B#1', '10: StepCompensated B succeeded', '10: undo A#1', '10: StepCompensated A succeeded', '10: end compensated', 'compensated'],
	'no compensation, but by order: the saga stays where it failed');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"C": {"TimeoutSeconds": 5}}'), '{"x": 1}', '{"C": [{"lost": true}]}', detailed => true), ARRAY[
	'0: A#1 {"x": 1}', '0: B#1 {"A": {"A": 1}, "x": 1}', '0: C#1 {"A": {"A": 1}, "B": {"B": 1}, "x": 1}', '5: cancel 3 States.Timeout unknown', '5: StepTimedOut C States.Timeout unknown', '5: CompensationStarted C States.Timeout failure', '5: undo C#1 {"error": null, "input": {"A": {"A": 1}, "B": {"B": 1}, "x": 1}, "output": null, "outcome": "unknown"}', '5: StepCompensated C succeeded', '5: undo B#1 {"error": null, "input": {"A": {"A": 1}, "x": 1}, "output": {"B": 1}, "outcome": "succeeded"}', '5: StepCompensated B succeeded', '5: undo A#1 {"error": null, "input": {"x": 1}, "output": {"A": 1}, "outcome": "succeeded"}', '5: StepCompensated A succeeded', '5: end compensated States.Timeout', 'compensated'],
	'what timed out may have been done: outcome unknown');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{"C": [{"error": "Lost", "outcome": "unknown"}]}'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: StepFailed C Lost unknown', '0: CompensationStarted C Lost failure', '0: undo C#1', '0: StepCompensated C succeeded', '0: undo B#1', '0: StepCompensated B succeeded', '0: undo A#1', '0: StepCompensated A succeeded', '0: end compensated Lost', 'compensated'],
	'so may what failed in a way that nobody knows');
SELECT is(pg_temp.saga_run(pg_temp.abc(compensation => '{"C": {"KnownNoEffect": ["Lost"]}}'), '{"x": 1}', '{"C": [{"error": "Lost", "outcome": "unknown"}]}'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: StepFailed C Lost no_effect', '0: CompensationStarted C Lost failure', '0: undo B#1', '0: StepCompensated B succeeded', '0: undo A#1', '0: StepCompensated A succeeded', '0: end compensated Lost', 'compensated'],
	'unless KnownNoEffect says that it has not');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"C": {"TimeoutSeconds": 5}}', compensation => '{"B": {"When": ["unknown"]}, "C": {"When": ["unknown"]}}'), '{"x": 1}', '{"C": [{"lost": true}]}'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '5: cancel 3 States.Timeout unknown', '5: StepTimedOut C States.Timeout unknown', '5: CompensationStarted C States.Timeout failure', '5: undo C#1', '5: StepCompensated C succeeded', '5: undo A#1', '5: StepCompensated A succeeded', '5: end compensated States.Timeout', 'compensated'],
	'When: unknown only');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"C": {"TimeoutSeconds": 5}}', compensation => '{"B": {"When": ["succeeded"]}, "C": {"When": ["succeeded"]}}'), '{"x": 1}', '{"C": [{"lost": true}]}'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '5: cancel 3 States.Timeout unknown', '5: StepTimedOut C States.Timeout unknown', '5: CompensationStarted C States.Timeout failure', '5: undo B#1', '5: StepCompensated B succeeded', '5: undo A#1', '5: StepCompensated A succeeded', '5: end compensated States.Timeout', 'compensated'],
	'When: succeeded only');
SELECT is(pg_temp.saga_run(pg_temp.abc(compensation => '{"A": {"Parameters": {"id.$": "$.output.A", "x.$": "$.input.x", "o.$": "$.outcome", "s.$": "$$.State.Name", "e.$": "$$.Execution.Id"}}}'), '{"x": 1}', '{"B": [{"error": "Bad"}]}', detailed => true), ARRAY[
	'0: A#1 {"x": 1}', '0: B#1 {"A": {"A": 1}, "x": 1}', '0: StepFailed B Bad no_effect', '0: CompensationStarted B Bad failure', '0: undo A#1 {"e": "00000000-0000-7000-8000-000000000001", "o": "succeeded", "s": "A", "x": 1, "id": 1}', '0: StepCompensated A succeeded', '0: end compensated Bad', 'compensated'],
	'Parameters of a compensator');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"B": {"TimeoutSeconds": 5, "Retry": [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 1}]}}'), '{"x": 1}', '{"B": [{"lost": true}, {"error": "E"}]}'), ARRAY[
	'0: A#1', '0: B#1', '5: cancel 2 States.Timeout unknown', '5: StepTimedOut B States.Timeout unknown', '5: StepRetried B States.Timeout due 6', '6: B#2', '6: StepFailed B E no_effect', '6: CompensationStarted B E failure', '6: undo B#1', '6: StepCompensated B succeeded', '6: undo A#1', '6: StepCompensated A succeeded', '6: end compensated E', 'compensated'],
	'one attempt was lost, the next one failed: unknown');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"B": {"TimeoutSeconds": 5, "Retry": [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 1}]}}'), '{"x": 1}', '{"B": [{"lost": true}], "C": [{"error": "E"}]}'), ARRAY[
	'0: A#1', '0: B#1', '5: cancel 2 States.Timeout unknown', '5: StepTimedOut B States.Timeout unknown', '5: StepRetried B States.Timeout due 6', '6: B#2', '6: C#1', '6: StepFailed C E no_effect', '6: CompensationStarted C E failure', '6: undo B#1', '6: StepCompensated B succeeded', '6: undo A#1', '6: StepCompensated A succeeded', '6: end compensated E', 'compensated'],
	'one attempt was lost, the next one succeeded: one effect');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"B": {"Catch": [{"ErrorEquals": ["States.ALL"], "Next": "F"}]}, "F": {"Type": "Fail", "Error": "Given up"}}'), '{"x": 1}', '{"B": [{"error": "E"}]}'), ARRAY[
	'0: A#1', '0: B#1', '0: StepFailed B E no_effect', '0: CompensationStarted F Given up failure', '0: undo A#1', '0: StepCompensated A succeeded', '0: end compensated Given up', 'compensated'],
	'Fail after a Catch is a failure, too');
SELECT is(pg_temp.saga_run('{"asl": {"StartAt": "T", "States": {"T": {"Type": "Task", "Resource": "evstore:activity:T", "Next": "C"}, "C": {"Type": "Choice", "Choices": [{"Variable": "$.again", "BooleanEquals": true, "Next": "T"}], "Default": "F"}, "F": {"Type": "Fail", "Error": "F"}}}, "compensation": {"states": {"T": {"Resource": "evstore:activity:undo"}}}}', '{"x": 1}', '{"T": [{"ok": {"again": true}}, {"ok": {"again": false}}]}'), ARRAY[
	'0: T#1', '0: T#1 visit 2', '0: CompensationStarted F F failure', '0: undo T#1 visit 2', '0: StepCompensated T succeeded', '0: undo T#1', '0: StepCompensated T succeeded', '0: end compensated F', 'compensated'],
	'each visit of a state is undone');

-- ---- branches ----

SELECT is(pg_temp.saga_run(pg_temp.forked(), '{"x": 1}', '{"P[0].A": [{"ok": 1, "after": 3}], "P[1].B": [{"ok": 2, "after": 1}], "P[2].C": [{"ok": 3, "after": 2}], "D": [{"error": "E"}]}'), ARRAY[
	'0: P[0].A#1', '0: P[1].B#1', '0: P[2].C#1', '3: D#1', '3: StepFailed D E no_effect', '3: CompensationStarted D E failure', '3: undo P[0].A#1', '3: StepCompensated P[0].A succeeded', '3: undo P[2].C#1', '3: StepCompensated P[2].C succeeded', '3: undo P[1].B#1', '3: StepCompensated P[1].B succeeded', '3: end compensated E', 'compensated'],
	'in reverse order of completion, across branches');
SELECT is(pg_temp.saga_run(pg_temp.forked(), '{"x": 1}', '{"P[0].A": [{"ok": 1, "after": 3}], "P[1].B": [{"error": "E", "after": 2}], "P[2].C": [{"ok": 3, "after": 1}]}'), ARRAY[
	'0: P[0].A#1', '0: P[1].B#1', '0: P[2].C#1', '2: StepFailed P[1].B E no_effect', '2: cancel 1 unknown', '2: StepWithdrawn P[0].A unknown', '2: CompensationStarted P[1].B E failure', '2: undo P[0].A#1', '2: StepCompensated P[0].A succeeded', '2: undo P[2].C#1', '2: StepCompensated P[2].C succeeded', '2: end compensated E', 'compensated'],
	'a branch fails: what runs in the others is withdrawn, and may have been done');
SELECT is(pg_temp.saga_run(pg_temp.forked(), '{"x": 1}', '{"P[0].A": [{"error": "No", "after": 2.5, "late": true}], "P[1].B": [{"error": "E", "after": 2}], "P[2].C": [{"ok": 3, "after": 1}], "undo P[2].C": [{"ok": 1, "after": 5}]}'), ARRAY[
	'0: P[0].A#1', '0: P[1].B#1', '0: P[2].C#1', '2: StepFailed P[1].B E no_effect', '2: cancel 1 unknown', '2: StepWithdrawn P[0].A unknown', '2: CompensationStarted P[1].B E failure', '2: undo P[0].A#1', '2: StepCompensated P[0].A succeeded', '2: undo P[2].C#1', '2.5: LateReply P[0].A No no_effect', '7: StepCompensated P[2].C succeeded', '7: end compensated E', 'compensated'],
	'until it says that it has failed');
SELECT is(pg_temp.saga_run(jsonb_build_object('asl', '{"StartAt": "M", "States": {"M": {"Type": "Map", "ItemsPath": "$.i", "MaxConcurrency": 1, "Next": "F", "Parameters": {"v.$": "$$.Map.Item.Value"}, "ItemProcessor": {"StartAt": "T", "States": {"T": {"Type": "Task", "Resource": "evstore:activity:T", "End": true}}}}, "F": {"Type": "Fail", "Error": "F"}}}'::jsonb, 'compensation', pg_temp.compensators('T')), '{"i": [7, 8]}', '{}', detailed => true), ARRAY[
	'0: M[0].T#1 {"v": 7}', '0: M[1].T#1 {"v": 8}', '0: CompensationStarted F F failure', '0: undo M[1].T#1 {"error": null, "input": {"v": 8}, "output": {"M[1].T": 1}, "outcome": "succeeded"}', '0: StepCompensated M[1].T succeeded', '0: undo M[0].T#1 {"error": null, "input": {"v": 7}, "output": {"M[0].T": 1}, "outcome": "succeeded"}', '0: StepCompensated M[0].T succeeded', '0: end compensated F', 'compensated'],
	'items of a Map');

-- ---- compensators that fail ----

SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"C": {"TimeoutSeconds": 1}}'), '{"x": 1}', '{"C": [{"lost": true}], "undo A": [{"error": "no"}]}'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '1: cancel 3 States.Timeout unknown', '1: StepTimedOut C States.Timeout unknown', '1: CompensationStarted C States.Timeout failure', '1: undo C#1', '1: StepCompensated C succeeded', '1: undo B#1', '1: StepCompensated B succeeded', '1: undo A#1', '1: CompensationStepFailed A no no_effect due 11', '11: undo A#2', '11: StepCompensated A succeeded', '11: end compensated States.Timeout', 'compensated'],
	'the compensator of A fails once');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"C": {"TimeoutSeconds": 1}}'), '{"x": 1}', '{"C": [{"lost": true}], "undo B": [{"error": "no"}]}'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '1: cancel 3 States.Timeout unknown', '1: StepTimedOut C States.Timeout unknown', '1: CompensationStarted C States.Timeout failure', '1: undo C#1', '1: StepCompensated C succeeded', '1: undo B#1', '1: CompensationStepFailed B no no_effect due 11', '11: undo B#2', '11: StepCompensated B succeeded', '11: undo A#1', '11: StepCompensated A succeeded', '11: end compensated States.Timeout', 'compensated'],
	'the compensator of B fails once');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"C": {"TimeoutSeconds": 1}}'), '{"x": 1}', '{"C": [{"lost": true}], "undo C": [{"error": "no"}]}'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '1: cancel 3 States.Timeout unknown', '1: StepTimedOut C States.Timeout unknown', '1: CompensationStarted C States.Timeout failure', '1: undo C#1', '1: CompensationStepFailed C no no_effect due 11', '11: undo C#2', '11: StepCompensated C succeeded', '11: undo B#1', '11: StepCompensated B succeeded', '11: undo A#1', '11: StepCompensated A succeeded', '11: end compensated States.Timeout', 'compensated'],
	'the compensator of C fails once');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"C": {"TimeoutSeconds": 1}}'), '{"x": 1}', '{"C": [{"lost": true}], "undo A": [{"error": "no"}, {"error": "no"}]}', '[{"at": 100, "kind": "retry"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '1: cancel 3 States.Timeout unknown', '1: StepTimedOut C States.Timeout unknown', '1: CompensationStarted C States.Timeout failure', '1: undo C#1', '1: StepCompensated C succeeded', '1: undo B#1', '1: StepCompensated B succeeded', '1: undo A#1', '1: CompensationStepFailed A no no_effect due 11', '11: undo A#2', '11: CompensationStepFailed A no no_effect', '11: SagaCompensationFailed A no', '100: SagaRetried', '100: undo A#3', '100: StepCompensated A succeeded', '100: end compensated States.Timeout', 'compensated'],
	'the compensator of A gives up; retry_saga()');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"C": {"TimeoutSeconds": 1}}'), '{"x": 1}', '{"C": [{"lost": true}], "undo B": [{"error": "no"}, {"error": "no"}]}', '[{"at": 100, "kind": "retry"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '1: cancel 3 States.Timeout unknown', '1: StepTimedOut C States.Timeout unknown', '1: CompensationStarted C States.Timeout failure', '1: undo C#1', '1: StepCompensated C succeeded', '1: undo B#1', '1: CompensationStepFailed B no no_effect due 11', '11: undo B#2', '11: CompensationStepFailed B no no_effect', '11: SagaCompensationFailed B no', '100: SagaRetried', '100: undo B#3', '100: StepCompensated B succeeded', '100: undo A#1', '100: StepCompensated A succeeded', '100: end compensated States.Timeout', 'compensated'],
	'the compensator of B gives up; retry_saga()');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"C": {"TimeoutSeconds": 1}}'), '{"x": 1}', '{"C": [{"lost": true}], "undo C": [{"error": "no"}, {"error": "no"}]}', '[{"at": 100, "kind": "retry"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '1: cancel 3 States.Timeout unknown', '1: StepTimedOut C States.Timeout unknown', '1: CompensationStarted C States.Timeout failure', '1: undo C#1', '1: CompensationStepFailed C no no_effect due 11', '11: undo C#2', '11: CompensationStepFailed C no no_effect', '11: SagaCompensationFailed C no', '100: SagaRetried', '100: undo C#3', '100: StepCompensated C succeeded', '100: undo B#1', '100: StepCompensated B succeeded', '100: undo A#1', '100: StepCompensated A succeeded', '100: end compensated States.Timeout', 'compensated'],
	'the compensator of C gives up; retry_saga()');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{"C": [{"error": "Bad"}], "undo B": {"*": {"error": "no"}}}', '[{"at": 100, "kind": "retry"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: StepFailed C Bad no_effect', '0: CompensationStarted C Bad failure', '0: undo B#1', '0: CompensationStepFailed B no no_effect due 10', '10: undo B#2', '10: CompensationStepFailed B no no_effect', '10: SagaCompensationFailed B no', '100: SagaRetried', '100: undo B#3', '100: CompensationStepFailed B no no_effect due 110', '110: undo B#4', '110: CompensationStepFailed B no no_effect', '110: SagaCompensationFailed B no', 'compensation_failed'],
	'and gives up again, with other attempts');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{"C": [{"error": "Bad"}], "undo B": {"*": {"error": "no"}}}', '[{"at": 100, "kind": "resolve", "error": "skip"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: StepFailed C Bad no_effect', '0: CompensationStarted C Bad failure', '0: undo B#1', '0: CompensationStepFailed B no no_effect due 10', '10: undo B#2', '10: CompensationStepFailed B no no_effect', '10: SagaCompensationFailed B no', '100: SagaResolved skip', '100: undo A#1', '100: StepCompensated A succeeded', '100: end compensated Bad', 'compensated'],
	'resolve_saga(skip): the others go on');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{"C": [{"error": "Bad"}], "undo B": {"*": {"error": "no"}}}', '[{"at": 100, "kind": "resolve", "error": "compensated", "cause": "by hand"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: StepFailed C Bad no_effect', '0: CompensationStarted C Bad failure', '0: undo B#1', '0: CompensationStepFailed B no no_effect due 10', '10: undo B#2', '10: CompensationStepFailed B no no_effect', '10: SagaCompensationFailed B no', '100: SagaResolved compensated', '100: end compensated Bad', 'compensated'],
	'resolve_saga(compensated)');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{"C": [{"error": "Bad"}], "undo B": {"*": {"error": "no"}}}', '[{"at": 100, "kind": "resolve", "error": "failed"}, {"at": 110, "kind": "retry"}, {"at": 120, "kind": "resolve", "error": "skip"}, {"at": 130, "kind": "compensate"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: StepFailed C Bad no_effect', '0: CompensationStarted C Bad failure', '0: undo B#1', '0: CompensationStepFailed B no no_effect due 10', '10: undo B#2', '10: CompensationStepFailed B no no_effect', '10: SagaCompensationFailed B no', '100: SagaResolved failed', '100: end failed Bad', '110: retry changes nothing', '120: resolve changes nothing', '130: compensate changes nothing', 'failed'],
	'resolve_saga(failed); then nothing can be tried again');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{"C": [{"error": "Bad"}], "undo B": {"*": {"error": "no"}}}', '[{"at": 5, "kind": "resolve", "error": "skip"}, {"at": 100, "kind": "resolve", "error": "whatever"}, {"at": 110, "kind": "cancel"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: StepFailed C Bad no_effect', '0: CompensationStarted C Bad failure', '0: undo B#1', '0: CompensationStepFailed B no no_effect due 10', '5: resolve changes nothing', '10: undo B#2', '10: CompensationStepFailed B no no_effect', '10: SagaCompensationFailed B no', '100: resolve changes nothing', '110: cancel changes nothing', 'compensation_failed'],
	'resolve_saga() of anything else changes nothing');
SELECT is(pg_temp.saga_run(pg_temp.abc(compensation => '{"B": {"TimeoutSeconds": 3}}'), '{"x": 1}', '{"C": [{"error": "Bad"}], "undo B": [{"lost": true}]}'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: StepFailed C Bad no_effect', '0: CompensationStarted C Bad failure', '0: undo B#1', '3: cancel 4 States.Timeout unknown', '3: CompensationStepFailed B States.Timeout unknown due 13', '13: undo B#2', '13: StepCompensated B succeeded', '13: undo A#1', '13: StepCompensated A succeeded', '13: end compensated Bad', 'compensated'],
	'a compensator that times out is tried again');
SELECT is(pg_temp.saga_run(pg_temp.abc(compensation => '{"B": {"TimeoutSeconds": 3}}'), '{"x": 1}', '{"C": [{"error": "Bad"}], "undo B": [{"ok": 1, "after": 14, "late": true}, {"ok": 1, "after": 30}]}'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: StepFailed C Bad no_effect', '0: CompensationStarted C Bad failure', '0: undo B#1', '3: cancel 4 States.Timeout unknown', '3: CompensationStepFailed B States.Timeout unknown due 13', '13: undo B#2', '14: LateReply B succeeded', '14: cancel 5 unknown', '14: StepCompensated B succeeded', '14: undo A#1', '14: StepCompensated A succeeded', '14: end compensated Bad', 'compensated'],
	'its late success is as good as that of a later attempt');
SELECT is(pg_temp.saga_run(pg_temp.abc(compensation => '{"B": {"TimeoutSeconds": 3}}'), '{"x": 1}', '{"C": [{"error": "Bad"}], "undo B": [{"ok": 1, "after": 50, "late": true}, {"error": "no"}]}'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: StepFailed C Bad no_effect', '0: CompensationStarted C Bad failure', '0: undo B#1', '3: cancel 4 States.Timeout unknown', '3: CompensationStepFailed B States.Timeout unknown due 13', '13: undo B#2', '13: CompensationStepFailed B no no_effect', '13: SagaCompensationFailed B no', '50: LateReply B succeeded', '50: StepCompensated B succeeded', '50: undo A#1', '50: StepCompensated A succeeded', '50: end compensated Bad', 'compensated'],
	'also when it has given up');
SELECT is(pg_temp.saga_run(pg_temp.abc(compensation => '{"B": {"Parameters": {"a.$": "$.input.no"}}}'), '{"x": 1}', '{"C": [{"error": "Bad"}]}'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: StepFailed C Bad no_effect', '0: CompensationStarted C Bad failure', '0: CompensationStepFailed B States.ParameterPathFailure no_effect due 10', '10: CompensationStepFailed B States.ParameterPathFailure no_effect', '10: SagaCompensationFailed B States.ParameterPathFailure', 'compensation_failed'],
	'Parameters that fail count as an attempt');
SELECT is((SELECT ARRAY[count(*) FILTER (WHERE line ~ 'undo A#'), count(*) FILTER (WHERE line ~ 'due'), count(*) FILTER (WHERE line ~ 'SagaCompensationFailed')] FROM unnest(pg_temp.saga_run(pg_temp.abc(compensation => '{"A": {"Retry": null}}'), '{}', '{"B": [{"error": "Bad"}], "undo A": {"*": {"error": "no"}}}')) AS line), ARRAY[21, 20, 1]::bigint[],
	'the default policy: 20 attempts, doubling to 60 s, with jitter');

-- ---- late replies ----

SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"B": {"TimeoutSeconds": 5, "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": null, "Next": "C"}]}}'), '{"x": 1}', '{"B": [{"ok": "late", "late": true, "after": 7}], "C": [{"ok": 1, "after": 20}]}', detailed => true), ARRAY[
	'0: A#1 {"x": 1}', '0: B#1 {"A": {"A": 1}, "x": 1}', '5: cancel 2 States.Timeout unknown', '5: StepTimedOut B States.Timeout unknown', '5: C#1 {"A": {"A": 1}, "x": 1}', '7: LateReply B succeeded', '7: undo B#1 {"error": null, "input": {"A": {"A": 1}, "x": 1}, "output": "late", "outcome": "succeeded"}', '7: StepCompensated B succeeded', '25: end succeeded {"A": {"A": 1}, "C": 1, "x": 1}', 'succeeded'],
	'the saga has gone forward: undone at once, not applied');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"B": {"TimeoutSeconds": 5, "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": null, "Next": "C"}]}}'), '{"x": 1}', '{"B": [{"ok": "late", "late": true, "after": 700}], "C": [{"ok": 1, "after": 20}]}'), ARRAY[
	'0: A#1', '0: B#1', '5: cancel 2 States.Timeout unknown', '5: StepTimedOut B States.Timeout unknown', '5: C#1', '25: end succeeded {"A": {"A": 1}, "C": 1, "x": 1}', '700: LateReply B succeeded', '700: undo B#1', '700: StepCompensated B succeeded', 'succeeded'],
	'the saga has succeeded: undone all the same');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"B": {"TimeoutSeconds": 5, "Retry": [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 1}]}}'), '{"x": 1}', '{"B": [{"ok": "late", "late": true, "after": 700}], "C": [{"ok": 1, "after": 20}]}'), ARRAY[
	'0: A#1', '0: B#1', '5: cancel 2 States.Timeout unknown', '5: StepTimedOut B States.Timeout unknown', '5: StepRetried B States.Timeout due 6', '6: B#2', '6: C#1', '26: end succeeded {"A": {"A": 1}, "B": {"B": 2}, "C": 1, "x": 1}', '700: LateReply B succeeded', 'succeeded'],
	'a later attempt has succeeded: nothing to do');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"B": {"TimeoutSeconds": 5, "Retry": [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 1}]}}'), '{"x": 1}', '{"B": [{"ok": "late", "late": true, "after": 6.5}, {"ok": 2, "after": 1}]}'), ARRAY[
	'0: A#1', '0: B#1', '5: cancel 2 States.Timeout unknown', '5: StepTimedOut B States.Timeout unknown', '5: StepRetried B States.Timeout due 6', '6: B#2', '6.5: LateReply B succeeded', '7: C#1', '7: end succeeded {"A": {"A": 1}, "B": 2, "C": {"C": 1}, "x": 1}', 'succeeded'],
	'a later attempt is under way: its success counts');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"B": {"TimeoutSeconds": 5, "Retry": [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 1}], "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": null, "Next": "C"}]}}'), '{"x": 1}', '{"B": [{"ok": "late", "late": true, "after": 6.5}, {"error": "E", "after": 1}], "C": [{"ok": 1, "after": 20}]}'), ARRAY[
	'0: A#1', '0: B#1', '5: cancel 2 States.Timeout unknown', '5: StepTimedOut B States.Timeout unknown', '5: StepRetried B States.Timeout due 6', '6: B#2', '6.5: LateReply B succeeded', '7: StepFailed B E no_effect', '7: undo B#1', '7: C#1', '7: StepCompensated B succeeded', '27: end succeeded {"A": {"A": 1}, "C": 1, "x": 1}', 'succeeded'],
	'a later attempt is under way, and fails: undone');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"B": {"TimeoutSeconds": 5, "Retry": [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 1}]}}'), '{"x": 1}', '{"B": [{"ok": "late", "late": true, "after": 5.5}, {"error": "E", "after": 1}]}', detailed => true), ARRAY[
	'0: A#1 {"x": 1}', '0: B#1 {"A": {"A": 1}, "x": 1}', '5: cancel 2 States.Timeout unknown', '5: StepTimedOut B States.Timeout unknown', '5: StepRetried B States.Timeout due 6', '5.5: LateReply B succeeded', '6: B#2 {"A": {"A": 1}, "x": 1}', '7: StepFailed B E no_effect', '7: CompensationStarted B E failure', '7: undo B#1 {"error": null, "input": {"A": {"A": 1}, "x": 1}, "output": "late", "outcome": "succeeded"}', '7: StepCompensated B succeeded', '7: undo A#1 {"error": null, "input": {"x": 1}, "output": {"A": 1}, "outcome": "succeeded"}', '7: StepCompensated A succeeded', '7: end compensated E', 'compensated'],
	'the attempt is waited for, and there is no later one: undone');
SELECT is(pg_temp.saga_run(pg_temp.abcd(states => '{"B": {"TimeoutSeconds": 5, "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": null, "Next": "C"}]}, "D": {"Type": "Task", "Resource": "evstore:activity:D", "End": true}}'), '{"x": 1}', '{"B": [{"ok": "late", "late": true, "after": 8}], "D": [{"error": "x"}], "undo C": [{"ok": 1, "after": 5}]}', detailed => true), ARRAY[
	'0: A#1 {"x": 1}', '0: B#1 {"A": {"A": 1}, "x": 1}', '5: cancel 2 States.Timeout unknown', '5: StepTimedOut B States.Timeout unknown', '5: C#1 {"A": {"A": 1}, "x": 1}', '5: D#1 {"A": {"A": 1}, "C": {"C": 1}, "x": 1}', '5: StepFailed D x no_effect', '5: CompensationStarted D x failure', '5: undo C#1 {"error": null, "input": {"A": {"A": 1}, "x": 1}, "output": {"C": 1}, "outcome": "succeeded"}', '8: LateReply B succeeded', '10: StepCompensated C succeeded', '10: undo B#1 {"error": null, "input": {"A": {"A": 1}, "x": 1}, "output": "late", "outcome": "succeeded"}', '10: StepCompensated B succeeded', '10: undo A#1 {"error": null, "input": {"x": 1}, "output": {"A": 1}, "outcome": "succeeded"}', '10: StepCompensated A succeeded', '10: end compensated x', 'compensated'],
	'while the saga compensates, before its turn: the output is known');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"B": {"TimeoutSeconds": 5, "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": null, "Next": "C"}]}}'), '{"x": 1}', '{"B": [{"ok": "late", "late": true, "after": 50}], "C": [{"error": "x", "after": 20}], "undo B": [{"error": "no", "after": 30}]}', detailed => true), ARRAY[
	'0: A#1 {"x": 1}', '0: B#1 {"A": {"A": 1}, "x": 1}', '5: cancel 2 States.Timeout unknown', '5: StepTimedOut B States.Timeout unknown', '5: C#1 {"A": {"A": 1}, "x": 1}', '25: StepFailed C x no_effect', '25: CompensationStarted C x failure', '25: undo B#1 {"error": null, "input": {"A": {"A": 1}, "x": 1}, "output": "late", "outcome": "unknown"}', '50: LateReply B succeeded', '55: CompensationStepFailed B no no_effect due 65', '65: undo B#2 {"error": null, "input": {"A": {"A": 1}, "x": 1}, "output": "late", "outcome": "succeeded"}', '65: StepCompensated B succeeded', '65: undo A#1 {"error": null, "input": {"x": 1}, "output": {"A": 1}, "outcome": "succeeded"}', '65: StepCompensated A succeeded', '65: end compensated x', 'compensated'],
	'while it is being undone as unknown: another attempt knows the output');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"B": {"TimeoutSeconds": 5}}'), '{"x": 1}', '{"B": [{"ok": "late", "late": true, "after": 50}]}'), ARRAY[
	'0: A#1', '0: B#1', '5: cancel 2 States.Timeout unknown', '5: StepTimedOut B States.Timeout unknown', '5: CompensationStarted B States.Timeout failure', '5: undo B#1', '5: StepCompensated B succeeded', '5: undo A#1', '5: StepCompensated A succeeded', '5: end compensated States.Timeout', '50: LateReply B succeeded', 'compensated'],
	'when it has been undone as unknown: nothing');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"B": {"TimeoutSeconds": 5, "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": null, "Next": "C"}]}}'), '{"x": 1}', '{"B": [{"error": "late", "late": true, "after": 7}], "C": [{"error": "E", "after": 20}]}'), ARRAY[
	'0: A#1', '0: B#1', '5: cancel 2 States.Timeout unknown', '5: StepTimedOut B States.Timeout unknown', '5: C#1', '7: LateReply B late no_effect', '25: StepFailed C E no_effect', '25: CompensationStarted C E failure', '25: undo A#1', '25: StepCompensated A succeeded', '25: end compensated E', 'compensated'],
	'it has failed after all: nothing to undo');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"B": {"TimeoutSeconds": 5, "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": null, "Next": "C"}]}}'), '{"x": 1}', '{"B": [{"error": "late", "outcome": "unknown", "late": true, "after": 7}], "C": [{"error": "E", "after": 20}]}'), ARRAY[
	'0: A#1', '0: B#1', '5: cancel 2 States.Timeout unknown', '5: StepTimedOut B States.Timeout unknown', '5: C#1', '7: failed changes nothing', '25: StepFailed C E no_effect', '25: CompensationStarted C E failure', '25: undo B#1', '25: StepCompensated B succeeded', '25: undo A#1', '25: StepCompensated A succeeded', '25: end compensated E', 'compensated'],
	'it has failed, and nobody knows how: still unknown');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{"C": [{"ok": 1, "after": 20, "late": true}]}', '[{"at": 10, "kind": "cancel", "compensate": false}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '10: cancel 3 unknown', '10: StepWithdrawn C unknown', '10: end cancelled', '20: LateReply C succeeded', '20: undo C#1', '20: StepCompensated C succeeded', 'cancelled'],
	'of a step that was cancelled with the saga: undone');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"B": {"TimeoutSeconds": 5, "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": null, "Next": "C"}]}}'), '{"x": 1}', '{"B": [{"ok": "late", "late": true, "after": 7}], "C": [{"ok": 1, "after": 100}], "undo B": [{"error": "n"}, {"error": "m"}]}', '[{"at": 1000, "kind": "retry"}]'), ARRAY[
	'0: A#1', '0: B#1', '5: cancel 2 States.Timeout unknown', '5: StepTimedOut B States.Timeout unknown', '5: C#1', '7: LateReply B succeeded', '7: undo B#1', '7: CompensationStepFailed B n no_effect due 17', '17: undo B#2', '17: CompensationStepFailed B m no_effect', '105: end succeeded {"A": {"A": 1}, "C": 1, "x": 1}', '105: SagaCompensationFailed B', '1000: SagaRetried', '1000: undo B#1', '1000: StepCompensated B succeeded', 'succeeded'],
	'its compensator gives up while the saga goes on: not forgotten at its end');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"B": {"TimeoutSeconds": 5, "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": null, "Next": "C"}]}}'), '{"x": 1}', '{"B": [{"ok": "late", "late": true, "after": 50}], "undo B": {"*": {"error": "n"}}}', '[{"at": 1000, "kind": "resolve", "error": "skip"}]'), ARRAY[
	'0: A#1', '0: B#1', '5: cancel 2 States.Timeout unknown', '5: StepTimedOut B States.Timeout unknown', '5: C#1', '5: end succeeded {"A": {"A": 1}, "C": {"C": 1}, "x": 1}', '50: LateReply B succeeded', '50: undo B#1', '50: CompensationStepFailed B n no_effect due 60', '60: undo B#2', '60: CompensationStepFailed B n no_effect', '60: SagaCompensationFailed B n', '1000: SagaResolved skip', 'succeeded'],
	'after the end: resolve_saga(skip) leaves the saga as it ended');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"B": {"TimeoutSeconds": 5, "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": null, "Next": "C"}]}}'), '{"x": 1}', '{"B": [{"ok": "late", "late": true, "after": 7}], "C": [{"error": "E", "after": 100}], "undo B": [{"error": "n"}, {"error": "m"}]}'), ARRAY[
	'0: A#1', '0: B#1', '5: cancel 2 States.Timeout unknown', '5: StepTimedOut B States.Timeout unknown', '5: C#1', '7: LateReply B succeeded', '7: undo B#1', '7: CompensationStepFailed B n no_effect due 17', '17: undo B#2', '17: CompensationStepFailed B m no_effect', '105: StepFailed C E no_effect', '105: CompensationStarted C E failure', '105: undo B#1', '105: StepCompensated B succeeded', '105: undo A#1', '105: StepCompensated A succeeded', '105: end compensated E', 'compensated'],
	'it gives up, and then the saga compensates: tried again');

-- ---- pivot ----

SELECT is(pg_temp.saga_run(pg_temp.abc(compensation => '{"B": {"Pivot": true, "Resource": null}}'), '{"x": 1}', '{"C": [{"error": "E"}]}', '[{"at": 10, "kind": "retry"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: StepFailed C E no_effect', '0: end failed E', '10: SagaRetried', '10: C#2', '10: end succeeded {"A": {"A": 1}, "B": {"B": 1}, "C": {"C": 2}, "x": 1}', 'succeeded'],
	'once it has succeeded, a failure undoes nothing; the saga goes forward when it is tried again');
SELECT is(pg_temp.saga_run(pg_temp.abc(compensation => '{"B": {"Pivot": true, "Resource": null}}'), '{"x": 1}', '{"B": [{"error": "E"}]}'), ARRAY[
	'0: A#1', '0: B#1', '0: StepFailed B E no_effect', '0: CompensationStarted B E failure', '0: undo A#1', '0: StepCompensated A succeeded', '0: end compensated E', 'compensated'],
	'before, it does');
SELECT is(pg_temp.saga_run(pg_temp.abc(compensation => '{"B": {"Pivot": true, "Resource": null}}', options => '{"deadline": 10}'), '{"x": 1}', '{"C": [{"lost": true}, {"lost": true}]}', '[{"at": 20, "kind": "retry"}, {"at": 25, "kind": "cancel", "compensate": true}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '10: cancel 3 unknown', '10: StepWithdrawn C unknown', '10: end timed_out States.Timeout', '20: SagaRetried', '20: C#2', '25: cancel 4 unknown', '25: StepWithdrawn C unknown', '25: end cancelled', 'cancelled'],
	'nor does a deadline, or who cancels it');
SELECT is(pg_temp.saga_run(pg_temp.abc(compensation => '{"B": {"Pivot": true, "Resource": null}}'), '{"x": 1}', '{}', '[{"at": 10, "kind": "compensate"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: end succeeded {"A": {"A": 1}, "B": {"B": 1}, "C": {"C": 1}, "x": 1}', '10: CompensationStarted order', '10: undo C#1', '10: StepCompensated C succeeded', '10: undo A#1', '10: StepCompensated A succeeded', '10: end compensated', 'compensated'],
	'an order does');

-- ---- deadline and cancel ----

SELECT is(pg_temp.saga_run(pg_temp.abc(options => '{"deadline": 10}'), '{"x": 1}', '{"C": [{"lost": true}]}'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '10: cancel 3 unknown', '10: StepWithdrawn C unknown', '10: CompensationStarted States.Timeout deadline', '10: undo C#1', '10: StepCompensated C succeeded', '10: undo B#1', '10: StepCompensated B succeeded', '10: undo A#1', '10: StepCompensated A succeeded', '10: end timed_out States.Timeout', 'timed_out'],
	'a deadline compensates');
SELECT is(pg_temp.saga_run(pg_temp.abc(options => '{"deadline": 10, "on_deadline": "fail"}'), '{"x": 1}', '{"C": [{"lost": true}, {"ok": 1, "after": 9}]}', '[{"at": 20, "kind": "retry"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '10: cancel 3 unknown', '10: StepWithdrawn C unknown', '10: end timed_out States.Timeout', '20: SagaRetried', '20: C#2', '29: end succeeded {"A": {"A": 1}, "B": {"B": 1}, "C": 1, "x": 1}', 'succeeded'],
	'or only ends the saga; it can be tried again');
SELECT is(pg_temp.saga_run(pg_temp.abc(options => '{"deadline": 10, "on_deadline": "fail"}'), '{"x": 1}', '{"C": {"*": {"lost": true}}}', '[{"at": 20, "kind": "retry"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '10: cancel 3 unknown', '10: StepWithdrawn C unknown', '10: end timed_out States.Timeout', '20: SagaRetried', '20: C#2', '30: cancel 4 unknown', '30: StepWithdrawn C unknown', '30: end timed_out States.Timeout', 'timed_out'],
	'with a deadline of its own');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{"C": [{"lost": true}]}', '[{"at": 10, "kind": "cancel", "compensate": true, "cause": "no more"}, {"at": 11, "kind": "retry"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '10: cancel 3 unknown', '10: StepWithdrawn C unknown', '10: CompensationStarted cancel', '10: undo C#1', '10: StepCompensated C succeeded', '10: undo B#1', '10: StepCompensated B succeeded', '10: undo A#1', '10: StepCompensated A succeeded', '10: end cancelled', '11: retry changes nothing', 'cancelled'],
	'cancel and compensate; that cannot be tried again');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{"C": [{"lost": true}]}', '[{"at": 10, "kind": "cancel", "compensate": false}, {"at": 20, "kind": "retry"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '10: cancel 3 unknown', '10: StepWithdrawn C unknown', '10: end cancelled', '20: SagaRetried', '20: C#2', '20: end succeeded {"A": {"A": 1}, "B": {"B": 1}, "C": {"C": 2}, "x": 1}', 'succeeded'],
	'cancel only; that can, by the same visit');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{"C": [{"ok": 1, "after": 15, "late": true}]}', '[{"at": 10, "kind": "cancel", "compensate": false}, {"at": 20, "kind": "retry"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '10: cancel 3 unknown', '10: StepWithdrawn C unknown', '10: end cancelled', '15: LateReply C succeeded', '15: undo C#1', '15: StepCompensated C succeeded', '20: SagaRetried', '20: C#1 visit 2', '20: end succeeded {"A": {"A": 1}, "B": {"B": 1}, "C": {"C": 1}, "x": 1}', 'succeeded'],
	'unless the visit has been undone: then by another one');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{"C": [{"error": "E"}], "undo B": [{"ok": 1, "after": 10}]}', '[{"at": 5, "kind": "cancel", "compensate": true}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: StepFailed C E no_effect', '0: CompensationStarted C E failure', '0: undo B#1', '5: cancel changes nothing', '10: StepCompensated B succeeded', '10: undo A#1', '10: StepCompensated A succeeded', '10: end compensated E', 'compensated'],
	'cancel while it compensates changes nothing');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"B": {"TimeoutSeconds": 5, "Retry": [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 60}]}}'), '{"x": 1}', '{"B": [{"lost": true}]}', '[{"at": 30, "kind": "cancel", "compensate": true}]'), ARRAY[
	'0: A#1', '0: B#1', '5: cancel 2 States.Timeout unknown', '5: StepTimedOut B States.Timeout unknown', '5: StepRetried B States.Timeout due 65', '30: CompensationStarted cancel', '30: undo B#1', '30: StepCompensated B succeeded', '30: undo A#1', '30: StepCompensated A succeeded', '30: end cancelled', 'cancelled'],
	'cancel between two attempts of a step that was lost');

-- ---- tried again ----

SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"C": {"Retry": [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 1}]}}', more => '{"automatic": false}'), '{"x": 1}', '{"C": [{"error": "E"}, {"error": "E"}, {"error": "E"}]}', '[{"at": 10, "kind": "retry"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: StepFailed C E no_effect', '0: StepRetried C E due 1', '1: C#2', '1: StepFailed C E no_effect', '1: end failed E', '10: SagaRetried', '10: C#3', '10: StepFailed C E no_effect', '10: StepRetried C E due 11', '11: C#4', '11: end succeeded {"A": {"A": 1}, "B": {"B": 1}, "C": {"C": 4}, "x": 1}', 'succeeded'],
	'from the state that failed, with fresh counters');
SELECT is(pg_temp.saga_run(pg_temp.forked('{"automatic": false}'), '{"x": 1}', '{"P[0].A": [{"ok": 1, "after": 3}], "P[1].B": [{"error": "E", "after": 2}], "P[2].C": [{"ok": 3, "after": 1}]}', '[{"at": 10, "kind": "retry"}]'), ARRAY[
	'0: P[0].A#1', '0: P[1].B#1', '0: P[2].C#1', '2: StepFailed P[1].B E no_effect', '2: cancel 1 unknown', '2: StepWithdrawn P[0].A unknown', '2: end failed E', '10: SagaRetried', '10: P[0].A#2', '10: P[1].B#2', '10: D#1', '10: end succeeded {"D": {"D": 1}, "p": [{"A": {"P[0].A": 2}, "x": 1}, {"B": {"P[1].B": 2}, "x": 1}, {"C": 3, "x": 1}], "x": 1}', 'succeeded'],
	'branches that have ended are not entered again');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{}', '[{"at": 10, "kind": "retry"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: end succeeded {"A": {"A": 1}, "B": {"B": 1}, "C": {"C": 1}, "x": 1}', '10: retry changes nothing', 'succeeded'],
	'what has succeeded or been compensated is not tried again');

-- ---- orders ----

SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{}', '[{"at": 10, "kind": "compensate"}, {"at": 20, "kind": "compensate"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: end succeeded {"A": {"A": 1}, "B": {"B": 1}, "C": {"C": 1}, "x": 1}', '10: CompensationStarted order', '10: undo C#1', '10: StepCompensated C succeeded', '10: undo B#1', '10: StepCompensated B succeeded', '10: undo A#1', '10: StepCompensated A succeeded', '10: end compensated', '20: compensate changes nothing', 'compensated'],
	'all of it');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{"C": [{"lost": true}]}', '[{"at": 10, "kind": "compensate"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '10: cancel 3 unknown', '10: StepWithdrawn C unknown', '10: CompensationStarted order', '10: undo C#1', '10: StepCompensated C succeeded', '10: undo B#1', '10: StepCompensated B succeeded', '10: undo A#1', '10: StepCompensated A succeeded', '10: end compensated', 'compensated'],
	'while it runs');
SELECT is(pg_temp.saga_run(pg_temp.chain('A'), '{"x": 1}', '{}', '[{"at": 10, "kind": "compensate"}]'), ARRAY[
	'0: A#1', '0: end succeeded {"A": {"A": 1}, "x": 1}', '10: end compensated', 'compensated'],
	'where there is nothing to undo');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{}', '[{"at": 10, "kind": "compensate", "data": [{"eventType": "A", "compensationAction": "RefundPayment", "data": {"r": 1}}, {"state": "C"}, {"eventType": "Other", "compensationAction": "Tell", "data": 5}]}]', detailed => true), ARRAY[
	'0: A#1 {"x": 1}', '0: B#1 {"A": {"A": 1}, "x": 1}', '0: C#1 {"A": {"A": 1}, "B": {"B": 1}, "x": 1}', '0: end succeeded {"A": {"A": 1}, "B": {"B": 1}, "C": {"C": 1}, "x": 1}', '10: CompensationStarted order', '10: undo A#1 {"data": {"r": 1}, "error": null, "input": {"x": 1}, "output": {"A": 1}, "outcome": "succeeded"}', '10: StepCompensated A succeeded', '10: undo C#1 {"error": null, "input": {"A": {"A": 1}, "B": {"B": 1}, "x": 1}, "output": {"C": 1}, "outcome": "succeeded"}', '10: StepCompensated C succeeded', '10: Other#1 {"data": 5, "error": null, "input": null, "output": null, "outcome": null}', '10: StepCompensated Other succeeded', '10: end compensated', 'compensated'],
	'a list: these, in its order, with its data');
SELECT is(pg_temp.saga_run(pg_temp.abc(states => '{"B": {"Resource": "evstore:event:PaymentProcessed"}}'), '{"x": 1}', '{"C": [{"lost": true}]}', '[{"at": 10, "kind": "compensate", "error": "ShippingFailed", "data": {"eventType": "ShippingFailed", "compensationRequired": [{"eventType": "PaymentProcessed", "compensationAction": "RefundPayment"}, {"eventType": "A", "compensationAction": "ReleaseInventory"}, {"state": "A"}]}}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '10: cancel 3 unknown', '10: StepWithdrawn C unknown', '10: CompensationStarted ShippingFailed order', '10: undo B#1', '10: StepCompensated B succeeded', '10: undo A#1', '10: StepCompensated A succeeded', '10: end compensated ShippingFailed', 'compensated'],
	'as in the event of a failure, of events waited for, while it runs');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{"undo B": {"*": {"error": "no"}}}', '[{"at": 10, "kind": "compensate", "data": [{"state": "B"}, {"state": "A"}]}, {"at": 100, "kind": "resolve", "error": "skip"}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: end succeeded {"A": {"A": 1}, "B": {"B": 1}, "C": {"C": 1}, "x": 1}', '10: CompensationStarted order', '10: undo B#1', '10: CompensationStepFailed B no no_effect due 20', '20: undo B#2', '20: CompensationStepFailed B no no_effect', '20: SagaCompensationFailed B no', '100: SagaResolved skip', '100: undo A#1', '100: StepCompensated A succeeded', '100: end compensated', 'compensated'],
	'whose compensator gives up, and is skipped');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{}', '[{"at": 10, "kind": "compensate", "data": [{"eventType": "Other"}]}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: end succeeded {"A": {"A": 1}, "B": {"B": 1}, "C": {"C": 1}, "x": 1}', '10: CompensationRefused order', 'succeeded'],
	'refused: what nothing compensates');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{}', '[{"at": 10, "kind": "compensate", "data": [{"state": "A", "compensationAction": "evstore:sql:pg_catalog.now"}]}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: end succeeded {"A": {"A": 1}, "B": {"B": 1}, "C": {"C": 1}, "x": 1}', '10: CompensationRefused order', 'succeeded'],
	'refused: a resource that the definition does not name');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{}', '[{"at": 10, "kind": "compensate", "data": [1]}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: end succeeded {"A": {"A": 1}, "B": {"B": 1}, "C": {"C": 1}, "x": 1}', '10: CompensationRefused order', 'succeeded'],
	'refused: no names');
SELECT is(pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{}', '[{"at": 10, "kind": "compensate", "data": 7}]'), ARRAY[
	'0: A#1', '0: B#1', '0: C#1', '0: end succeeded {"A": {"A": 1}, "B": {"B": 1}, "C": {"C": 1}, "x": 1}', '10: CompensationRefused order', 'succeeded'],
	'refused: no list');
SELECT is(pg_temp.saga_run('{"StartAt": "K", "States": {"K": {"Type": "Task", "Resource": "evstore:saga:child.sync", "Next": "L"}, "L": {"Type": "Task", "Resource": "evstore:saga:other", "Next": "F"}, "F": {"Type": "Fail", "Error": "F"}}}', '{"x": 1}', '{}'), ARRAY[
	'0: K#1', '0: L#1', '0: CompensationStarted F F failure', '0: undo K#1', '0: StepCompensated K succeeded', '0: end compensated F', 'compensated'],
	'a child that was waited for is undone as a whole');

-- ---- the history ----

SELECT is((pg_temp.saga_run(pg_temp.abc(), '{"x": 1}', '{"C": [{"error": "Bad", "cause": "very"}]}')) [11], 'compensated', 'a saga that is compensated');
SELECT is((SELECT array_agg(action ->> 'type' ORDER BY n) FROM saga_action WHERE action ->> 'action' = 'record'),
	'{SagaStarted,StepStarted,StepSucceeded,StepStarted,StepSucceeded,StepStarted,StepFailed,CompensationStarted,StepStarted,StepCompensated,StepStarted,StepCompensated,SagaCompensated}',
	'has a history');
SELECT is((SELECT jsonb_object_agg(action ->> 'type', action -> 'data') FROM (SELECT DISTINCT ON (action ->> 'type') action FROM saga_action WHERE action ->> 'action' = 'record' ORDER BY action ->> 'type', n) AS s), '{
	"SagaStarted": {"saga_id": "00000000-0000-7000-8000-000000000001", "saga_type": "test", "business_key": "k", "input": {"x": 1}},
	"StepStarted": {"step": 1, "state": "A", "visit": 1, "attempt": 1, "resource": "evstore:activity:A", "input": {"x": 1}},
	"StepSucceeded": {"step": 1, "state": "A", "visit": 1, "attempt": 1, "output": {"A": 1}, "outcome": "succeeded"},
	"StepFailed": {"step": 3, "state": "C", "visit": 1, "attempt": 1, "error": "Bad", "cause": "very", "outcome": "no_effect"},
	"CompensationStarted": {"state": "C", "error": "Bad", "cause": "very", "reason": "failure"},
	"StepCompensated": {"step": 4, "state": "B", "visit": 1, "attempt": 1, "compensates": 2, "output": {"B": 1}, "outcome": "succeeded"},
	"SagaCompensated": {"saga_id": "00000000-0000-7000-8000-000000000001", "saga_type": "test", "completion_time": "2030-01-01T00:00:00Z", "error": "Bad", "cause": "very"}}'::jsonb,
	'each record says what concerns it');
SELECT is((SELECT action FROM saga_action WHERE action ->> 'action' = 'end'), '{"action": "end", "status": "compensated", "error": "Bad", "cause": "very"}'::jsonb, 'and the end has the failure');
SELECT is((pg_temp.saga_run(pg_temp.forked('{"automatic": false}'), '{"x": 1}', '{"P[1].B": [{"error": "Bad", "cause": "very"}]}')) [8], 'failed', 'a saga that fails');
SELECT is((SELECT action -> 'data' FROM saga_action WHERE action ->> 'type' = 'SagaFailed'), '{"saga_id": "00000000-0000-7000-8000-000000000001", "saga_type": "test",
	"completion_time": "2030-01-01T00:00:00Z", "state": "P[1].B", "error": "Bad", "cause": "very"}'::jsonb, 'says where');
SELECT is((pg_temp.saga_run(pg_temp.abc(), '{}', '{}', '[{"at": 10, "kind": "compensate", "data": [{"state": "A"}, {"eventType": "Other"}]}]')) [6], 'succeeded', 'a list that is refused');
SELECT is((SELECT action #>> '{data,cause}' FROM saga_action WHERE action ->> 'type' = 'CompensationRefused'), 'nothing compensates "Other"', 'says why');

-- ---- whatever happens ----

-- n Tasks, Parallels and Maps, one after the other.
CREATE FUNCTION pg_temp.random_machine(prefix text, depth int) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	n int := 1 + floor(random() * 3);
	states jsonb := '{}';
	name text;
	kind float8;
	state jsonb;
BEGIN
	FOR i IN 1 .. n LOOP
		name := prefix || i;
		kind := CASE WHEN depth < 2 THEN random() ELSE 1 END;
		state := CASE WHEN kind < 0.2 THEN jsonb_build_object('Type', 'Parallel', 'ResultPath', NULL, 'Branches',
				jsonb_build_array(pg_temp.random_machine(name || 'a', depth + 1), pg_temp.random_machine(name || 'b', depth + 1)))
			WHEN kind < 0.4 THEN jsonb_build_object('Type', 'Map', 'ResultPath', NULL, 'ItemsPath', '$.items', 'MaxConcurrency', floor(random() * 3),
				'ItemSelector', '{"items.$": "$.items"}'::jsonb, 'ItemProcessor', pg_temp.random_machine(name || 'm', depth + 1))
			ELSE jsonb_build_object('Type', 'Task', 'Resource', 'evstore:activity:' || name, 'ResultPath', NULL, 'TimeoutSeconds', 5) END;
		IF random() < 0.5 THEN
			state := state || jsonb_build_object('Retry', jsonb_build_array(jsonb_build_object('ErrorEquals', jsonb_build_array((ARRAY['Declined', 'States.Timeout', 'States.ALL']) [1 + floor(random() * 3)]),
				'IntervalSeconds', 1 + floor(random() * 3), 'MaxAttempts', floor(random() * 3), 'JitterStrategy', (ARRAY['FULL', 'NONE']) [1 + floor(random() * 2)])));
		END IF;
		IF i < n AND random() < 0.4 THEN
			state := state || jsonb_build_object('Catch', jsonb_build_array(jsonb_build_object('ErrorEquals', jsonb_build_array((ARRAY['States.TaskFailed', 'States.ALL']) [1 + floor(random() * 2)]),
				'ResultPath', NULL, 'Next', prefix || (i + 1))));
		END IF;
		states := states || jsonb_build_object(name, state || CASE WHEN i = n THEN '{"End": true}' ELSE jsonb_build_object('Next', prefix || (i + 1)) END);
	END LOOP;
	RETURN jsonb_build_object('StartAt', prefix || 1, 'States', states);
END $$;

-- Names of all Tasks.
CREATE FUNCTION pg_temp.tasks(machine jsonb) RETURNS SETOF text LANGUAGE sql STABLE AS $$
	SELECT t ->> 0 FROM jsonb_path_query(machine, '$.**.States.keyvalue() ? (@.value.Type == "Task").key') AS t
$$;

-- What is wrong with the last run: visits, what was undone, and in which order.
CREATE FUNCTION pg_temp.wrong() RETURNS SETOF text LANGUAGE sql STABLE AS $$
	WITH record AS (
		SELECT n, action ->> 'type' AS type, action #>> '{data,state}' AS state, action #>> '{data,visit}' AS visit,
			action ->> 'outcome' AS outcome
		FROM saga_action WHERE action ->> 'action' = 'record'),
	began AS (SELECT min(n) AS n FROM record WHERE type = 'CompensationStarted'),
	visit AS (
		SELECT state, visit, count(*) FILTER (WHERE type = 'StepSucceeded') AS succeeded,
			bool_or(outcome = 'unknown') AS lost, bool_or(type = 'LateReply') AS late,
			count(*) FILTER (WHERE type = 'StepCompensated') AS undone,
			min(n) FILTER (WHERE type = 'StepSucceeded') AS succeeded_at, min(n) FILTER (WHERE type = 'StepCompensated') AS undone_at
		FROM record WHERE visit IS NOT NULL AND type <> 'StepStarted' GROUP BY state, visit)
	SELECT format('visit %s of %s succeeded %s times', visit, state, succeeded) FROM visit WHERE succeeded > 1
	UNION ALL
	SELECT format('visit %s of %s undone %s times, with %s', visit, state, undone, CASE WHEN began.n IS NULL THEN 'no compensation' ELSE 'compensation' END) FROM visit, began
	WHERE undone <> CASE WHEN began.n IS NOT NULL THEN (succeeded > 0 OR lost)::int ELSE (late AND succeeded = 0)::int END
	UNION ALL
	SELECT format('%s succeeded before %s, and was undone before it', a.state, b.state) FROM visit AS a, visit AS b, began
	WHERE a.succeeded_at < b.succeeded_at AND a.undone_at < b.undone_at AND b.succeeded_at < began.n
	UNION ALL
	SELECT 'no end' WHERE (SELECT count(*) FROM saga_action WHERE action ->> 'action' = 'end') <> 1
	UNION ALL
	SELECT format('step %s neither ended nor was withdrawn', action -> 'step') FROM saga_action
	WHERE action ->> 'action' = 'start' AND NOT EXISTS (SELECT FROM saga_action AS e WHERE e.action ->> 'action' IN ('record', 'cancel')
		AND e.action -> 'step' = saga_action.action -> 'step' AND e.action ->> 'type' IS DISTINCT FROM 'StepStarted')
$$;

CREATE TEMP TABLE outcome (seed int, status text, problem text);
DO $$
DECLARE
	definition jsonb;
	first text[];
	events jsonb;
BEGIN
	FOR seed IN 1 .. 80 LOOP
		PERFORM setseed(seed / 1000.0);
		definition := pg_temp.random_machine('S', 0);
		definition := jsonb_build_object('asl', definition, 'compensation', pg_temp.compensators(VARIADIC ARRAY(SELECT pg_temp.tasks(definition))));
		events := CASE seed % 3 WHEN 0 THEN jsonb_build_array(jsonb_build_object('at', seed % 10, 'kind', 'cancel', 'compensate', true)) ELSE '[]' END;
		first := pg_temp.saga_run(definition, '{"items": [1, 2, 3]}', jsonb_build_object('random', seed), events, seed => seed);
		INSERT INTO outcome SELECT seed, first [cardinality(first)], w FROM (SELECT 1) AS one LEFT JOIN pg_temp.wrong() AS w ON true;
		IF seed % 10 = 0 AND first IS DISTINCT FROM pg_temp.saga_run(definition, '{"items": [1, 2, 3]}', jsonb_build_object('random', seed), events, seed => seed) THEN
			INSERT INTO outcome VALUES (seed, first [cardinality(first)], 'another run is another one');
		END IF;
	END LOOP;
END $$;
SELECT is_empty('SELECT * FROM outcome WHERE problem IS NOT NULL', 'what was done is undone exactly once, in reverse order, or not at all');
SELECT ok((SELECT count(DISTINCT status) FROM outcome) >= 4, 'with all kinds of ends');

SELECT is_empty('SELECT * FROM saga_fault', 'whatever is stored is loaded as it was, and nothing counts twice');
SELECT finish();
