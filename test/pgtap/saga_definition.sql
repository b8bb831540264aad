-- Definitions of sagas: every rule, kept and broken; the three forms; diagrams.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;

SELECT plan(373);

CREATE FUNCTION pg_temp.problems(definition json) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(path || CASE severity WHEN 'error' THEN ' ' ELSE ' (warning) ' END || message, '; ' ORDER BY n), '')
	FROM evstore.validate_saga(definition) WITH ORDINALITY AS p (path, severity, message, n) $$;
-- how a statement ends: its error, or ok
CREATE FUNCTION pg_temp.outcome(query text, role text DEFAULT current_user) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', role, true);
	EXECUTE query;
	RESET ROLE;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;

-- ---- documents of the language ----

-- valid_*: the language allows it.  invalid_*: it does not.  refused_*: other
-- implementations take it, or have it, and this one does not.
CREATE TEMP TABLE asl_file (name text, document text);
\copy asl_file FROM PROGRAM 'cd ../data/asl && for f in *.json; do printf "%s\002" "${f%.json}"; tr -d "\n" <"$f"; echo; done' WITH (FORMAT csv, QUOTE E'\001', DELIMITER E'\002')

CREATE TEMP TABLE wrong (name text, problems text);
INSERT INTO wrong VALUES
	('invalid_assign_wrong', '$.States.A.Assign.a.$ is not valid: there is neither a path nor an intrinsic function at character 1'),
	('invalid_branch_start_outside', '$.States.A.Branches[0].StartAt names a state that does not exist in the same machine'),
	('invalid_catch_next_missing', '$.States.A.Catch[0].Next names a state that does not exist in the same machine'),
	('invalid_catch_no_errors', '$.States.A.Catch[0].ErrorEquals is missing'),
	('invalid_catch_no_next', '$.States.A.Catch[0].Next is missing'),
	('invalid_choice_next', '$.States.A.Next is not known: a Choice state has no such field; $.States.A (warning) has no Default: the error States.NoChoiceMatched if no rule matches'),
	('invalid_choice_next_missing', '$.States.A.Choices[0].Next names a state that does not exist in the same machine'),
	('invalid_choices_empty', '$.States.A.Choices must be an array that is not empty'),
	('invalid_choices_missing', '$.States.A.Choices is missing'),
	('invalid_comment_number', '$.States.A.Comment must be a string'),
	('invalid_default_missing', '$.States.A.Default names a state that does not exist in the same machine'),
	('invalid_empty_name', '$.States."" must have a name of 1 to 80 characters'),
	('invalid_end_false', '$.States.A.End must be true, or not there'),
	('invalid_end_text', '$.States.A.End must be true or false'),
	('invalid_fail_cause_both', '$.States.A.CausePath is one too many: there is Cause'),
	('invalid_fail_end', '$.States.A.End is not known: a Fail state has no such field'),
	('invalid_fail_error_both', '$.States.A.ErrorPath is one too many: there is Error'),
	('invalid_fail_error_number', '$.States.A.Error must be a string'),
	('invalid_fail_input_path', '$.States.A.InputPath is not known: a Fail state has no such field'),
	('invalid_field_of_another_type', '$.States.A.Choices is not known: a Task state has no such field'),
	('invalid_field_unknown', '$.States.A.Compensate is not known: a Task state has no such field'),
	('invalid_input_path_number', '$.States.A.InputPath must be a string'),
	('invalid_input_path_wrong', '$.States.A.InputPath is not a path: a path begins with $ at character 1'),
	('invalid_map_concurrency_both', '$.States.A.MaxConcurrencyPath is one too many: there is MaxConcurrency'),
	('invalid_map_concurrency_negative', '$.States.A.MaxConcurrency must be a whole number between 0 and 1000000'),
	('invalid_map_items_path_wrong', '$.States.A.ItemsPath is not a path: a path begins with $ at character 1'),
	('invalid_map_mode_unknown', '$.States.A.ItemProcessor.ProcessorConfig.Mode must be "INLINE"'),
	('invalid_map_no_processor', '$.States.A.ItemProcessor is missing'),
	('invalid_map_two_processors', '$.States.A.Iterator is one too many: there is ItemProcessor'),
	('invalid_map_two_selectors', '$.States.A.Parameters is one too many: there is ItemSelector'),
	('invalid_name_long', '$.States.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx must have a name of 1 to 80 characters'),
	('invalid_name_of_outer_state', '$.States.A.Branches[0].States.A has the name of another state, $.States.A'),
	('invalid_names_twice', '$.States.A.Branches[1].States.C.Iterator.States.B has the name of another state, $.States.A.Branches[0].States.B'),
	('invalid_neither_next_nor_end', '$.States.A has neither Next nor End'),
	('invalid_next_and_end', '$.States.A.End is one too many: there is Next'),
	('invalid_next_missing', '$.States.A.Next names a state that does not exist in the same machine; $.States.C cannot be reached; $.States.D cannot be reached'),
	('invalid_next_number', '$.States.A.Next must be a string'),
	('invalid_no_end', '$.States must have an end: a state with End, or of the type Succeed or Fail'),
	('invalid_no_start', '$.StartAt is missing'),
	('invalid_no_states', '$.States is missing'),
	('invalid_output_path_wrong', '$.States.A.OutputPath is not a path: an index, a quoted name, * or ?(...) is missing at character 4'),
	('invalid_parallel_branch_leaves', '$.States.A.Branches[0].States.B.Next names a state that does not exist in the same machine'),
	('invalid_parallel_branch_no_end', '$.States.A.Branches[0].States must have an end: a state with End, or of the type Succeed or Fail'),
	('invalid_parallel_branch_no_start', '$.States.A.Branches[0].StartAt is missing'),
	('invalid_parallel_branch_unreachable', '$.States.A.Branches[0].States.C cannot be reached'),
	('invalid_parallel_branches_object', '$.States.A.Branches must be an array that is not empty'),
	('invalid_parallel_no_branches', '$.States.A.Branches is missing'),
	('invalid_parameters_duplicate', '$.States.A.Parameters.a.$ is not valid: there is a member of the same name with and without ".$"'),
	('invalid_parameters_intrinsic_unknown', '$.States.A.Parameters.a.$ is not valid: there is neither a path nor an intrinsic function at character 1'),
	('invalid_pass_result_selector', '$.States.A.ResultSelector is not known: a Pass state has no such field'),
	('invalid_query_language', '$.QueryLanguage must be "JSONPath"'),
	('invalid_resource_missing', '$.States.A.Resource is missing'),
	('invalid_resource_number', '$.States.A.Resource must be a string'),
	('invalid_result_path_not_reference', '$.States.A.ResultPath must be a path from $ of names and indexes only'),
	('invalid_result_path_variable', '$.States.A.ResultPath must be a path from $ of names and indexes only'),
	('invalid_result_selector_wrong', '$.States.A.ResultSelector.a.$ is not valid: there is neither a path nor an intrinsic function at character 1'),
	('invalid_retry_attempts_negative', '$.States.A.Retry[0].MaxAttempts must be a whole number between 0 and 99999999'),
	('invalid_retry_backoff_text', '$.States.A.Retry[0].BackoffRate must be a number between 1 and 1000'),
	('invalid_retry_errors_numbers', '$.States.A.Retry[0].ErrorEquals[0] must be a string'),
	('invalid_retry_errors_text', '$.States.A.Retry[0].ErrorEquals must be an array that is not empty'),
	('invalid_retry_interval_negative', '$.States.A.Retry[0].IntervalSeconds must be a whole number between 1 and 99999999'),
	('invalid_retry_no_errors', '$.States.A.Retry[0].ErrorEquals is missing'),
	('invalid_retry_object', '$.States.A.Retry must be an array'),
	('invalid_rule_empty_and', '$.States.A.Choices[0].And is not valid: there must be an array of rules that is not empty'),
	('invalid_rule_nested_without_operator', '$.States.A.Choices[0].Or[0] is not valid: a rule must have an operator'),
	('invalid_rule_no_next', '$.States.A.Choices[0].Next is missing'),
	('invalid_rule_no_operator', '$.States.A.Choices[0] is not valid: a rule must have an operator'),
	('invalid_rule_no_variable', '$.States.A.Choices[0] is not valid: a rule with a test must have a Variable'),
	('invalid_rule_not_array', '$.States.A.Choices[0].Not is not valid: a rule must be an object'),
	('invalid_rule_operand_type', '$.States.A.Choices[0].NumericEquals is not valid: NumericEquals needs a number'),
	('invalid_rule_operator_unknown', '$.States.A.Choices[0].NumericIs is not valid: a rule has no such member; $.States.A.Choices[0] is not valid: a rule must have an operator'),
	('invalid_rule_two_operators', '$.States.A.Choices[0].IsPresent is not valid: a rule may have only one operator'),
	('invalid_start_missing', '$.StartAt names a state that does not exist in the same machine'),
	('invalid_start_number', '$.StartAt must be a string'),
	('invalid_state_text', '$.States.A must be an object'),
	('invalid_states_array', '$.States must be an object'),
	('invalid_succeed_next', '$.States.A.Next is not known: a Succeed state has no such field'),
	('invalid_succeed_result_path', '$.States.A.ResultPath is not known: a Succeed state has no such field'),
	('invalid_target_in_branch', '$.States.A.Next names a state that does not exist in the same machine'),
	('invalid_target_outside_catch', '$.States.A.Branches[0].States.B.Catch[0].Next names a state that does not exist in the same machine'),
	('invalid_task_heartbeat_both', '$.States.A.HeartbeatSecondsPath is one too many: there is HeartbeatSeconds'),
	('invalid_task_timeout_both', '$.States.A.TimeoutSecondsPath is one too many: there is TimeoutSeconds'),
	('invalid_task_timeout_fraction', '$.States.A.TimeoutSeconds must be a whole number between 1 and 99999999'),
	('invalid_task_timeout_path_wrong', '$.States.A.TimeoutSecondsPath is not a path: a path begins with $ at character 1'),
	('invalid_task_timeout_text', '$.States.A.TimeoutSeconds must be a whole number between 1 and 99999999'),
	('invalid_task_timeout_zero', '$.States.A.TimeoutSeconds must be a whole number between 1 and 99999999'),
	('invalid_timeout_negative', '$.TimeoutSeconds must be a whole number between 1 and 99999999'),
	('invalid_top_unknown', '$.Compensation is not known'),
	('invalid_type_missing', '$.States.A.Type is missing'),
	('invalid_type_number', '$.States.A.Type must be "Task", "Choice", "Wait", "Pass", "Succeed", "Fail", "Parallel" or "Map"'),
	('invalid_type_unknown', '$.States.A.Type must be "Task", "Choice", "Wait", "Pass", "Succeed", "Fail", "Parallel" or "Map"'),
	('invalid_unreachable', '$.States.B cannot be reached'),
	('invalid_version_number', '$.Version must be "1.0"'),
	('invalid_wait_negative', '$.States.A.Seconds must be a number between 0 and 99999999'),
	('invalid_wait_nothing', '$.States.A must have one of Seconds, SecondsPath, Timestamp and TimestampPath'),
	('invalid_wait_path_intrinsic', '$.States.A.SecondsPath is not a path: a path begins with $ at character 1'),
	('invalid_wait_path_wrong', '$.States.A.SecondsPath is not a path: a path begins with $ at character 1'),
	('invalid_wait_result_path', '$.States.A.ResultPath is not known: a Wait state has no such field'),
	('invalid_wait_text', '$.States.A.Seconds must be a number between 0 and 99999999'),
	('invalid_wait_timestamp_date', '$.States.A.Timestamp must be a time as in "2026-03-14T01:59:00Z"'),
	('invalid_wait_timestamp_impossible', '$.States.A.Timestamp must be a time as in "2026-03-14T01:59:00Z"'),
	('invalid_wait_timestamp_no_zone', '$.States.A.Timestamp must be a time as in "2026-03-14T01:59:00Z"'),
	('invalid_wait_two', '$.States.A must have one of Seconds, SecondsPath, Timestamp and TimestampPath'),
	('refused_assign_name', '$.States.A.Assign."a-b" is not the name of a variable: letters, digits and _, and no digit first'),
	('refused_branch_version', '$.States.A.Branches[0].Version is not known'),
	('refused_catch_all_not_last', '$.States.A.Catch[0].ErrorEquals must have States.ALL in the last place only: what follows is never reached'),
	('refused_catch_field_unknown', '$.States.A.Catch[0].OutputPath is not known'),
	('refused_catch_result_path_wrong', '$.States.A.Catch[0].ResultPath must be a path from $ of names and indexes only'),
	('refused_credentials', '$.States.A.Credentials is not supported: steps run as the owner of the saga'),
	('refused_fail_error_reserved', '$.States.A.Error is no error of the language: other names may not begin with "States."'),
	('refused_fail_path_wrong', '$.States.A.ErrorPath is not an expression: there is neither a path nor an intrinsic function at character 1'),
	('refused_heartbeat_not_less', '$.States.A.HeartbeatSeconds must be less than TimeoutSeconds, which is 10'),
	('refused_jsonata', '$.QueryLanguage must be "JSONPath": JSONata is not supported; $.States.A.Output belongs to JSONata, which is not supported'),
	('refused_jsonata_state', '$.States.A.Output belongs to JSONata, which is not supported; $.States.A.QueryLanguage must be "JSONPath": JSONata is not supported'),
	('refused_machine_timeout_zero', '$.TimeoutSeconds must be a whole number between 1 and 99999999'),
	('refused_map_batcher', '$.States.A.ItemBatcher belongs to distributed Map, which is not supported'),
	('refused_map_concurrency_fraction', '$.States.A.MaxConcurrency must be a whole number between 0 and 1000000'),
	('refused_map_distributed', '$.States.A.ItemProcessor.ProcessorConfig.Mode must be "INLINE": distributed Map is not supported'),
	('refused_map_label', '$.States.A.Label belongs to distributed Map, which is not supported'),
	('refused_map_reader', '$.States.A.ItemReader belongs to distributed Map, which is not supported'),
	('refused_map_tolerated', '$.States.A.ToleratedFailureCount belongs to distributed Map, which is not supported'),
	('refused_map_tolerated_percentage', '$.States.A.ToleratedFailurePercentagePath belongs to distributed Map, which is not supported'),
	('refused_map_writer', '$.States.A.ResultWriter belongs to distributed Map, which is not supported'),
	('refused_parallel_empty', '$.States.A.Branches must be an array that is not empty'),
	('refused_parameters_array', '$.States.A.Parameters must be an object'),
	('refused_parameters_path_wrong', '$.States.A.Parameters.a[0].b.$ is not valid: there is neither a path nor an intrinsic function at character 1'),
	('refused_processor_field_unknown', '$.States.A.ItemProcessor.Version is not known'),
	('refused_resource_append_name', '$.States.A.Resource names nothing after evstore:append: stream and type are parameters'),
	('refused_resource_event_token', '$.States.A.Resource may not end with .waitForTaskToken: evstore:event does not take one'),
	('refused_resource_kind', '$.States.A.Resource is of no kind that there is: sql, append, relay, activity, event, signal, saga'),
	('refused_resource_relay_name', '$.States.A.Resource must name a relay, as in evstore:relay:name'),
	('refused_resource_sql_name', '$.States.A.Resource must name a function with its schema, as in evstore:sql:shop.reserve'),
	('refused_resource_sql_sync', '$.States.A.Resource may not end with .sync: only evstore:saga does'),
	('refused_resource_urn_empty', '$.States.A.Resource must name something after the last colon'),
	('refused_result_path_context', '$.States.A.ResultPath must be a path from $ of names and indexes only'),
	('refused_retry_all_not_alone', '$.States.A.Retry[0].ErrorEquals must have States.ALL alone'),
	('refused_retry_all_not_last', '$.States.A.Retry[0].ErrorEquals must have States.ALL in the last place only: what follows is never reached'),
	('refused_retry_attempts_fraction', '$.States.A.Retry[0].MaxAttempts must be a whole number between 0 and 99999999'),
	('refused_retry_attempts_many', '$.States.A.Retry[0].MaxAttempts must be a whole number between 0 and 99999999'),
	('refused_retry_backoff_low', '$.States.A.Retry[0].BackoffRate must be a number between 1 and 1000'),
	('refused_retry_error_reserved', '$.States.A.Retry[0].ErrorEquals[0] is no error of the language: other names may not begin with "States."'),
	('refused_retry_errors_empty', '$.States.A.Retry[0].ErrorEquals must be an array that is not empty'),
	('refused_retry_field_unknown', '$.States.A.Retry[0].Attempts is not known'),
	('refused_retry_interval_fraction', '$.States.A.Retry[0].IntervalSeconds must be a whole number between 1 and 99999999'),
	('refused_retry_interval_zero', '$.States.A.Retry[0].IntervalSeconds must be a whole number between 1 and 99999999'),
	('refused_retry_jitter_unknown', '$.States.A.Retry[0].JitterStrategy must be "NONE" or "FULL"'),
	('refused_retry_max_delay_low', '$.States.A.Retry[0].MaxDelaySeconds must be greater than IntervalSeconds, which is 5'),
	('refused_rule_field_unknown', '$.States.A.Choices[0].Output belongs to JSONata, which is not supported'),
	('refused_rule_nested_next', '$.States.A.Choices[0].And[0].Next is not valid: a rule has no such member'),
	('refused_timeout_huge', '$.States.A.TimeoutSeconds must be a whole number between 1 and 99999999'),
	('refused_timeout_path_null', '$.States.A.TimeoutSecondsPath must be a string'),
	('refused_unreachable_circle', '$.States.B cannot be reached; $.States.C cannot be reached; $.States.B (warning) is in a circle of states without a Task or a Wait'),
	('refused_unreachable_self', '$.States.B cannot be reached'),
	('refused_version', '$.Version must be "1.0"'),
	('valid_choice_without_default', '$.States.A (warning) has no Default: the error States.NoChoiceMatched if no rule matches'),
	('valid_foreign_resource', '$.States.A.Resource (warning) is taken for the activity "Pack": the option resources can say what it is'),
	('valid_idle_loop', '$.States.A (warning) is in a circle of states without a Task or a Wait'),
	('valid_order', '$.States.CreateOrder.Resource (warning) is taken for the activity "CreateOrder": the option resources can say what it is; $.States.ProcessPayment.Resource (warning) is taken for the activity "ProcessPayment": the option resources can say what it is; $.States.ReserveInventory.Resource (warning) is taken for the activity "ReserveInventory": the option resources can say what it is; $.States.PublishOrderCompleted.Resource (warning) is taken for the activity "PublishEvent": the option resources can say what it is; $.States.ReleaseInventoryAndCancel.Resource (warning) is taken for the activity "ReleaseInventory": the option resources can say what it is');

