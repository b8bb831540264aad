-- Behind the functions of subscriptions.

CREATE OR REPLACE FUNCTION evstore._slot_reset(subscription_id bigint, slot integer, at_position bigint)
RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'evs_slot_reset';
COMMENT ON FUNCTION evstore._slot_reset(bigint, integer, bigint) IS 'lets a slot begin anew after a position';

CREATE OR REPLACE FUNCTION evstore._slot_refresh(subscription_id bigint, slot integer) RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'evs_slot_refresh';
COMMENT ON FUNCTION evstore._slot_refresh(bigint, integer) IS 'looks again what failed events mean for a slot';

CREATE OR REPLACE FUNCTION evstore._slot_lock(subscription_id bigint, slot integer) RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'evs_slot_lock_sql';
COMMENT ON FUNCTION evstore._slot_lock(bigint, integer) IS 'locks a slot to the end of the transaction';

CREATE OR REPLACE FUNCTION evstore._slots_lock(subscription_id bigint, slots integer) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT evstore._slot_lock(subscription_id, i) FROM generate_series(0, slots - 1) i;
END;
COMMENT ON FUNCTION evstore._slots_lock(bigint, integer) IS 'locks all slots of a subscription, in order';

-- on_failure has changed: what that means for events that have failed.
CREATE OR REPLACE FUNCTION evstore._slots_rearrange(subscription_id bigint, slots integer) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM evstore._slots_lock(subscription_id, slots);
	PERFORM evstore._failed_rearrange(subscription_id);
	FOR i IN 0 .. slots - 1 LOOP
		PERFORM evstore._slot_refresh(subscription_id, i);
	END LOOP;
END
$$;
COMMENT ON FUNCTION evstore._slots_rearrange(bigint, integer) IS 'applies another on_failure to events that have failed';

CREATE OR REPLACE FUNCTION evstore._kick(subscription_id bigint) RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'evs_kick';
COMMENT ON FUNCTION evstore._kick(bigint) IS 'at commit, lets those who wait for a subscription look again';

CREATE OR REPLACE FUNCTION evstore._slot_claimed(consumer text, pid integer, lease_until timestamptz)
RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_slot_claimed';
COMMENT ON FUNCTION evstore._slot_claimed(text, integer, timestamptz) IS 'is the claim that of somebody who is still there?';

CREATE OR REPLACE FUNCTION evstore._slot_events(name text, slot integer, after bigint, up_to bigint)
RETURNS TABLE (at_position bigint, key_hash bigint, key text)
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'evs_slot_events';
COMMENT ON FUNCTION evstore._slot_events(text, integer, bigint, bigint) IS 'events of a slot, with their ordering keys';

CREATE OR REPLACE FUNCTION evstore._event_key(name text, at_position bigint)
RETURNS TABLE (key_hash bigint, key text)
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'evs_event_key';
COMMENT ON FUNCTION evstore._event_key(text, bigint) IS 'the ordering key of an event, whatever the filter says of it';

CREATE OR REPLACE FUNCTION evstore._subscription_lag(name text,
	OUT events bigint, OUT exact boolean, OUT oldest timestamptz)
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'evs_subscription_lag';
COMMENT ON FUNCTION evstore._subscription_lag(text) IS 'events that the slots have still before them';

CREATE OR REPLACE FUNCTION evstore._check_filter(filter jsonb) RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'evs_check_filter';
COMMENT ON FUNCTION evstore._check_filter(jsonb) IS 'raises VS010 unless it is a filter';

CREATE OR REPLACE FUNCTION evstore._check_key(key text) RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'evs_check_key';
COMMENT ON FUNCTION evstore._check_key(text) IS 'raises VS010 unless it can be an ordering key';

/*
 * _start_position(start) -> bigint: the position after which to begin.
 *
 * start: beginning, end, a position ('5': events after it), or a time in ISO
 * format (events recorded from then on).  recorded_at and position grow
 * together but for appends that waited between the two: the search goes back
 * by a minute from where the time would be.
 */
CREATE OR REPLACE FUNCTION evstore._start_position(start text) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	at timestamptz;
	low bigint := 0;
	high bigint := evstore.safe_position();
	middle bigint;
	e record;
	result bigint;
