-- The machine of sagas: states, retries, catchers, branches, items, time.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;
\ir lib/saga_driver.sql

SELECT plan(74);

-- A machine of these states; the first one named begins.
CREATE FUNCTION pg_temp.machine(start text, states jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_build_object('StartAt', start, 'States', states)
$$;
-- A Task that ends, with this besides.
CREATE FUNCTION pg_temp.task(name text, more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_build_object(name, jsonb_build_object('Type', 'Task', 'Resource', 'evstore:activity:' || name) ||
		CASE WHEN more ? 'Next' THEN '{}' ELSE '{"End": true}' END::jsonb || more)
$$;

-- ---- a chain ----

SELECT is(pg_temp.saga_run(pg_temp.chain('A', 'B'), '{"x": 1}', detailed => true), ARRAY[
	'0: A#1 {"x": 1}', '0: B#1 {"A": {"A": 1}, "x": 1}',
	'0: end succeeded {"A": {"A": 1}, "B": {"B": 1}, "x": 1}', 'succeeded'], 'a chain of Tasks');
SELECT is(pg_temp.saga_run('{"StartAt": "P", "States": {"P": {"Type": "Pass", "Result": {"a": 1}, "ResultPath": "$.r", "Next": "S"}, "S": {"Type": "Succeed", "OutputPath": "$.r"}}}', '{"x": 1}'),
	'{"0: end succeeded {\"a\": 1}",succeeded}', 'no steps at all');
SELECT is(pg_temp.saga_run('{"StartAt": "F", "States": {"F": {"Type": "Fail", "Error": "Nope", "Cause": "why"}}}'),
	'{"0: end failed Nope",failed}', 'Fail');
SELECT is(pg_temp.saga_run('{"StartAt": "F", "States": {"F": {"Type": "Fail", "ErrorPath": "$.e", "CausePath": "States.Format(''c {}'', $.c)"}}}', '{"e": "E1", "c": 2}'),
	'{"0: end failed E1",failed}', 'Fail by paths');
SELECT is(pg_temp.saga_run('{"StartAt": "F", "States": {"F": {"Type": "Fail", "ErrorPath": "$.e"}}}', '{"e": 1}'),
	'{"0: end failed States.Runtime",failed}', 'whose path names no string');
SELECT is(pg_temp.saga_run('{"StartAt": "F", "States": {"F": {"Type": "Fail"}}}'), '{"0: end failed",failed}', 'that names no error');

-- ---- data flow ----

SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"InputPath": "$.in", "Parameters": {"p.$": "$.v", "c": 1, "n.$": "$$.State.Name", "e.$": "$$.Execution.Name", "i.$": "$$.Execution.Input.in.v"},
		"ResultSelector": {"sel.$": "$.v"}, "ResultPath": "$.res", "OutputPath": "$.res"}')), '{"in": {"v": 7}}', '{"T": [{"ok": {"v": 8, "w": 9}}]}', detailed => true),
	ARRAY['0: T#1 {"c": 1, "e": "k", "i": 7, "n": "T", "p": 7}', '0: end succeeded {"sel": 8}', 'succeeded'], 'InputPath, Parameters, ResultSelector, ResultPath, OutputPath');
SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"InputPath": "$.in", "ResultPath": "$.res"}')), '{"in": 1}', '{"T": [{"ok": 2}]}'),
	ARRAY['0: T#1', '0: end succeeded {"in": 1, "res": 2}', 'succeeded'], 'ResultPath is of the input as it came in');
SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"InputPath": null, "ResultPath": null}')), '{"in": 1}', '{"T": [{"ok": 2}]}', detailed => true),
	ARRAY['0: T#1 {}', '0: end succeeded {"in": 1}', 'succeeded'], 'InputPath and ResultPath null');
SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"OutputPath": null}'))), ARRAY['0: T#1', '0: end succeeded {}', 'succeeded'], 'OutputPath null');
SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"InputPath": "$.no"}'))), '{"0: end failed States.Runtime",failed}', 'InputPath that names nothing');
SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"ResultPath": "$.a.b"}')), '{"a": 1}'),
	ARRAY['0: T#1', '0: end failed States.ResultPathMatchFailure', 'failed'], 'ResultPath that cannot be');
SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"Parameters": {"a.$": "$.no"}, "Catch": [{"ErrorEquals": ["States.ParameterPathFailure"], "Next": "U"}]}') || pg_temp.task('U'))),
	ARRAY['0: U#1', '0: end succeeded {"U": 1}', 'succeeded'], 'Parameters that fail are the state''s failure');
SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"Parameters": {"t.$": "$$.Task.Token", "r.$": "$$.State.RetryCount", "at.$": "$$.State.EnteredTime"},
		"Retry": [{"ErrorEquals": ["States.ALL"]}]}')), '{}', '{"T": [{"error": "E"}]}', detailed => true),
	ARRAY['0: T#1 {"r": 0, "t": "token-2", "at": "2030-01-01T00:00:00Z"}', '0: StepFailed T E no_effect', '0: StepRetried T E due 1', '1: T#2 {"r": 1, "t": "token-4", "at": "2030-01-01T00:00:00Z"}',
		'1: end succeeded {"T": 2}', 'succeeded'], 'token, retry count and time of entry');

-- ---- variables ----

SELECT is(pg_temp.saga_run(pg_temp.machine('A', pg_temp.task('A', '{"Assign": {"v.$": "$.A", "w": 1}, "Next": "B"}') || pg_temp.task('B', '{"Parameters": {"v.$": "$v", "w.$": "$w"}, "Assign": {"w.$": "$v"}, "Next": "C"}')
		|| pg_temp.task('C', '{"Parameters": {"w.$": "$w"}}')), '{}', '{"A": [{"ok": {"A": 5}}]}', detailed => true),
	ARRAY['0: A#1 {}', '0: B#1 {"v": 5, "w": 1}', '0: C#1 {"w": 5}', '0: end succeeded {"C": 1}', 'succeeded'], 'Assign, of the result');
SELECT is(pg_temp.saga_run('{"StartAt": "S", "States": {"S": {"Type": "Pass", "Assign": {"v": 1}, "Next": "P"},
	"P": {"Type": "Parallel", "Next": "E", "ResultPath": "$.r", "Branches": [
		{"StartAt": "P1", "States": {"P1": {"Type": "Pass", "Assign": {"v": 2}, "Next": "P2"}, "P2": {"Type": "Pass", "Parameters": {"v.$": "$v"}, "End": true}}},
		{"StartAt": "Q1", "States": {"Q1": {"Type": "Pass", "Parameters": {"v.$": "$v"}, "End": true}}}]},
	"E": {"Type": "Pass", "Parameters": {"v.$": "$v", "r.$": "$.r"}, "End": true}}}'),
	'{"0: end succeeded {\"r\": [{\"v\": 2}, {\"v\": 1}], \"v\": 1}",succeeded}', 'branches see the outer variables, and change none');

-- ---- Choice ----

CREATE FUNCTION pg_temp.choice(more jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT pg_temp.machine('C', jsonb_build_object('C', '{"Type": "Choice", "Choices": [{"Variable": "$.x", "NumericGreaterThan": 5, "Next": "Big", "Assign": {"s": "big"}},
		{"Variable": "$.x", "NumericGreaterThan": 2, "Next": "Mid"}]}'::jsonb || more) ||
		'{"Big": {"Type": "Pass", "Parameters": {"s.$": "$s"}, "End": true}, "Mid": {"Type": "Pass", "End": true}, "Small": {"Type": "Pass", "Parameters": {"s.$": "$s"}, "End": true}}')
$$;
SELECT is(pg_temp.saga_run(pg_temp.choice('{"Default": "Small", "Assign": {"s": "small"}}'), '{"x": 9}'), '{"0: end succeeded {\"s\": \"big\"}",succeeded}', 'the first rule that matches, with its Assign');
SELECT is(pg_temp.saga_run(pg_temp.choice('{"Default": "Small", "Assign": {"s": "small"}}'), '{"x": 3}'), '{"0: end succeeded {\"x\": 3}",succeeded}', 'the second rule');
SELECT is(pg_temp.saga_run(pg_temp.choice('{"Default": "Small", "Assign": {"s": "small"}}'), '{"x": 1}'), '{"0: end succeeded {\"s\": \"small\"}",succeeded}', 'Default, with the state''s Assign');
SELECT is(pg_temp.saga_run(pg_temp.choice('{"Default": "Small"}'), '{}'), '{"0: end failed States.Runtime",failed}', 'a rule whose variable is not there');