SELECT cmp_ok(count(*), '>', 150::bigint, 'there are documents') FROM asl_file;
SELECT is_empty($$ SELECT name FROM asl_file WHERE name !~ '^(valid|invalid|refused)_' $$, 'each is of one of three kinds');
SELECT is_empty($$ SELECT name FROM wrong EXCEPT SELECT name FROM asl_file $$, 'all that is expected is of a document');
SELECT is(pg_temp.problems(f.document::json), coalesce(w.problems, ''), f.name)
FROM asl_file AS f LEFT JOIN wrong AS w USING (name) ORDER BY f.name;
SELECT is_empty($$ SELECT f.name FROM asl_file AS f WHERE starts_with(f.name, 'valid_')
		<> NOT EXISTS (SELECT FROM evstore.validate_saga(f.document::json) AS p WHERE p.severity = 'error') $$, 'errors are of those that are not valid');
SELECT is_empty($$ SELECT f.name FROM asl_file AS f
		WHERE (pg_temp.outcome(format('SELECT evstore._saga_envelope(%L)', f.document)) = 'ok') <> starts_with(f.name, 'valid_') $$, 'and only those compile');

-- ---- forms ----

SELECT is(pg_temp.problems(definition), problems, 'forms: ' || what)
FROM (VALUES
	('an envelope of nothing but asl', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}}'::json, ''),
	('no object', '[]', '$ must be an object'),
	('a string', '"x"', '$ must be an object'),
	('nothing that is known', '{"name": "order"}', '$ must have asl, or steps, or be a document of the Amazon States Language'),
	('an unknown member', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "name": "order"}', '$.name is not known'),
	('asl that is no object', '{"asl": 1}', '$.asl must be an object'),
	('asl and steps', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "steps": []}', '$.steps is not known'),
	('compensation beside a bare document', '{"StartAt": "A", "States": {"A": {"Type": "Succeed"}}, "compensation": {}}', '$.compensation is not known'),
	('paths with names that are not plain', '{"asl": {"StartAt": "A b", "States": {"A b": {"Type": "Task", "End": true}}}}', '$.asl.States."A b".Resource is missing'),
	('all problems at once', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:x", "Next": "C", "TimeoutSeconds": 0}, "B": {"Type": "Succeed"}}}, "compensation": {"states": {"Z": {}}}, "options": {"workers": 0}}', '$.asl.States.A.Next names a state that does not exist in the same machine; $.asl.States.A.Resource is of no kind that there is: sql, append, relay, activity, event, signal, saga; $.asl.States.A.TimeoutSeconds must be a whole number between 1 and 99999999; $.asl.States.B cannot be reached; $.compensation.states.Z must have a Resource, or Pivot; $.compensation.states.Z is the name of no state; $.options.workers must be a whole number between 1 and 16')
) AS c (what, definition, problems);

