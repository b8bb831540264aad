-- What definitions have in common: errors, durations, retry policies.

-- Errors of definitions: VS010 with the JSON path.
CREATE OR REPLACE FUNCTION evstore._invalid(path text, what text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'VS010',
		MESSAGE = format('invalid definition: %s %s', path, what),
		DETAIL = jsonb_build_object('path', path)::text;
END
$$;
COMMENT ON FUNCTION evstore._invalid(text, text) IS 'raises VS010';

-- Seconds from a JSON number, or an interval as text.
CREATE OR REPLACE FUNCTION evstore._seconds(path text, value jsonb) RETURNS numeric
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	seconds numeric;
BEGIN
	BEGIN
		seconds := CASE jsonb_typeof(value)
			WHEN 'number' THEN value::numeric
			WHEN 'string' THEN extract(epoch FROM (value #>> '{}')::interval)
		END;
	EXCEPTION WHEN data_exception THEN
		seconds := NULL;
	END;
	IF seconds IS NULL OR seconds < 0 OR seconds > 31536000 THEN
		PERFORM evstore._invalid(path, 'must be a number of seconds, or an interval as text, between 0 and a year');
	END IF;
	RETURN seconds;
END
$$;
COMMENT ON FUNCTION evstore._seconds(text, jsonb) IS 'a duration in a definition';

/*
 * retry_policy(policy) -> jsonb: a retry policy with all its members.
 *
 * policy is the name of a preset as a JSON string, or an object with the
 * members preset, max_attempts (deliveries, the first included), initial, max,
 * max_age (seconds, or an interval as text; max_age null: no limit), factor, and
 * jitter (0: none, 1: anything between 0 and the full delay).  Errors: VS010.
 */
CREATE OR REPLACE FUNCTION evstore.retry_policy(policy jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	presets CONSTANT jsonb := '{
		"default":     {"max_attempts": 10},
		"eventbridge": {"max_attempts": 3, "max_age": 3600},
		"eventgrid":   {"max_attempts": 30, "max_age": 86400, "initial": 10, "max": 43200},
		"servicebus":  {"max_attempts": 10, "initial": 0, "jitter": 0},
		"pubsub":      {"max_attempts": 5, "initial": 10, "max": 600},
		"kinesis":     {"max_attempts": 3},
		"sqs":         {"max_attempts": 3, "initial": 300, "factor": 1, "jitter": 0},
		"kafka":       {"max_attempts": 4, "initial": 0.1, "max": 1},
		"poll":        {"max_attempts": 10},
		"none":        {"max_attempts": 1}}';
	given jsonb := COALESCE(policy, '{}');
	preset text;
	result jsonb := '{"max_attempts": 10, "initial": 1, "factor": 2, "max": 300, "jitter": 1, "max_age": null}';
	item record;
BEGIN
	IF jsonb_typeof(given) = 'string' THEN
		given := jsonb_build_object('preset', given);
	ELSIF jsonb_typeof(given) <> 'object' THEN
		PERFORM evstore._invalid('$.retry', 'must be an object or the name of a preset');
	END IF;
	preset := COALESCE(given ->> 'preset', 'default');
	IF NOT presets ? preset THEN
		PERFORM evstore._invalid('$.retry.preset', format('must be one of %s', (SELECT string_agg(k, ', ' ORDER BY k)
			FROM jsonb_object_keys(presets) k)));
	END IF;
	result := result || (presets -> preset);
	FOR item IN SELECT key, value FROM jsonb_each(given - 'preset') LOOP
		CASE item.key
		WHEN 'initial', 'max', 'max_age' THEN
			IF item.key <> 'max_age' OR jsonb_typeof(item.value) <> 'null' THEN
				result := result || jsonb_build_object(item.key, evstore._seconds('$.retry.' || item.key, item.value));
			ELSE
				result := result || '{"max_age": null}';
			END IF;
		WHEN 'max_attempts' THEN
			IF jsonb_typeof(item.value) <> 'number' OR item.value::numeric NOT BETWEEN 1 AND 1000000
					OR item.value::numeric % 1 <> 0 THEN
				PERFORM evstore._invalid('$.retry.max_attempts', 'must be a whole number between 1 and 1000000');
			END IF;
			result := result || jsonb_build_object(item.key, item.value::numeric::integer);
		WHEN 'factor' THEN
			IF jsonb_typeof(item.value) <> 'number' OR item.value::numeric NOT BETWEEN 1 AND 1000 THEN
				PERFORM evstore._invalid('$.retry.factor', 'must be a number between 1 and 1000');
			END IF;
			result := result || jsonb_build_object(item.key, item.value);
		WHEN 'jitter' THEN
			IF jsonb_typeof(item.value) <> 'number' OR item.value::numeric NOT BETWEEN 0 AND 1 THEN
				PERFORM evstore._invalid('$.retry.jitter', 'must be a number between 0 and 1');
			END IF;
			result := result || jsonb_build_object(item.key, item.value);
		ELSE
			PERFORM evstore._invalid('$.retry.' || item.key, 'is not known');
		END CASE;
	END LOOP;
	RETURN result;
END
$$;
COMMENT ON FUNCTION evstore.retry_policy(jsonb) IS 'a retry policy with all its members, from a preset or some of them';

/*
 * retry_delay(policy, attempt, random) -> interval: how long to wait after so
 * many failed attempts.
 *
 * min(max, initial * factor^(attempt - 1)), less up to jitter of it: "full
 * jitter" with jitter 1.  random is in [0, 1); by default the session's, so
 * setseed() makes delays repeatable.
 */
CREATE OR REPLACE FUNCTION evstore.retry_delay(policy jsonb, attempt integer,
	random double precision DEFAULT random()) RETURNS interval
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	initial double precision := policy ->> 'initial';
	factor double precision := policy ->> 'factor';
	longest double precision := policy ->> 'max';
	jitter double precision := policy ->> 'jitter';
	delay double precision;
BEGIN
	IF initial = 0 THEN
		delay := 0;
	ELSIF (GREATEST(attempt, 1) - 1) * ln(factor) >= ln(GREATEST(longest, initial) / initial) THEN
		delay := longest;
	ELSE
		delay := LEAST(longest, initial * exp((GREATEST(attempt, 1) - 1) * ln(factor)));
	END IF;
	RETURN make_interval(secs => delay * (1 - jitter * random));
END
$$;
COMMENT ON FUNCTION evstore.retry_delay(jsonb, integer, double precision) IS 'how long to wait after so many failed attempts';