-- ---- Wait ----

SELECT is(pg_temp.saga_run(pg_temp.machine('W', '{"W": {"Type": "Wait", "Seconds": 90, "Next": "T"}}' || pg_temp.task('T'))), ARRAY['90: T#1', '90: end succeeded {"T": 1}', 'succeeded'], 'Wait for seconds');
SELECT is(pg_temp.saga_run(pg_temp.machine('W', '{"W": {"Type": "Wait", "SecondsPath": "$.s", "Next": "T"}}' || pg_temp.task('T')), '{"s": 0.5}'),
	ARRAY['0.5: T#1', '0.5: end succeeded {"T": 1}', 'succeeded'], 'by a path');
SELECT is(pg_temp.saga_run(pg_temp.machine('W', '{"W": {"Type": "Wait", "Timestamp": "2030-01-01T00:02:00Z", "Next": "T"}}' || pg_temp.task('T'))),
	ARRAY['120: T#1', '120: end succeeded {"T": 1}', 'succeeded'], 'until a time');
SELECT is(pg_temp.saga_run(pg_temp.machine('W', '{"W": {"Type": "Wait", "TimestampPath": "$.t", "Next": "T"}}' || pg_temp.task('T')), '{"t": "2030-01-01T01:00:00+01:00"}'),
	ARRAY['0: T#1', '0: end succeeded {"T": 1}', 'succeeded'], 'that has come already');
SELECT is(pg_temp.saga_run(pg_temp.machine('W', '{"W": {"Type": "Wait", "SecondsPath": "$.s", "End": true}}'), '{"s": "x"}'), '{"0: end failed States.Runtime",failed}', 'a path that names no number');

-- ---- Retry ----

SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"Retry": [{"ErrorEquals": ["E"], "IntervalSeconds": 3, "BackoffRate": 2.0, "MaxAttempts": 4, "MaxDelaySeconds": 10}]}')),
	'{}', '{"T": {"*": {"error": "E"}}}'), ARRAY['0: T#1', '0: StepFailed T E no_effect', '0: StepRetried T E due 3', '3: T#2', '3: StepFailed T E no_effect', '3: StepRetried T E due 9', '9: T#3',
		'9: StepFailed T E no_effect', '9: StepRetried T E due 19', '19: T#4', '19: StepFailed T E no_effect', '19: StepRetried T E due 29', '29: T#5', '29: StepFailed T E no_effect', '29: end failed E', 'failed'],
	'delays double, up to the longest');
SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"Retry": [{"ErrorEquals": ["E"], "MaxAttempts": 1}, {"ErrorEquals": ["F", "G"], "IntervalSeconds": 5, "MaxAttempts": 2, "BackoffRate": 1}, {"ErrorEquals": ["States.ALL"], "MaxAttempts": 0}]}')),
	'{}', '{"T": [{"error": "F"}, {"error": "E"}, {"error": "G"}, {"error": "E"}]}'), ARRAY['0: T#1', '0: StepFailed T F no_effect', '0: StepRetried T F due 5', '5: T#2', '5: StepFailed T E no_effect', '5: StepRetried T E due 6',
		'6: T#3', '6: StepFailed T G no_effect', '6: StepRetried T G due 11', '11: T#4', '11: StepFailed T E no_effect', '11: end failed E', 'failed'], 'each retrier counts for itself, and the first that matches decides');
SELECT is(pg_temp.saga_run('{"StartAt": "T", "States": {"T": {"Type": "Task", "Resource": "evstore:activity:T", "Retry": [{"ErrorEquals": ["E"], "MaxAttempts": 1}], "Next": "C"},
		"C": {"Type": "Choice", "Choices": [{"Variable": "$.again", "BooleanEquals": true, "Next": "T"}], "Default": "S"}, "S": {"Type": "Succeed"}}}', '{}',
	'{"T": [{"error": "E"}, {"ok": {"again": true}}, {"error": "E"}, {"ok": {"again": false}}]}'), ARRAY['0: T#1', '0: StepFailed T E no_effect', '0: StepRetried T E due 1', '1: T#2',
		'1: T#1 visit 2', '1: StepFailed T E no_effect', '1: StepRetried T E due 2', '2: T#2 visit 2', '2: end succeeded {"again": false}', 'succeeded'], 'counters begin anew when the state is entered again');