-- ---- members that are there twice ----

SELECT is(pg_temp.problems(definition), problems, 'members that are there twice: ' || what)
FROM (VALUES
	('a state', '{"StartAt": "A", "States": {"A": {"Type": "Fail"}, "A": {"Type": "Succeed"}}}'::json, '$.States.A is there more than once'),
	('a field, twice in different places', '{"StartAt": "A", "States": {"A": {"Type": "Pass", "Comment": "x", "Comment": "y", "Result": [1, {"a b": 1, "a b": 1, "a b": 2}], "End": true}}}', '$.States.A.Comment is there more than once; $.States.A.Result[1]."a b" is there more than once'),
	('the same name in two objects', '{"StartAt": "A", "States": {"A": {"Type": "Pass", "Result": [{"a": 1}, {"a": 1}], "End": true}}}', ''),
	('written in different ways', '{"StartAt": "A", "Start\u0041t": "A", "States": {"A": {"Type": "Succeed"}}}', '$.StartAt is there more than once')
) AS c (what, definition, problems);

-- ---- what jsonb cannot hold ----

SELECT is(pg_temp.problems(definition), problems, 'what jsonb cannot hold: ' || what)
FROM (VALUES
	('a character that text cannot have', '{"StartAt": "A", "States": {"A": {"Type": "Succeed", "Comment": "\u0000"}}}'::json, '$ cannot be stored: unsupported Unicode escape sequence'),
	('the same in a name', '{"StartAt": "A", "States": {"A": {"Type": "Succeed", "\u0000": 1}}}', '$ cannot be stored: unsupported Unicode escape sequence'),
	('a number that is too large', '{"StartAt": "A", "States": {"A": {"Type": "Pass", "Result": 1e999999, "End": true}}}', '$ cannot be stored: value overflows numeric format')
) AS c (what, definition, problems);