BEGIN
	IF start IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'argument "start" must not be null';
	END IF;
	IF start = 'beginning' THEN
		RETURN 0;
	ELSIF start = 'end' THEN
		RETURN high;
	ELSIF start ~ '^\d{1,18}$' THEN
		RETURN start::bigint;
	END IF;
	BEGIN
		IF start !~ '^\d{4}-\d\d-\d\d' THEN
			RAISE invalid_datetime_format;
		END IF;
		at := start::timestamptz;
	EXCEPTION WHEN data_exception THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('argument "start" must not be "%s"', start),
			HINT = 'Use ''beginning'', ''end'', a position such as ''5'', or a time such as ''2026-01-31T12:00:00Z''.';
	END;
	-- the newest position whose event was recorded more than a minute before
	WHILE low < high LOOP
		middle := low + (high - low + 1) / 2;
		SELECT l."position", l.recorded_at INTO e
		FROM evstore.event_log l
		WHERE l."position" BETWEEN middle AND high ORDER BY l."position" LIMIT 1;
		IF FOUND AND e.recorded_at < at - interval '1 minute' THEN
			low := e."position";
		ELSE
			high := middle - 1;
		END IF;
	END LOOP;
	high := evstore.safe_position();
	SELECT l."position" - 1 INTO result
	FROM evstore.event_log l
	WHERE l."position" > low AND l."position" <= high AND l.recorded_at >= at
	ORDER BY l."position" LIMIT 1;
	RETURN COALESCE(result, high);
END
$$;
COMMENT ON FUNCTION evstore._start_position(text) IS 'the position after which to begin';

-- The subscription of a name, locked; VS009 if there is none, 55000 if it is not
-- of the kind that is wanted (null: any).
CREATE OR REPLACE FUNCTION evstore._subscription(name text, kind text DEFAULT 'subscription')
RETURNS evstore.subscription
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription;
BEGIN
	IF name IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'argument "name" must not be null';
	END IF;
	SELECT * INTO s FROM evstore.subscription x WHERE x.name = _subscription.name FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'VS009',
			MESSAGE = format('%s "%s" does not exist', COALESCE(_subscription.kind, 'subscription'), name),
			DETAIL = jsonb_build_object(COALESCE(_subscription.kind, 'subscription'), name)::text;
	END IF;
	IF s.kind <> _subscription.kind THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('"%s" is a %s', name, s.kind),
			HINT = format('Use the functions of %ss.', s.kind);
	END IF;
	RETURN s;
END
$$;
COMMENT ON FUNCTION evstore._subscription(text, text) IS 'the subscription of a name, locked';

-- What options say, on top of what there is.
CREATE OR REPLACE FUNCTION evstore._subscription_options(s evstore.subscription, options jsonb)
RETURNS evstore.subscription
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
BEGIN
	IF jsonb_typeof(options) <> 'object' THEN
		PERFORM evstore._invalid('$.options', 'must be an object');
	END IF;
	FOR item IN SELECT key, value FROM jsonb_each(options) LOOP
		CASE item.key
		WHEN 'lease' THEN
			IF evstore._seconds('$.options.lease', item.value) NOT BETWEEN 0.1 AND 86400 THEN
				PERFORM evstore._invalid('$.options.lease', 'must be between 0.1 s and a day');
			END IF;
			s.lease := evstore._seconds('$.options.lease', item.value) * 1000;
		WHEN 'retry' THEN
			s.retry := evstore.retry_policy(item.value);
		WHEN 'on_failure' THEN
			IF jsonb_typeof(item.value) <> 'string'
					OR item.value #>> '{}' NOT IN ('block_key', 'park_key', 'skip') THEN
				PERFORM evstore._invalid('$.options.on_failure', 'must be block_key, park_key or skip');
			END IF;
			s.on_failure := item.value #>> '{}';
		WHEN 'key' THEN
			IF jsonb_typeof(item.value) <> 'string' THEN
				PERFORM evstore._invalid('$.options.key', 'must be stream, correlation or a jsonpath');
			END IF;
			BEGIN
				PERFORM evstore._check_key(item.value #>> '{}');
			EXCEPTION WHEN SQLSTATE 'VS010' THEN
				PERFORM evstore._invalid('$.options.key', 'must be stream, correlation or a jsonpath');
			END;
			s.key := item.value #>> '{}';
		WHEN 'notify' THEN
			IF jsonb_typeof(item.value) <> 'boolean' THEN
				PERFORM evstore._invalid('$.options.notify', 'must be true or false');
			END IF;
			s.notify := item.value::boolean;
		ELSE
			PERFORM evstore._invalid('$.options.' || item.key, 'is not known');
		END CASE;
	END LOOP;
	RETURN s;
END
$$;
COMMENT ON FUNCTION evstore._subscription_options(evstore.subscription, jsonb) IS 'a subscription with options applied';

CREATE OR REPLACE FUNCTION evstore._check_slots(slots integer) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF slots IS NULL OR slots NOT BETWEEN 1 AND 256 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = 'argument "slots" must be between 1 and 256';
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._check_slots(integer) IS 'raises 22023 unless it can be a number of slots';

CREATE OR REPLACE FUNCTION evstore._audit(action text, detail jsonb) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO evstore.audit (actor, action, stream, detail)
	VALUES (session_user, _audit.action, '', _audit.detail);
END;
COMMENT ON FUNCTION evstore._audit(text, jsonb) IS 'writes down who did what';