SELECT is((SELECT count(DISTINCT line) FROM generate_series(1, 20) AS s, unnest(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T',
	'{"Retry": [{"ErrorEquals": ["E"], "IntervalSeconds": 100, "JitterStrategy": "FULL", "MaxAttempts": 1}]}')), '{}', '{"T": [{"error": "E"}]}', seed => s)) AS line
	WHERE line ~ 'StepRetried' AND substring(line FROM 'due (.*)')::numeric BETWEEN 0 AND 100), 20::bigint, 'full jitter is anything up to the delay');

SELECT is((pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', jsonb_build_object('Retry', jsonb_build_array(jsonb_build_object('ErrorEquals', jsonb_build_array(matches), 'IntervalSeconds', 1, 'MaxAttempts', 1))))),
		'{}', jsonb_build_object('T', jsonb_build_array(jsonb_build_object('error', error))))) [3] ~ 'StepRetried', expected, format('%s matches %s: %s', matches, error, expected))
FROM (VALUES ('States.ALL', 'E', true), ('States.ALL', 'States.Timeout', true), ('States.ALL', 'States.Runtime', false), ('States.ALL', 'States.DataLimitExceeded', false),
	('States.TaskFailed', 'E', true), ('States.TaskFailed', 'States.Timeout', false), ('States.TaskFailed', 'States.HeartbeatTimeout', false), ('States.TaskFailed', 'States.Runtime', false),
	('States.Timeout', 'States.HeartbeatTimeout', true), ('States.HeartbeatTimeout', 'States.Timeout', false), ('States.Runtime', 'States.Runtime', true), ('E', 'EE', false)) AS v (matches, error, expected);

-- ---- Catch ----

SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"Catch": [{"ErrorEquals": ["X"], "Next": "U"}, {"ErrorEquals": ["E"], "ResultPath": "$.err", "Assign": {"why.$": "$.Cause"}, "Next": "V"},
		{"ErrorEquals": ["States.ALL"], "Next": "U"}]}') || pg_temp.task('U') || pg_temp.task('V', '{"Parameters": {"in.$": "$", "why.$": "$why"}}')), '{"x": 1}', '{"T": [{"error": "E", "cause": "because"}]}', detailed => true),
	ARRAY['0: T#1 {"x": 1}', '0: StepFailed T E no_effect', '0: V#1 {"in": {"x": 1, "err": {"Cause": "because", "Error": "E"}}, "why": "because"}', '0: end succeeded {"V": 1}', 'succeeded'],
	'the first catcher that matches, its ResultPath and Assign');
SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"Retry": [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 1}], "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "U"}]}') || pg_temp.task('U')), '{}',
	'{"T": {"*": {"error": "E"}}}', detailed => true), ARRAY['0: T#1 {}', '0: StepFailed T E no_effect', '0: StepRetried T E due 1', '1: T#2 {}', '1: StepFailed T E no_effect', '1: U#1 {"Error": "E"}',
		'1: end succeeded {"U": 1}', 'succeeded'], 'Retry comes before Catch');
SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"Catch": [{"ErrorEquals": ["States.ALL"], "Next": "U"}]}') || pg_temp.task('U')), '{}', '{"T": [{"error": "States.Runtime"}]}'),
	ARRAY['0: T#1', '0: StepFailed T States.Runtime no_effect', '0: end failed States.Runtime', 'failed'], 'States.ALL does not catch States.Runtime');
SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"Catch": [{"ErrorEquals": ["E"], "ResultPath": null, "Next": "U"}]}') || pg_temp.task('U')), '{"x": 1}', '{"T": [{"error": "E"}]}', detailed => true),
	ARRAY['0: T#1 {"x": 1}', '0: StepFailed T E no_effect', '0: U#1 {"x": 1}', '0: end succeeded {"U": 1}', 'succeeded'], 'a catcher that drops the error');

-- ---- time-outs ----

SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"TimeoutSeconds": 30, "Retry": [{"ErrorEquals": ["States.Timeout"], "MaxAttempts": 1, "IntervalSeconds": 5}]}')), '{}', '{"T": [{"lost": true}, {"ok": 1, "after": 29.999}]}'),
	ARRAY['0: T#1', '30: cancel 1 States.Timeout unknown', '30: StepTimedOut T States.Timeout unknown', '30: StepRetried T States.Timeout due 35', '35: T#2', '64.999: end succeeded 1', 'succeeded'], 'TimeoutSeconds, for each attempt');
SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"TimeoutSecondsPath": "$.t"}')), '{"t": 7}', '{"T": [{"lost": true}]}'),
	ARRAY['0: T#1', '7: cancel 1 States.Timeout unknown', '7: StepTimedOut T States.Timeout unknown', '7: end failed States.Timeout', 'failed'], 'by a path');
SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"TimeoutSecondsPath": "$.t"}')), '{"t": 0}'), '{"0: end failed States.Runtime",failed}', 'a path that names no number of seconds');
SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"TimeoutSeconds": 60, "HeartbeatSeconds": 10}')), '{}', '{"T": [{"lost": true}]}', '[{"at": 8, "kind": "heartbeat", "step": 1}, {"at": 12, "kind": "heartbeat", "step": 1}]'),
	ARRAY['0: T#1', '22: cancel 1 States.HeartbeatTimeout unknown', '22: StepTimedOut T States.HeartbeatTimeout unknown', '22: end failed States.HeartbeatTimeout', 'failed'], 'heartbeats');
SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"Resource": "evstore:event:Paid", "TimeoutSeconds": 60}')), '{}', '{"T": [{"lost": true}]}'),
	ARRAY['0: T#1', '60: cancel 1 States.Timeout no_effect', '60: StepTimedOut T States.Timeout no_effect', '60: end failed States.Timeout', 'failed'], 'who waits for an event has done nothing');

-- ---- Parallel ----