-- ---- compensation ----

SELECT is(pg_temp.problems(definition), problems, 'compensation: ' || what)
FROM (VALUES
	('none', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {}}'::json, ''),
	('the least', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Resource": "evstore:sql:shop.release"}}}}', ''),
	('all fields', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Resource": "evstore:relay:refunds", "Parameters": {"id.$": "$.output.id"}, "When": ["succeeded"], "KnownNoEffect": ["Card.Declined", "States.Timeout"], "Retry": [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 5}], "TimeoutSeconds": 30, "Comment": "give it back"}}}}', ''),
	('both outcomes', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Resource": "evstore:append", "When": ["unknown", "succeeded"]}}}}', ''),
	('a pivot', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Pivot": true}}}}', ''),
	('automatic', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"automatic": false, "states": {}, "Comment": "only when it is asked for"}}', ''),
	('no object', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": []}', '$.compensation must be an object'),
	('an unknown member', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"order": "reverse"}}', '$.compensation.order is not known'),
	('automatic that is no boolean', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"automatic": "no"}}', '$.compensation.automatic must be true or false'),
	('states that are no object', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": []}}', '$.compensation.states must be an object'),
	('a state that does not exist', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"C": {"Resource": "evstore:append"}}}}', '$.compensation.states.C is the name of no state'),
	('a state that is no Task', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"B": {"Resource": "evstore:append"}}}}', '$.compensation.states.B must be the name of a Task: other states do nothing that could be undone'),
	('a compensator that is no object', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": "evstore:append"}}}', '$.compensation.states.A must be an object'),
	('neither Resource nor Pivot', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {}}}}', '$.compensation.states.A must have a Resource, or Pivot'),
	('Pivot that is false', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Pivot": false}}}}', '$.compensation.states.A must have a Resource, or Pivot'),
	('Pivot that is no boolean', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Pivot": 1}}}}', '$.compensation.states.A.Pivot must be true or false; $.compensation.states.A must have a Resource, or Pivot'),
	('a pivot with a Resource', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Pivot": true, "Resource": "evstore:append"}}}}', '$.compensation.states.A.Resource is one too many: nothing is undone once a pivot has succeeded'),
	('an unknown field', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Resource": "evstore:append", "Next": "B"}}}}', '$.compensation.states.A.Next is not known'),
	('waiting for an event', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Resource": "evstore:event:Packed"}}}}', '$.compensation.states.A.Resource must be of the kind sql, append, relay or activity'),
	('waiting for a signal', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Resource": "evstore:signal:go"}}}}', '$.compensation.states.A.Resource must be of the kind sql, append, relay or activity'),
	('another saga', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Resource": "evstore:saga:other.sync"}}}}', '$.compensation.states.A.Resource must be of the kind sql, append, relay or activity'),
	('a Resource that is none', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Resource": "evstore:sql:"}}}}', '$.compensation.states.A.Resource must name a function with its schema, as in evstore:sql:shop.reserve'),
	('When that is empty', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Resource": "evstore:append", "When": []}}}}', '$.compensation.states.A.When must be an array that is not empty'),
	('When that is text', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Resource": "evstore:append", "When": "unknown"}}}}', '$.compensation.states.A.When must be an array that is not empty'),
	('another outcome', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Resource": "evstore:append", "When": ["no_effect"]}}}}', '$.compensation.states.A.When[0] must be "succeeded" or "unknown"'),
	('KnownNoEffect that is text', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Resource": "evstore:append", "KnownNoEffect": "X"}}}}', '$.compensation.states.A.KnownNoEffect must be an array that is not empty'),
	('KnownNoEffect of an error that there is not', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Resource": "evstore:append", "KnownNoEffect": ["States.Never"]}}}}', '$.compensation.states.A.KnownNoEffect[0] is no error of the language: other names may not begin with "States."'),
	('Parameters that are no object', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Resource": "evstore:append", "Parameters": "$"}}}}', '$.compensation.states.A.Parameters must be an object'),
	('Parameters with a path that is none', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Resource": "evstore:append", "Parameters": {"x.$": "output"}}}}}', '$.compensation.states.A.Parameters.x.$ is not valid: there is neither a path nor an intrinsic function at character 1'),
	('Retry that is wrong', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Resource": "evstore:append", "Retry": [{}]}}}}', '$.compensation.states.A.Retry[0].ErrorEquals is missing'),
	('TimeoutSeconds that is too little', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Resource": "evstore:append", "TimeoutSeconds": 0}}}}', '$.compensation.states.A.TimeoutSeconds must be a whole number between 1 and 99999999'),
	('a foreign Resource', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "compensation": {"states": {"A": {"Resource": "arn:aws:lambda:::Undo"}}}}', '$.compensation.states.A.Resource (warning) is taken for the activity "Undo": the option resources can say what it is')
) AS c (what, definition, problems);

-- ---- of states within others ----

SELECT is(pg_temp.problems(definition), problems, 'of states within others: ' || what)
FROM (VALUES
	('a Task in a branch', '{"asl": {"StartAt": "P", "States": {"P": {"Type": "Parallel", "End": true, "Branches": [{"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:append", "End": true}}}]}}}, "compensation": {"states": {"A": {"Resource": "evstore:append"}}}}'::json, ''),
	('the Parallel itself', '{"asl": {"StartAt": "P", "States": {"P": {"Type": "Parallel", "End": true, "Branches": [{"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:append", "End": true}}}]}}}, "compensation": {"states": {"P": {"Pivot": true}}}}', '$.compensation.states.P must be the name of a Task: other states do nothing that could be undone')
) AS c (what, definition, problems);

-- ---- options ----

SELECT is(pg_temp.problems(definition), problems, 'options: ' || what)
FROM (VALUES
	('none', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {}}'::json, ''),
	('all of them', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"business_key": "$.order_id", "start_on": [{"filter": {"types": ["OrderPlaced"], "categories": ["order"]}, "input": "$.data", "business_key": "$.data.order_id"}, {"type": "OrderImported"}], "correlate": {"shipment.packed": "$.data.order_id", "Paid": "$.metadata[''order id'']"}, "deadline": "7 days", "on_deadline": "fail", "priority": 0, "max_transitions": 100, "max_data": 1048576, "retention": "90 days", "workers": 16, "durable": false, "statement_timeout": "30 s", "resources": {}}}', ''),
	('on_deadline of compensate', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"deadline": 0.5, "on_deadline": "compensate"}}', ''),
	('retention for ever', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"retention": null}}', ''),
	('retention of nothing', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"retention": 0, "statement_timeout": 0}}', ''),
	('an interval in ISO 8601', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"deadline": "P1DT2H"}}', ''),
	('no object', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": []}', '$.options must be an object'),
	('null', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": null}', '$.options must be an object'),
	('an unknown one', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"owner": "me"}}', '$.options.owner is not known'),
	('business_key that is no path', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"business_key": "order_id"}}', '$.options.business_key is not a path: a path begins with $ at character 1'),
	('business_key of many', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"business_key": "$..order_id"}}', '$.options.business_key must be a path that names one value'),
	('start_on that is no array', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"start_on": {"type": "OrderPlaced"}}}', '$.options.start_on must be an array'),
	('start_on without events', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"start_on": []}}', ''),
	('a trigger that is no object', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"start_on": ["OrderPlaced"]}}', '$.options.start_on[0] must be an object'),
	('a trigger without a filter', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"start_on": [{"input": "$.data"}]}}', '$.options.start_on[0] must have a filter or a type'),
	('a trigger with both', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"start_on": [{"type": "X", "filter": {}}]}}', '$.options.start_on[0].filter is one too many: there is type'),
	('a type that is no string', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"start_on": [{"type": ["X"]}]}}', '$.options.start_on[0].type must be a string'),
	('a filter that is no object', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"start_on": [{"filter": "X"}]}}', '$.options.start_on[0].filter must be an object'),
	('a filter that is none', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"start_on": [{"type": "X"}, {"filter": {"type": "X"}}]}}', '$.options.start_on[1].filter is not a filter: filter member "type" is not known'),
	('a filter with something wrong in it', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"start_on": [{"filter": {"types": "X"}}]}}', '$.options.start_on[0].filter is not a filter: filter member "types" must be an array of strings'),
	('a trigger with an unknown member', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"start_on": [{"type": "X", "key": "$.data.id"}]}}', '$.options.start_on[0].key is not known'),
	('an input that is no path', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"start_on": [{"type": "X", "input": "data"}]}}', '$.options.start_on[0].input is not a path: a path begins with $ at character 1'),
	('a business_key of an event that is no path', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"start_on": [{"type": "X", "business_key": 1}]}}', '$.options.start_on[0].business_key must be a string'),
	('correlate that is no object', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"correlate": ["X"]}}', '$.options.correlate must be an object'),
	('correlate with a path that is none', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"correlate": {"X": "id"}}}', '$.options.correlate.X is not a path: a path begins with $ at character 1'),
	('correlate with a path to many', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"correlate": {"X": "$.data[*]"}}}', '$.options.correlate.X must be a path that names one value'),
	('correlate of a type without a name', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"correlate": {"": "$.data.id"}}}', '$.options.correlate."" must be the name of a type of events'),
	('deadline of nothing', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"deadline": 0}}', '$.options.deadline must be a number of seconds between 0.001 and 99999999, or an interval as text'),
	('deadline that is negative', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"deadline": "-1 hour"}}', '$.options.deadline must be a number of seconds between 0.001 and 99999999, or an interval as text'),
	('deadline that is no interval', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"deadline": "soon"}}', '$.options.deadline must be a number of seconds between 0.001 and 99999999, or an interval as text'),
	('deadline for ever', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"deadline": "infinity"}}', '$.options.deadline must be a number of seconds between 0.001 and 99999999, or an interval as text'),
	('deadline of too long', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"deadline": "4 years"}}', '$.options.deadline must be a number of seconds between 0.001 and 99999999, or an interval as text'),
	('deadline that is an object', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"deadline": {}}}', '$.options.deadline must be a number of seconds between 0.001 and 99999999, or an interval as text'),
	('on_deadline of something else', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"on_deadline": "cancel"}}', '$.options.on_deadline must be "compensate" or "fail"'),
	('priority that is too large', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"priority": 10}}', '$.options.priority must be a whole number between 0 and 9'),
	('priority that is negative', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"priority": -1}}', '$.options.priority must be a whole number between 0 and 9'),
	('priority with a fraction', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"priority": 1.5}}', '$.options.priority must be a whole number between 0 and 9'),
	('priority as text', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"priority": "1"}}', '$.options.priority must be a whole number between 0 and 9'),
	('max_transitions of none', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"max_transitions": 0}}', '$.options.max_transitions must be a whole number between 1 and 10000000'),
	('max_data of too little', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"max_data": 100}}', '$.options.max_data must be a whole number between 1024 and 16777216'),
	('max_data of too much', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"max_data": 16777217}}', '$.options.max_data must be a whole number between 1024 and 16777216'),
	('retention that is negative', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"retention": -1}}', '$.options.retention must be a number of seconds between 0 and 3155760000, or an interval as text'),
	('workers of none', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"workers": 0}}', '$.options.workers must be a whole number between 1 and 16'),
	('too many workers', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"workers": 17}}', '$.options.workers must be a whole number between 1 and 16'),
	('durable that is no boolean', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"durable": "on"}}', '$.options.durable must be true or false'),
	('statement_timeout that is negative', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"statement_timeout": -1}}', '$.options.statement_timeout must be a number of seconds between 0 and 86400, or an interval as text'),
	('statement_timeout of more than a day', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "Next": "B"}, "B": {"Type": "Pass", "End": true}}}, "options": {"statement_timeout": 86401}}', '$.options.statement_timeout must be a number of seconds between 0 and 86400, or an interval as text')
) AS c (what, definition, problems);

