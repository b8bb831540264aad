-- Runs definitions on the machine of sagas without tables, with scripted results and
-- virtual time, and tells what has happened as lines of text.
--
-- A script says what becomes of the steps of each state, by its path; of compensators, by
-- "undo <path>": an array, the nth element for its nth step, and what is beyond it succeeds.
--   {"ok": output, "after": seconds}
--   {"error": name, "cause": text, "outcome": "unknown" or "no_effect", "after": seconds}
--   {"lost": true}: no reply; with "ok" or "error" and "after": also not when it is withdrawn
--   {"late": true, "ok": …}: the reply comes even if nobody waits for it any more
--   {"random": seed} as the script: something for each step, always the same for the seed;
--   a compensator succeeds the second time at the latest.
-- Members of events: [{"at": seconds, "kind": …}], what else comes in.

-- Every stored execution must be what it becomes when it is loaded and stored again, and
-- each event that has changed something must change nothing the second time.
CREATE TEMP TABLE saga_fault (what text);
-- All actions of the last run.
CREATE TEMP TABLE saga_action (n bigint GENERATED ALWAYS AS IDENTITY, at numeric, action jsonb);

CREATE FUNCTION pg_temp.saga_time(seconds numeric) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT to_char(timestamptz '2030-01-01 00:00:00Z' AT TIME ZONE 'UTC' + seconds * interval '1 second',
		'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

CREATE FUNCTION pg_temp.saga_seconds(at text) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
	SELECT round(extract(epoch FROM at::timestamptz - timestamptz '2030-01-01 00:00:00Z'), 6)
$$;

-- 12.000 → 12
CREATE FUNCTION pg_temp.saga_short(n numeric) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT trim_scale(n)::text $$;

-- What becomes of the nth step of a state, where chance decides.
CREATE FUNCTION pg_temp.saga_chance(seed bigint, key text, n int) RETURNS jsonb LANGUAGE sql IMMUTABLE STRICT AS $$
	SELECT CASE WHEN key LIKE 'undo %' THEN CASE WHEN h < 30 AND n % 2 = 1 THEN '{"error": "Stuck"}' ELSE '{"ok": 1}' END
		WHEN h < 65 THEN '{"ok": 1}' WHEN h < 78 THEN '{"error": "Declined"}' WHEN h < 85 THEN '{"error": "Broken", "outcome": "unknown"}'
		WHEN h < 92 THEN '{"lost": true}' ELSE '{"ok": "late", "late": true, "after": 8}' END::jsonb ||
		CASE WHEN h < 92 THEN jsonb_build_object('after', h % 4) ELSE '{}' END
	FROM (SELECT abs(hashtextextended(key || n, seed) % 100)) AS x (h)
$$;

-- One transition, checked.
CREATE FUNCTION pg_temp.saga_apply(definition jsonb, INOUT execution jsonb, event jsonb,
	OUT changed boolean, OUT actions jsonb, OUT status text, OUT due timestamptz) LANGUAGE plpgsql AS $$
DECLARE
	before jsonb := execution;
	again record;
BEGIN
	SELECT * INTO STRICT changed, execution, actions, status, due
	FROM evstore._saga_transition(definition, before, event);
	IF NOT changed AND (execution IS DISTINCT FROM before OR actions <> '[]') THEN
		INSERT INTO saga_fault VALUES (format('%s changed nothing, but %s became %s with %s', event ->> 'kind', before, execution, actions));
	END IF;
	-- a reply of a step that there never was
	SELECT * INTO STRICT again FROM evstore._saga_transition(definition, execution,
		event || '{"kind": "succeeded", "step": 1000000}');
	IF again.changed OR again.execution <> execution OR again.due IS DISTINCT FROM due OR again.status <> status THEN
		INSERT INTO saga_fault VALUES (format('%s became %s by loading it', execution, again.execution));
	END IF;
	IF event ->> 'kind' <> 'advance' THEN
		SELECT * INTO STRICT again FROM evstore._saga_transition(definition, execution, event);
		IF again.changed AND NOT again.actions @> '[{"type": "CompensationRefused"}]' THEN
			INSERT INTO saga_fault VALUES (format('%s changed %s the second time', event, execution));
		END IF;
	END IF;
END $$;

-- What an action looks like in a trace; null: it is not in there.
CREATE FUNCTION pg_temp.saga_line(action jsonb, detailed boolean) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE action ->> 'action'
		WHEN 'start' THEN format('%s%s#%s%s%s', CASE WHEN action ? 'compensates' THEN 'undo ' ELSE '' END,
			action ->> 'state', action ->> 'attempt',
			CASE WHEN (action ->> 'visit')::int > 1 THEN ' visit ' || (action ->> 'visit') ELSE '' END,
			CASE WHEN detailed THEN ' ' || (action ->> 'payload') ELSE '' END)
		WHEN 'cancel' THEN concat_ws(' ', 'cancel', action ->> 'step', action ->> 'error', action ->> 'outcome')
		WHEN 'end' THEN concat_ws(' ', 'end', action ->> 'status', action ->> 'error', action ->> 'data')
		WHEN 'record' THEN CASE WHEN action ->> 'type' IN ('StepTimedOut', 'StepWithdrawn', 'StepRetried', 'LateReply', 'StepCompensated',
				'CompensationStarted', 'CompensationStepFailed', 'SagaCompensationFailed', 'CompensationRefused', 'SagaResolved', 'SagaRetried', 'StepFailed')
			THEN concat_ws(' ', action ->> 'type', action #>> '{data,state}', action #>> '{data,error}', action #>> '{data,outcome}',
				'due ' || pg_temp.saga_short(pg_temp.saga_seconds(action #>> '{data,due}')), action #>> '{data,reason}') END
	END
$$;

-- A run to its end: the trace, one line for each thing that happened, with the second in
-- which it did.
CREATE FUNCTION pg_temp.saga_run(definition jsonb, input jsonb DEFAULT '{}', script jsonb DEFAULT '{}',
	events jsonb DEFAULT '[]', detailed boolean DEFAULT false, seed bigint DEFAULT 1, until numeric DEFAULT 1000000)
RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
	execution jsonb;
	clock numeric := 0;
	steps jsonb := '{}';			-- what lookups find
	started jsonb := '{}';			-- how many steps each state has started
	replies jsonb := '[]';			-- {"at", "step", "event"}, those that are to come
	fixed jsonb;
	event jsonb;
	r record;
	a jsonb;
	result jsonb;
	key text;
	next jsonb;
	lines text[] := '{}';
	line text;
	rounds int := 0;
BEGIN
	fixed := jsonb_build_object('saga_id', '00000000-0000-7000-8000-000000000001', 'saga', 'test', 'business_key', 'k',
		'started_at', pg_temp.saga_time(0), 'input', input);
	DELETE FROM saga_action;
	event := '{"kind": "start"}'::jsonb || jsonb_build_object('data', input);
	LOOP
		rounds := rounds + 1;
		IF rounds > 3000 THEN
			RETURN lines || 'endless'::text;
		END IF;
		SELECT * INTO STRICT r FROM pg_temp.saga_apply(definition, execution, fixed || event ||
			jsonb_build_object('now', pg_temp.saga_time(clock), 'seed', seed + rounds, 'steps', steps, 'token', 'token-' || rounds));
		execution := r.execution;
		IF NOT r.changed THEN
			lines := lines || format('%s: %s changes nothing', pg_temp.saga_short(clock), event ->> 'kind');
			IF event ->> 'kind' = 'advance' THEN
				RETURN lines || 'stuck'::text;
			END IF;
		END IF;
		FOR a IN SELECT * FROM jsonb_array_elements(r.actions) LOOP
			INSERT INTO saga_action (at, action) VALUES (clock, a);
			line := pg_temp.saga_line(a, detailed);
			IF line IS NOT NULL THEN
				lines := lines || format('%s: %s', pg_temp.saga_short(clock), line);
			END IF;
			IF a ->> 'action' = 'start' THEN
				key := CASE WHEN a ? 'compensates' THEN 'undo ' ELSE '' END || (a ->> 'state');
				started := started || jsonb_build_object(key, coalesce((started ->> key)::int, 0) + 1);
				result := coalesce(script -> key -> ((started ->> key)::int - 1), script -> key -> '*',
					pg_temp.saga_chance((script ->> 'random')::bigint, key, (started ->> key)::int),
					jsonb_build_object('ok', jsonb_build_object(a ->> 'state', a -> 'attempt')));
				steps := steps || jsonb_build_object(a ->> 'step', jsonb_build_object('input', a -> 'payload', 'output', result -> 'ok',
					'error', result -> 'error'));
				IF NOT result ? 'lost' THEN
					replies := replies || jsonb_build_object('at', clock + coalesce((result ->> 'after')::numeric, 0), 'step', a -> 'step',
						'late', result -> 'late', 'event', CASE WHEN result ? 'error'
							THEN '{"kind": "failed"}' || (result - 'after' - 'late') ELSE jsonb_build_object('kind', 'succeeded', 'data', result -> 'ok') END);
				END IF;
			ELSIF a ->> 'action' = 'cancel' THEN
				SELECT coalesce(jsonb_agg(p ORDER BY o), '[]') INTO replies FROM jsonb_array_elements(replies) WITH ORDINALITY AS x (p, o)
				WHERE p -> 'step' <> a -> 'step' OR p -> 'late' = 'true';
			END IF;
		END LOOP;
		-- what comes first: something from outside, a reply, the machine's own time
		SELECT p INTO next FROM jsonb_array_elements(
			(SELECT coalesce(jsonb_agg(e || jsonb_build_object('event', e - 'at', 'outside', true)), '[]') FROM jsonb_array_elements(events) AS e) || replies)
			WITH ORDINALITY AS x (p, o)
		ORDER BY (p ->> 'at')::numeric, o LIMIT 1;
		IF r.due < 'infinity' AND (next IS NULL OR r.due = '-infinity' OR pg_temp.saga_seconds(r.due::text) < (next ->> 'at')::numeric) THEN
			clock := CASE WHEN r.due = '-infinity' THEN clock ELSE greatest(clock, pg_temp.saga_seconds(r.due::text)) END;
			event := '{"kind": "advance"}';
		ELSIF next IS NULL THEN
			EXIT;
		ELSE
			clock := greatest(clock, (next ->> 'at')::numeric);
			event := (next -> 'event') || CASE WHEN next ? 'step' THEN jsonb_build_object('step', next -> 'step') ELSE '{}' END;
			IF next ? 'outside' THEN
				events := events - 0;
			ELSE
				SELECT coalesce(jsonb_agg(p ORDER BY o), '[]') INTO replies FROM jsonb_array_elements(replies) WITH ORDINALITY AS x (p, o)
				WHERE p <> next;
			END IF;
		END IF;
		EXIT WHEN clock > until;
	END LOOP;
	RETURN lines || r.status;
END $$;

-- [{"Name": …}] as States, one after the other: Tasks of the activity of their name.
CREATE FUNCTION pg_temp.chain(VARIADIC states text[]) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_build_object('StartAt', states[1], 'States', jsonb_object_agg(s, jsonb_build_object('Type', 'Task',
		'Resource', 'evstore:activity:' || s, 'ResultPath', '$.' || s) ||
		CASE WHEN o = cardinality(states) THEN '{"End": true}' ELSE jsonb_build_object('Next', states[o + 1]) END))
	FROM unnest(states) WITH ORDINALITY AS x (s, o)
$$;

-- Compensators of these states: the activity undo-<name>.
CREATE FUNCTION pg_temp.compensators(VARIADIC states text[]) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_build_object('states', jsonb_object_agg(s, jsonb_build_object('Resource', 'evstore:activity:undo-' || s,
		'Retry', '[{"ErrorEquals": ["States.ALL"], "MaxAttempts": 1, "IntervalSeconds": 10}]'::jsonb)))
	FROM unnest(states) AS s
$$;