CREATE FUNCTION pg_temp.parallel(more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT pg_temp.machine('P', jsonb_build_object('P', jsonb_build_object('Type', 'Parallel', 'Branches', jsonb_build_array(
		pg_temp.machine('A', pg_temp.task('A', '{"Next": "A2"}') || pg_temp.task('A2')), pg_temp.machine('B', pg_temp.task('B')), pg_temp.machine('C', pg_temp.task('C')))) ||
		CASE WHEN more ? 'Next' THEN '{}' ELSE '{"End": true}' END::jsonb || more) || CASE WHEN more ? 'Next' OR more ? 'Catch' THEN pg_temp.task('Z') ELSE '{}' END)
$$;
SELECT is(pg_temp.saga_run(pg_temp.parallel(), '{"x": 1}', '{"A": [{"ok": "a", "after": 3}], "B": [{"ok": "b", "after": 2}], "C": [{"ok": "c", "after": 1}]}', detailed => true),
	ARRAY['0: P[0].A#1 {"x": 1}', '0: P[1].B#1 {"x": 1}', '0: P[2].C#1 {"x": 1}', '0: P[0].A2#1 {"P[0].A": 1}', '0: end succeeded [{"P[0].A2": 1}, {"P[1].B": 1}, {"P[2].C": 1}]', 'succeeded'], 'branches, and their results in their order');
SELECT is(pg_temp.saga_run(pg_temp.parallel('{"ResultSelector": {"first.$": "$[0]"}, "ResultPath": "$.p", "Parameters": {"y.$": "$.x"}, "Next": "Z"}'), '{"x": 1}',
	'{"P[0].A": [{"ok": "a", "after": 3}], "P[1].B": [{"ok": "b", "after": 9}], "P[2].C": [{"ok": "c", "after": 1}], "P[0].A2": [{"ok": "a2"}]}', detailed => true),
	ARRAY['0: P[0].A#1 {"y": 1}', '0: P[1].B#1 {"y": 1}', '0: P[2].C#1 {"y": 1}', '3: P[0].A2#1 a', '9: Z#1 {"p": {"first": "a2"}, "x": 1}', '9: end succeeded {"Z": 1}', 'succeeded'], 'what is made of it');
SELECT is(pg_temp.saga_run(pg_temp.parallel('{"Catch": [{"ErrorEquals": ["E"], "ResultPath": "$.e", "Next": "Z"}]}'), '{"x": 1}',
	'{"P[0].A": [{"ok": "a", "after": 3}], "P[1].B": [{"error": "E", "after": 2}], "P[2].C": [{"ok": "c", "after": 1}]}'),
	ARRAY['0: P[0].A#1', '0: P[1].B#1', '0: P[2].C#1', '2: StepFailed P[1].B E no_effect', '2: cancel 1 unknown', '2: StepWithdrawn P[0].A unknown', '2: Z#1', '2: end succeeded {"Z": 1}', 'succeeded'],
	'a branch that fails fails the state, and its siblings are withdrawn');
SELECT is(pg_temp.saga_run(pg_temp.parallel('{"Retry": [{"ErrorEquals": ["E"], "MaxAttempts": 1, "IntervalSeconds": 10}]}'), '{"x": 1}', '{"P[1].B": [{"error": "E", "after": 2}]}'),
	ARRAY['0: P[0].A#1', '0: P[1].B#1', '0: P[2].C#1', '0: P[0].A2#1', '2: StepFailed P[1].B E no_effect', '2: StepRetried P E due 12', '12: P[0].A#1 visit 2', '12: P[1].B#1 visit 2', '12: P[2].C#1 visit 2',
		'12: P[0].A2#1 visit 2', '12: end succeeded [{"P[0].A2": 1}, {"P[1].B": 1}, {"P[2].C": 1}]', 'succeeded'], 'its Retry begins all branches anew: visits with numbers of their own');
SELECT is(pg_temp.saga_run('{"StartAt": "P", "States": {"P": {"Type": "Parallel", "End": true, "ResultPath": null, "Retry": [{"ErrorEquals": ["E"]}], "Branches": [
		{"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:A", "Next": "C"}, "C": {"Type": "Choice", "Choices": [{"Variable": "$.again", "BooleanEquals": true, "Next": "A"}], "Default": "S"}, "S": {"Type": "Succeed"}}},
		{"StartAt": "B", "States": {"B": {"Type": "Task", "Resource": "evstore:activity:B", "End": true}}}]}}}', '{}',
		'{"P[0].A": [{"ok": {"again": true}}, {"ok": {"again": false}}, {"ok": {"again": false}}], "P[1].B": [{"error": "E", "after": 2}]}'),
	ARRAY['0: P[0].A#1', '0: P[1].B#1', '0: P[0].A#1 visit 2', '2: StepFailed P[1].B E no_effect', '2: StepRetried P E due 3', '3: P[0].A#1 visit 3', '3: P[1].B#1 visit 3', '3: end succeeded {}', 'succeeded'],
	'which are above those of branches that have ended');
SELECT is(pg_temp.saga_run(pg_temp.machine('P', '{"P": {"Type": "Parallel", "End": true, "Branches": [{"StartAt": "Q", "States": {"Q": {"Type": "Parallel", "End": true, "Branches": [
		{"StartAt": "X", "States": {"X": {"Type": "Fail", "Error": "Deep"}}}, {"StartAt": "Y", "States": {"Y": {"Type": "Wait", "Seconds": 5, "End": true}}}]}}}], "Catch": [{"ErrorEquals": ["Deep"], "Next": "Z"}]}}' || pg_temp.task('Z'))),
	ARRAY['0: Z#1', '0: end succeeded {"Z": 1}', 'succeeded'], 'an error goes up until something takes it');

SELECT is(pg_temp.saga_run(pg_temp.machine('P', jsonb_build_object('P', jsonb_build_object('Type', 'Parallel', 'ResultPath', NULL, 'End', true, 'Branches', jsonb_build_array(
		pg_temp.chain('A', 'B', 'C'), pg_temp.chain('X', 'Y'))))), '{}'),
	ARRAY['0: P[0].A#1', '0: P[1].X#1', '0: P[0].B#1', '0: P[1].Y#1', '0: P[0].C#1', '0: end succeeded {}', 'succeeded'], 'branches take turns');