-- ---- resources ----

SELECT is(pg_temp.problems(definition), problems, 'resources: ' || what)
FROM (VALUES
	('sql with its argument', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:sql:shop.reserve(jsonb)", "End": true}}}}'::json, ''),
	('sql with a quoted name', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:sql:\"My shop\".reserve", "End": true}}}}', ''),
	('sql that waits', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:sql:shop.ask.waitForTaskToken", "End": true}}}}', ''),
	('append', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:append", "End": true}}}}', ''),
	('append that waits', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:append.waitForTaskToken", "End": true}}}}', ''),
	('relay', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:relay:payments", "End": true}}}}', ''),
	('relay that waits', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:relay:payments.waitForTaskToken", "End": true}}}}', ''),
	('activity with colons', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:eu:pack", "End": true}}}}', ''),
	('event', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:event:shipment.packed", "End": true}}}}', ''),
	('signal', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:signal:approved", "End": true}}}}', ''),
	('saga', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:saga:refund", "End": true}}}}', ''),
	('saga that is waited for', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:saga:refund.sync", "End": true}}}}', ''),
	('no kind', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:", "End": true}}}}', '$.asl.States.A.Resource is of no kind that there is: sql, append, relay, activity, event, signal, saga'),
	('a kind in capitals', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:SQL:shop.reserve", "End": true}}}}', '$.asl.States.A.Resource is of no kind that there is: sql, append, relay, activity, event, signal, saga'),
	('sql without a name', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:sql", "End": true}}}}', '$.asl.States.A.Resource must name a function with its schema, as in evstore:sql:shop.reserve'),
	('event without a type', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:event", "End": true}}}}', '$.asl.States.A.Resource must name a type of events, as in evstore:event:name'),
	('signal without a name', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:signal:", "End": true}}}}', '$.asl.States.A.Resource must name a signal, as in evstore:signal:name'),
	('saga without a name', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:saga:.sync", "End": true}}}}', '$.asl.States.A.Resource must name a saga, as in evstore:saga:name'),
	('activity with .waitForTaskToken', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack.waitForTaskToken", "End": true}}}}', '$.asl.States.A.Resource may not end with .waitForTaskToken: evstore:activity does not take one'),
	('saga with .waitForTaskToken', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:saga:refund.waitForTaskToken", "End": true}}}}', '$.asl.States.A.Resource may not end with .waitForTaskToken: evstore:saga does not take one'),
	('relay with .sync', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:relay:payments.sync", "End": true}}}}', '$.asl.States.A.Resource may not end with .sync: only evstore:saga does'),
	('nothing', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "", "End": true}}}}', '$.asl.States.A.Resource must name something after the last colon'),
	('a word', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "pack", "End": true}}}}', '$.asl.States.A.Resource (warning) is taken for the activity "pack": the option resources can say what it is'),
	('of another world', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken", "End": true}}}}', '$.asl.States.A.Resource (warning) is taken for the activity "sendMessage": the option resources can say what it is'),
	('its .sync:2', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "arn:aws:states:::states:startExecution.sync:2", "End": true}}}}', '$.asl.States.A.Resource (warning) is taken for the activity "startExecution": the option resources can say what it is'),
	('mapped', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "arn:aws:lambda:::Pack", "End": true}}}, "options": {"resources": {"arn:aws:lambda:::Pack": "evstore:sql:shop.pack"}}}', ''),
	('mapped, one of ours', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:activity:pack", "End": true}}}, "options": {"resources": {"evstore:activity:pack": "evstore:sql:shop.pack"}}}', ''),
	('mapped to nothing known', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "arn:aws:lambda:::Pack", "End": true}}}, "options": {"resources": {"arn:aws:lambda:::Pack": "evstore:pack"}}}', '$.options.resources."arn:aws:lambda:::Pack" is of no kind that there is: sql, append, relay, activity, event, signal, saga'),
	('mapped to another world', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "arn:aws:lambda:::Pack", "End": true}}}, "options": {"resources": {"arn:aws:lambda:::Pack": "arn:aws:lambda:::Pack2"}}}', '$.options.resources."arn:aws:lambda:::Pack" must begin with evstore:'),
	('mapped to no string', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "arn:aws:lambda:::Pack", "End": true}}}, "options": {"resources": {"arn:aws:lambda:::Pack": 1}}}', '$.asl.States.A.Resource (warning) is taken for the activity "Pack": the option resources can say what it is; $.options.resources."arn:aws:lambda:::Pack" must be a string'),
	('a mapping of nothing', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:append", "End": true}}}, "options": {"resources": {"arn:aws:lambda:::Pack": "evstore:append"}}}', '$.options.resources."arn:aws:lambda:::Pack" (warning) is the resource of no state'),
	('mappings that are no object', '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:append", "End": true}}}, "options": {"resources": []}}', '$.options.resources must be an object')
) AS c (what, definition, problems);

-- ---- steps ----

SELECT is(pg_temp.problems(definition), problems, 'steps: ' || what)
FROM (VALUES
	('the least', '{"steps": [{"name": "Reserve", "resource": "evstore:sql:shop.reserve"}]}'::json, ''),
	('all members', '{"comment": "an order", "steps": [{"name": "Reserve", "resource": "evstore:sql:shop.reserve", "parameters": {"id.$": "$.id"}, "compensate": "evstore:sql:shop.release", "retry": [{"ErrorEquals": ["States.ALL"]}], "timeout": 60, "heartbeat": 10, "result_path": "$.stock", "comment": "it"}, {"name": "Ship", "resource": "evstore:activity:ship", "pivot": true, "result_path": null}], "options": {"workers": 2}}', ''),
	('no array', '{"steps": {}}', '$.steps must be an array that is not empty'),
	('none', '{"steps": []}', '$.steps must be an array that is not empty'),
	('a step that is no object', '{"steps": ["Reserve"]}', '$.steps[0] must be an object'),
	('a step without a name', '{"steps": [{"resource": "evstore:append"}]}', '$.steps[0].name is missing'),
	('a step with a name that is no string', '{"steps": [{"name": 1, "resource": "evstore:append"}]}', '$.steps[0].name must be a string'),
	('a step with an empty name', '{"steps": [{"name": "", "resource": "evstore:append"}]}', '$.steps[0].name must have 1 to 80 characters'),
	('a step with a long name', '{"steps": [{"name": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "resource": "evstore:append"}]}', '$.steps[0].name must have 1 to 80 characters'),
	('two of the same name', '{"steps": [{"name": "A", "resource": "evstore:append"}, {"name": "A", "resource": "evstore:append"}]}', '$.steps[1].name is the name of an earlier step, too'),
	('a step without a resource', '{"steps": [{"name": "A"}]}', '$.steps[0].resource is missing'),
	('an unknown member', '{"steps": [{"name": "A", "resource": "evstore:append", "Next": "B"}]}', '$.steps[0].Next is not known'),
	('an unknown member beside them', '{"steps": [{"name": "A", "resource": "evstore:append"}], "compensation": {}}', '$.compensation is not known'),
	('a resource that is wrong', '{"steps": [{"name": "A", "resource": "evstore:append"}, {"name": "B", "resource": "evstore:none"}]}', '$.steps[1].resource is of no kind that there is: sql, append, relay, activity, event, signal, saga'),
	('a timeout that is wrong', '{"steps": [{"name": "A", "resource": "evstore:append", "timeout": "1 minute"}]}', '$.steps[0].timeout must be a whole number between 1 and 99999999'),
	('a retry that is wrong', '{"steps": [{"name": "A", "resource": "evstore:append", "retry": [{"ErrorEquals": ["X"], "MaxAttempts": "3"}]}]}', '$.steps[0].retry[0].MaxAttempts must be a whole number between 0 and 99999999'),
	('parameters that are wrong', '{"steps": [{"name": "A", "resource": "evstore:append", "parameters": {"a.$": "x"}}]}', '$.steps[0].parameters.a.$ is not valid: there is neither a path nor an intrinsic function at character 1'),
	('a result_path that is wrong', '{"steps": [{"name": "A", "resource": "evstore:append", "result_path": "x"}]}', '$.steps[0].result_path is not a path: a path begins with $ at character 1'),
	('a name that no path has plainly', '{"steps": [{"name": "it''s \"A\" \\", "resource": "evstore:append"}]}', ''),
	('compensate that is a number', '{"steps": [{"name": "A", "resource": "evstore:append", "compensate": 1}]}', '$.steps[0].compensate must be a resource, or an object'),
	('compensate that is wrong', '{"steps": [{"name": "A", "resource": "evstore:append", "compensate": "evstore:event:X"}]}', '$.steps[0].compensate must be of the kind sql, append, relay or activity'),
	('compensate with something wrong in it', '{"steps": [{"name": "A", "resource": "evstore:append", "compensate": {"Resource": "evstore:append", "When": ["never"]}}]}', '$.steps[0].compensate.When[0] must be "succeeded" or "unknown"'),
	('a pivot that is no boolean', '{"steps": [{"name": "A", "resource": "evstore:append", "pivot": "yes"}]}', '$.steps[0].pivot must be true or false'),
	('a pivot that is false', '{"steps": [{"name": "A", "resource": "evstore:append", "pivot": false}]}', ''),
	('a pivot that is compensated', '{"steps": [{"name": "A", "resource": "evstore:append", "pivot": true, "compensate": "evstore:append"}]}', '$.steps[0].compensate is one too many: nothing is undone once a pivot has succeeded'),
	('options that are wrong', '{"steps": [{"name": "A", "resource": "evstore:append"}], "options": {"workers": 0}}', '$.options.workers must be a whole number between 1 and 16')
) AS c (what, definition, problems);

-- ---- the three forms ----

SELECT unnest(ARRAY[
	is(evstore._saga_envelope(steps), evstore._saga_envelope(envelope), 'steps are the envelope that they stand for'),
	is(evstore._saga_envelope(envelope), envelope, 'which is as it was')])