SELECT is(pg_temp.saga_run('{"StartAt": "P", "States": {"P": {"Type": "Parallel", "End": true, "ResultPath": null, "Branches": [
		{"StartAt": "A1", "States": {"A1": {"Type": "Pass", "Next": "A2"}, "A2": {"Type": "Pass", "Next": "A3"}, "A3": {"Type": "Task", "Resource": "evstore:activity:A", "End": true}}},
		{"StartAt": "B1", "States": {"B1": {"Type": "Pass", "Next": "B2"}, "B2": {"Type": "Task", "Resource": "evstore:activity:B", "End": true}}}]}}}'),
	ARRAY['0: P[1].B2#1', '0: P[0].A3#1', '0: end succeeded {}', 'succeeded'], 'also where they start no steps');

-- ---- Map ----

CREATE FUNCTION pg_temp.map(more jsonb DEFAULT '{}', inner_more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT pg_temp.machine('M', jsonb_build_object('M', jsonb_build_object('Type', 'Map', 'End', true, 'ItemProcessor', pg_temp.machine('T', pg_temp.task('T', inner_more))) || more))
$$;
SELECT is(pg_temp.saga_run(pg_temp.map(), '[10, 20]', '{"M[0].T": [{"ok": "a", "after": 2}], "M[1].T": [{"ok": "b", "after": 1}]}', detailed => true),
	ARRAY['0: M[0].T#1 10', '0: M[1].T#1 20', '2: end succeeded ["a", "b"]', 'succeeded'], 'Map: results in the order of items');
SELECT is(pg_temp.saga_run(pg_temp.map('{"ItemsPath": "$.i", "MaxConcurrency": 2}'), '{"i": [1, 2, 3, 4, 5]}', '{"M[0].T": [{"ok": "a", "after": 5}], "M[1].T": [{"ok": "b", "after": 2}], "M[2].T": [{"ok": "c", "after": 2}]}'),
	ARRAY['0: M[0].T#1', '0: M[1].T#1', '2: M[2].T#1', '4: M[3].T#1', '4: M[4].T#1', '5: end succeeded ["a", "b", "c", {"M[3].T": 1}, {"M[4].T": 1}]', 'succeeded'], 'MaxConcurrency');
SELECT is(pg_temp.saga_run(pg_temp.map('{"ItemsPath": "$.i", "MaxConcurrencyPath": "$.n"}'), '{"i": [1, 2], "n": 1}', '{"M[0].T": [{"ok": 0, "after": 1}]}'),
	ARRAY['0: M[0].T#1', '1: M[1].T#1', '1: end succeeded [0, {"M[1].T": 1}]', 'succeeded'], 'by a path');
SELECT is(pg_temp.saga_run(pg_temp.map('{"ItemsPath": "$.i"}'), '{"i": []}'), '{"0: end succeeded []",succeeded}', 'no items');
SELECT is(pg_temp.saga_run(pg_temp.map('{"ItemsPath": "$.i"}'), '{"i": {"a": 1}}'), '{"0: end failed States.Runtime",failed}', 'items that are no array');
SELECT is(pg_temp.saga_run(pg_temp.map('{"ItemsPath": "$.i", "ItemSelector": {"n.$": "$$.Map.Item.Index", "v.$": "$$.Map.Item.Value", "x.$": "$.x"}}', '{"Parameters": {"in.$": "$", "again.$": "$$.Map.Item.Value"}}'),
	'{"i": ["p"], "x": 1}', detailed => true), ARRAY['0: M[0].T#1 {"in": {"n": 0, "v": "p", "x": 1}, "again": "p"}', '0: end succeeded [{"M[0].T": 1}]', 'succeeded'], 'ItemSelector and the context object of items');
SELECT is(pg_temp.saga_run(pg_temp.map('{"ItemProcessor": {"StartAt": "N", "States": {"N": {"Type": "Map", "End": true, "ItemProcessor": {"StartAt": "T", "States": {"T": {"Type": "Task", "Resource": "evstore:activity:T", "End": true}}}}}}}'),
	'[[1, 2], [3], []]', detailed => true), ARRAY['0: M[0].N[0].T#1 1', '0: M[0].N[1].T#1 2', '0: M[1].N[0].T#1 3',
	'0: end succeeded [[{"M[0].N[0].T": 1}, {"M[0].N[1].T": 1}], [{"M[1].N[0].T": 1}], []]', 'succeeded'], 'Map in Map');
SELECT is(pg_temp.saga_run(pg_temp.map('{"MaxConcurrency": 1, "Retry": [{"ErrorEquals": ["E"], "MaxAttempts": 1}]}'), '[1, 2]', '{"M[1].T": [{"error": "E"}]}'),
	ARRAY['0: M[0].T#1', '0: M[1].T#1', '0: StepFailed M[1].T E no_effect', '0: StepRetried M E due 1', '1: M[0].T#1 visit 2', '1: M[1].T#1 visit 2', '1: end succeeded [{"M[0].T": 1}, {"M[1].T": 1}]', 'succeeded'],
	'its Retry begins with the first item');
SELECT is(cardinality(pg_temp.saga_run(pg_temp.map('{"ItemProcessor": {"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 1, "Next": "T"}, "T": {"Type": "Pass", "End": true}}}}'),
	(SELECT jsonb_agg(i) FROM generate_series(1, 1500) AS i))), 2, 'more items than states in one transition');

-- ---- limits ----

SELECT is(pg_temp.saga_run('{"StartAt": "T", "States": {"T": {"Type": "Task", "Resource": "evstore:activity:T", "Next": "C"},
		"C": {"Type": "Choice", "Choices": [{"Variable": "$.n", "NumericLessThan": 4, "Next": "P"}], "Default": "E"}, "P": {"Type": "Pass", "Next": "T"}, "E": {"Type": "Succeed"}}}', '{}',
		'{"T": [{"ok": {"n": 1}}, {"ok": {"n": 2}}, {"ok": {"n": 3}}, {"ok": {"n": 4}}]}'),
	ARRAY['0: T#1', '0: T#1 visit 2', '0: T#1 visit 3', '0: T#1 visit 4', '0: end succeeded {"n": 4}', 'succeeded'], 'each time round is a visit of its own');

SELECT is(pg_temp.saga_run('{"asl": {"StartAt": "P", "States": {"P": {"Type": "Pass", "Next": "Q"}, "Q": {"Type": "Choice", "Choices": [{"Variable": "$.end", "IsPresent": true, "Next": "E"}], "Default": "P"}, "E": {"Type": "Succeed"}}}, "options": {"max_transitions": 3000}}'),
	'{"0: end failed States.Runtime",failed}', 'a machine that goes round and round comes to an end');
SELECT is(pg_temp.saga_run(jsonb_build_object('asl', pg_temp.machine('T', pg_temp.task('T', '{"Retry": [{"ErrorEquals": ["States.ALL"]}]}')), 'options', '{"max_data": 1024}'::jsonb), '{}',
	jsonb_build_object('T', jsonb_build_array(jsonb_build_object('ok', repeat('x', 1024))))), ARRAY['0: T#1', '0: end failed States.DataLimitExceeded', 'failed'], 'data of more than max_data');

-- ---- deadlines ----

SELECT is(pg_temp.saga_run(pg_temp.chain('A', 'B') || '{"TimeoutSeconds": 20}', '{}', '{"A": [{"ok": 1, "after": 15}], "B": [{"ok": 1, "after": 15}]}'),
	ARRAY['0: A#1', '15: B#1', '20: cancel 2 unknown', '20: StepWithdrawn B unknown', '20: end timed_out States.Timeout', 'timed_out'], 'TimeoutSeconds of the machine');
SELECT is(pg_temp.saga_run(jsonb_build_object('asl', pg_temp.chain('A'), 'options', '{"deadline": 10}'::jsonb), '{}', '{"A": [{"ok": 1, "after": 10}]}'),
	ARRAY['0: A#1', '10: end succeeded {"A": 1}', 'succeeded'], 'a reply that comes at the deadline is in time');

SELECT is(pg_temp.saga_run(pg_temp.machine('T', pg_temp.task('T', '{"TimeoutSeconds": 10}')) || '{"TimeoutSeconds": 10}', '{}', '{"T": [{"lost": true}]}'),
	ARRAY['0: T#1', '10: cancel 1 unknown', '10: StepWithdrawn T unknown', '10: end timed_out States.Timeout', 'timed_out'], 'what is due at the deadline is not due any more');

SELECT is_empty('SELECT * FROM saga_fault', 'whatever is stored is loaded as it was, and nothing counts twice');
SELECT finish();