FROM (VALUES ($${
	"comment": "an order",
	"steps": [
		{"name": "Reserve", "resource": "evstore:sql:shop.reserve", "compensate": "evstore:sql:shop.release", "timeout": 60},
		{"name": "Charge card", "resource": "evstore:activity:charge", "parameters": {"amount.$": "$.total"}, "heartbeat": 5, "timeout": 30,
			"retry": [{"ErrorEquals": ["Card.Busy"]}], "compensate": {"Resource": "evstore:activity:refund", "When": ["unknown"]}},
		{"name": "Ship", "resource": "evstore:append", "result_path": null, "pivot": true, "comment": "no way back"},
		{"name": "Thank", "resource": "evstore:relay:mail", "result_path": "$.mail.sent"}],
	"options": {"business_key": "$.id"}}$$::jsonb, $${
	"asl": {
		"Comment": "an order",
		"StartAt": "Reserve",
		"States": {
			"Reserve": {"Type": "Task", "Resource": "evstore:sql:shop.reserve", "ResultPath": "$.Reserve", "TimeoutSeconds": 60, "Next": "Charge card"},
			"Charge card": {"Type": "Task", "Resource": "evstore:activity:charge", "Parameters": {"amount.$": "$.total"}, "HeartbeatSeconds": 5, "TimeoutSeconds": 30,
				"Retry": [{"ErrorEquals": ["Card.Busy"]}], "ResultPath": "$['Charge card']", "Next": "Ship"},
			"Ship": {"Type": "Task", "Resource": "evstore:append", "ResultPath": null, "Comment": "no way back", "Next": "Thank"},
			"Thank": {"Type": "Task", "Resource": "evstore:relay:mail", "ResultPath": "$.mail.sent", "End": true}}},
	"compensation": {"states": {
		"Reserve": {"Resource": "evstore:sql:shop.release"},
		"Charge card": {"Resource": "evstore:activity:refund", "When": ["unknown"]},
		"Ship": {"Pivot": true}}},
	"options": {"business_key": "$.id"}}$$::jsonb)) AS c (steps, envelope);
SELECT unnest(ARRAY[
	is(evstore._saga_envelope(asl), jsonb_build_object('asl', asl, 'compensation', '{}'::jsonb, 'options', '{}'::jsonb), 'a document of the language in an envelope'),
	is(evstore._saga_envelope(jsonb_build_object('asl', asl)), evstore._saga_envelope(asl), 'an envelope gets what it has not'),
	is(evstore._saga_envelope('{"steps": [{"name": "A", "resource": "evstore:append"}]}'), evstore._saga_envelope(asl), 'the same saga, the same envelope')])
FROM (VALUES ('{"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "evstore:append", "ResultPath": "$.A", "End": true}}}'::jsonb)) AS c (asl);
SELECT is(evstore._saga_envelope($$ {"steps": [{"name": "it's \"A\" \\", "resource": "evstore:append"}]} $$) #>> '{asl,States,"it''s \"A\" \\",ResultPath}', $$$['it\'s "A" \\']$$,
	'names that need quotes have them in paths');

-- ---- errors ----

CREATE FUNCTION pg_temp.detail(query text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE query;
	RETURN NULL;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN detail;
END $$;
\set wrong '{"asl": {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "pack", "Next": "C"}}}, "options": {"workers": 0}}'
SELECT is(pg_temp.outcome(format('SELECT evstore._saga_envelope(%L)', :'wrong')),
	'VS010 invalid definition: $.asl.States.A.Next names a state that does not exist in the same machine', 'VS010 is about the first error');
SELECT is(pg_temp.detail(format('SELECT evstore._saga_envelope(%L)', :'wrong')), $${"path": "$.asl.States.A.Next", "problems": [
	{"path": "$.asl.States.A.Next", "severity": "error", "message": "names a state that does not exist in the same machine"},
	{"path": "$.asl.States.A.Resource", "severity": "warning", "message": "is taken for the activity \"pack\": the option resources can say what it is"},
	{"path": "$.options.workers", "severity": "error", "message": "must be a whole number between 1 and 16"}]}$$, 'and its DETAIL has all');
SELECT is(pg_temp.outcome('SELECT * FROM evstore.validate_saga(NULL)'), '22004 argument "definition" must not be null', 'nothing to validate');

-- ---- diagrams ----

\set order `cat ../data/asl/valid_order.json`
\set large '{"asl": {"StartAt": "How: \\"much\\"?", "States": {"How: \\"much\\"?": {"Type": "Choice", "Default": "Reserve", "Choices": [{"Variable": "$.total", "NumericGreaterThan": 100, "Next": "Fan"}, {"Not": {"Or": [{"Variable": "$.a", "IsPresent": true}, {"And": [{"Variable": "$.b", "StringEquals": "x; y"}]}]}, "Next": "Wait"}, {"Comment": "a gift", "Variable": "$.gift", "BooleanEquals": true, "Next": "Each"}]}, "Reserve": {"Type": "Task", "Resource": "evstore:sql:shop.reserve", "Next": "Charge", "Catch": [{"ErrorEquals": ["States.Timeout", "Stock.Gone"], "Next": "Failed"}]}, "Charge": {"Type": "Task", "Resource": "evstore:activity:charge", "Next": "Fan"}, "Wait": {"Type": "Wait", "Seconds": 5, "Next": "Reserve"}, "Fan": {"Type": "Parallel", "Next": "Each", "Branches": [{"StartAt": "B1", "States": {"B1": {"Type": "Task", "Resource": "evstore:append", "Next": "B2"}, "B2": {"Type": "Succeed"}}}, {"StartAt": "C1", "States": {"C1": {"Type": "Pass", "End": true}}}]}, "Each": {"Type": "Map", "End": true, "ItemProcessor": {"StartAt": "D1", "States": {"D1": {"Type": "Task", "Resource": "evstore:relay:out", "End": true}}}, "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Failed"}]}, "Failed": {"Type": "Fail", "Error": "Order.Failed"}}}, "compensation": {"states": {"Reserve": {"Resource": "evstore:sql:shop.release"}, "Charge": {"Pivot": true}, "B1": {"Resource": "evstore:activity:undo"}}}}'
SELECT is(evstore._saga_graph(:'order', 'order', 'mermaid'), $$---
title: "order"
---
stateDiagram-v2
	classDef compensator stroke-dasharray: 5 5
	state "CreateOrder" as s1
	state "ReserveInventory" as s2
	state "ProcessPayment" as s3
	state "CancelOrder" as s4
	state "PublishOrderCompleted" as s5
	state "ReleaseInventoryAndCancel" as s6
	[*] --> s1
	s1 --> s2
	s2 --> s3
	s2 --> s4: catch InsufficientInventory
	s3 --> s5
	s3 --> s6: catch PaymentFailed
	s4 --> [*]: fails
	s5 --> [*]
	s6 --> s4
$$, 'Mermaid: a document');
SELECT is(evstore._saga_graph(:'order', 'order', 'dot'), $$digraph "order" {
	node [shape=box, style=rounded]
	begin [shape=point]
	end1 [label="", shape=doublecircle, width=0.15]
	s1 [label="CreateOrder"]
	s2 [label="ReserveInventory"]
	s3 [label="ProcessPayment"]
	s4 [label="CancelOrder", style="rounded,bold"]
	s5 [label="PublishOrderCompleted"]
	s6 [label="ReleaseInventoryAndCancel"]
	begin -> s1
	s1 -> s2
	s2 -> s3
	s2 -> s4 [label="catch InsufficientInventory"]
	s3 -> s5
	s3 -> s6 [label="catch PaymentFailed"]
	s4 -> end1 [label="fails"]
	s5 -> end1
	s6 -> s4
}
$$, 'DOT: a document');
SELECT is(evstore._saga_graph(:'large', E'a "large"\none', 'mermaid'), $$---
title: "a \"large\"\none"
---
stateDiagram-v2
	classDef compensator stroke-dasharray: 5 5
	state "How: #34;much#34;?" as s1
	state "Fan" as s2
	state s2 {
		state "B1" as s8
		state "B2" as s9
		[*] --> s8
		s8 --> s9
		state "evstore:activity:undo" as s10
		class s10 compensator
		s8 --> s10: compensated by
		s9 --> [*]
		--
		state "C1" as s11
		[*] --> s11
		s11 --> [*]
	}
	state "Wait" as s3
	state "Each (each item)" as s4
	state s4 {
		state "D1" as s12
		[*] --> s12
		s12 --> [*]
	}
	state "Reserve" as s5
	state "Failed" as s6
	state "Charge (pivot)" as s7
	[*] --> s1
	s1 --> s2: $.total NumericGreaterThan 100
	s1 --> s3: not ($.a IsPresent true or ($.b StringEquals #34;x#59; y#34;))
	s1 --> s4: a gift
	s1 --> s5: default
	s2 --> s4
	s3 --> s5
	s4 --> [*]
	s4 --> s6: catch States.ALL
	s5 --> s7
	s5 --> s6: catch States.Timeout, Stock.Gone
	state "evstore:sql:shop.release" as s13
	class s13 compensator
	s5 --> s13: compensated by
	s6 --> [*]: fails#58; Order.Failed
	s7 --> s2
$$, 'Mermaid: states within states, compensators, odd names');
SELECT is(evstore._saga_graph(:'large', E'a "large"\none', 'dot'), $$digraph "a \"large\" one" {
	node [shape=box, style=rounded]
	begin [shape=point]
	end1 [label="", shape=doublecircle, width=0.15]
	s1 [label="How: \"much\"?", shape=diamond]
	subgraph cluster_2 {
		s2 [label="Fan"]
		end2 [label="", shape=doublecircle, width=0.15]
		s8 [label="B1"]
		s9 [label="B2"]
		s2 -> s8
		s8 -> s9
		s10 [label="evstore:activity:undo", style="rounded,dashed"]
		s8 -> s10 [label="compensated by", style=dashed]
		s9 -> end2
		end3 [label="", shape=doublecircle, width=0.15]
		s11 [label="C1"]
		s2 -> s11
		s11 -> end3
	}
	s3 [label="Wait", style="rounded,dotted"]
	subgraph cluster_4 {
		s4 [label="Each (each item)"]
		end4 [label="", shape=doublecircle, width=0.15]
		s12 [label="D1"]
		s4 -> s12
		s12 -> end4
	}
	s5 [label="Reserve"]
	s6 [label="Failed", style="rounded,bold"]
	s7 [label="Charge (pivot)"]
	begin -> s1
	s1 -> s2 [label="$.total NumericGreaterThan 100"]
	s1 -> s3 [label="not ($.a IsPresent true or ($.b StringEquals \"x; y\"))"]
	s1 -> s4 [label="a gift"]
	s1 -> s5 [label="default"]
	s2 -> s4
	s3 -> s5
	s4 -> end1
	s4 -> s6 [label="catch States.ALL"]
	s5 -> s7
	s5 -> s6 [label="catch States.Timeout, Stock.Gone"]
	s13 [label="evstore:sql:shop.release", style="rounded,dashed"]
	s5 -> s13 [label="compensated by", style=dashed]
	s6 -> end1 [label="fails: Order.Failed"]
	s7 -> s2
}
$$, 'DOT: states within states, compensators, odd names');
SELECT is(pg_temp.outcome($$ SELECT evstore._saga_graph('{"asl": 1}', 'x', 'dot') $$), 'VS010 invalid definition: $.asl must be an object', 'nothing is drawn that is not valid');

INSERT INTO evstore.saga (name, owner, version, created_at) VALUES ('order', current_user, 2, now());
INSERT INTO evstore.saga_version SELECT id, 1, '{}', now() FROM evstore.saga WHERE name = 'order';
INSERT INTO evstore.saga_version SELECT id, 2, evstore._saga_envelope(:'order'), now() FROM evstore.saga WHERE name = 'order';
SELECT is(evstore.saga_graph('order'), evstore._saga_graph(:'order', 'order', 'mermaid'), 'the newest version of a saga');
SELECT is(evstore.saga_graph('order', format => 'dot'), evstore._saga_graph(:'order', 'order', 'dot'), 'in DOT');
SELECT is(pg_temp.outcome($$ SELECT evstore.saga_graph('order', 'svg') $$), '22023 argument "format" must not be "svg"', 'in what there is not');
SELECT is(pg_temp.outcome($$ SELECT evstore.saga_graph('none') $$), 'VS009 saga "none" does not exist', 'of none');
SELECT is(pg_temp.outcome($$ SELECT evstore.saga_graph(NULL) $$), '22004 argument "name" must not be null', 'of null');
SELECT is(pg_temp.outcome($$ SELECT evstore.saga_graph('order', NULL) $$), '22004 argument "format" must not be null', 'in null');

-- ---- rights ----

CREATE ROLE saga_reader;
SELECT evstore.grant_access('saga_reader', 'reader');
SELECT is(pg_temp.outcome($$ SELECT * FROM evstore.validate_saga('{"asl": 1, "options": {"start_on": [{"filter": {"x": 1}}]}}') $$, 'saga_reader'), 'ok', 'who may read may validate');
SELECT alike(pg_temp.outcome($$ SELECT evstore.saga_graph('order') $$, 'saga_reader'), '42501 %', 'but not look at what others have defined');

-- ---- many states ----

SELECT is(pg_temp.problems(json_build_object('asl', json_build_object('StartAt', 'S1', 'States', s), 'compensation', json_build_object('states', c))), '', 'two thousand states with compensators')
FROM (SELECT json_object_agg('S' || i, json_build_object('Type', 'Task', 'Resource', 'evstore:append', 'Next', 'S' || i + 1))::jsonb
			|| '{"S2001": {"Type": "Succeed"}}' AS s,
		json_object_agg('S' || i, '{"Resource": "evstore:append"}'::json) AS c
	FROM generate_series(1, 2000) AS i) AS many;
SELECT is(pg_temp.problems(json_build_object('StartAt', 'S1', 'States', s)), '$.States.S1 (warning) is in a circle of states without a Task or a Wait', 'a circle of five thousand')
FROM (SELECT json_object_agg('S' || i, json_build_object('Type', 'Choice', 'Choices', json_build_array(
				json_build_object('Variable', '$.x', 'IsPresent', true, 'Next', 'S' || i % 5000 + 1)), 'Default', 'End'))::jsonb || '{"End": {"Type": "Succeed"}}' AS s
	FROM generate_series(1, 5000) AS i) AS many;
SELECT is(pg_temp.problems((repeat('{"StartAt": "A", "States": {"A": {"Type": "Parallel", "Branches": [', 1)
	|| string_agg('{"StartAt": "B' || i || '", "States": {"B' || i || '": {"Type": "Map", "End": true, "Iterator": ', '' ORDER BY i)
	|| '{"StartAt": "C", "States": {"C": {"Type": "Succeed"}}}' || repeat('}}}', 200) || '], "End": true}}}')::json), '', 'two hundred machines within each other')
FROM generate_series(1, 200) AS i;

SELECT finish();
