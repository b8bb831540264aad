-- Relays: definitions.  Functions whose names begin with _relay_ run as evstore's
-- owner, called from C code that knows who has called it.

-- Is there a module of this name, and can it work with the configuration?  VS010.
CREATE OR REPLACE FUNCTION evstore._relay_check_sink(sink text, config jsonb, options jsonb) RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'evs_relay_check_sink';
COMMENT ON FUNCTION evstore._relay_check_sink(text, jsonb, jsonb) IS
	'raises VS010 unless a sink module can work with this';

-- A whole number in options, or VS010.
CREATE OR REPLACE FUNCTION evstore._relay_integer(path text, value jsonb, low bigint, high bigint) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF jsonb_typeof(value) <> 'number' OR (value #>> '{}')::numeric NOT BETWEEN low AND high
			OR (value #>> '{}')::numeric % 1 <> 0 THEN
		PERFORM evstore._invalid(path, format('must be a whole number from %s to %s', low, high));
	END IF;
	RETURN to_jsonb((value #>> '{}')::numeric::bigint);
END
$$;
COMMENT ON FUNCTION evstore._relay_integer(text, jsonb, bigint, bigint) IS 'a whole number in the options of a relay';

-- A duration in options as whole milliseconds, or VS010.
CREATE OR REPLACE FUNCTION evstore._relay_ms(path text, value jsonb, low bigint, high bigint) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ms bigint := ceil(evstore._seconds(path, value) * 1000);
BEGIN
	IF ms NOT BETWEEN low AND high THEN
		PERFORM evstore._invalid(path, format('must be between %s and %s seconds', trim_scale(low / 1000.0), trim_scale(high / 1000.0)));
	END IF;
	RETURN to_jsonb(ms);
END
$$;
COMMENT ON FUNCTION evstore._relay_ms(text, jsonb, bigint, bigint) IS 'a duration in the options of a relay';

/*
 * The options of a relay with those that are given in place of its own.  Durations
 * are stored as milliseconds, with names that end with _ms.  What belongs to its
 * subscription comes back beside them.
 */
CREATE OR REPLACE FUNCTION evstore._relay_options(INOUT result jsonb, INOUT s evstore.subscription, options jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
	part record;
BEGIN
	IF jsonb_typeof(options) <> 'object' THEN
		PERFORM evstore._invalid('$.options', 'must be an object');
	END IF;
	FOR item IN SELECT o.key, o.value, o.value #>> '{}' AS text, jsonb_typeof(o.value) AS type,
			'$.options.' || o.key AS path FROM jsonb_each(options) o LOOP
		CASE item.key
		WHEN 'key' THEN
			IF item.type <> 'string' OR item.text <> 'none' THEN
				s := evstore._subscription_options(s, jsonb_build_object('key', item.value));
			ELSE
				s.key := 'none';
			END IF;
		WHEN 'retry', 'on_failure' THEN
			s := evstore._subscription_options(s, jsonb_build_object(item.key, item.value));
		WHEN 'transform' THEN
			NULL;				-- see _relay_transform()
		WHEN 'format' THEN
			IF item.type <> 'string' OR item.text NOT IN ('cloudevents', 'cloudevents-batch', 'cloudevents-binary', 'raw') THEN
				PERFORM evstore._invalid(item.path, 'must be cloudevents, cloudevents-batch, cloudevents-binary or raw');
			END IF;
			result := result || jsonb_build_object('format', item.text);
		WHEN 'topic', 'source' THEN
			IF item.type NOT IN ('string', 'null') OR item.text = '' THEN
				PERFORM evstore._invalid(item.path, 'must be a string');
			END IF;
			IF item.key = 'topic' AND item.text IS NOT NULL THEN
				PERFORM evstore._check_topic(item.text);
			END IF;
			result := result || jsonb_build_object(item.key, item.value);
		WHEN 'batch_size' THEN
			result := result || jsonb_build_object('batch_size', evstore._relay_integer(item.path, item.value, 1, 100000));
		WHEN 'batch_bytes' THEN
			result := result || jsonb_build_object('batch_bytes', evstore._relay_integer(item.path, item.value, 1024, 268435456));
		WHEN 'batch_wait' THEN
			result := result || jsonb_build_object('batch_wait_ms', evstore._relay_ms(item.path, item.value, 0, 60000));
		WHEN 'in_flight' THEN
			result := result || jsonb_build_object('in_flight', evstore._relay_integer(item.path, item.value, 1, 100000));
		WHEN 'timeout' THEN
			result := result || jsonb_build_object('timeout_ms', evstore._relay_ms(item.path, item.value, 10, 3600000));
		WHEN 'metadata' THEN
			IF item.type <> 'boolean' THEN
				PERFORM evstore._invalid(item.path, 'must be true or false');
			END IF;
			result := result || jsonb_build_object('metadata', item.value);
		WHEN 'rate' THEN
			IF item.type NOT IN ('number', 'null') OR item.text::numeric NOT BETWEEN 0.001 AND 1000000 THEN
				PERFORM evstore._invalid(item.path, 'must be a number of messages a second between 0.001 and 1000000, or null');
			END IF;
			result := result || jsonb_build_object('rate', item.value);
		WHEN 'burst' THEN
			result := result || jsonb_build_object('burst', evstore._relay_integer(item.path, item.value, 1, 1000000));
		WHEN 'max_hops' THEN
			result := result || jsonb_build_object('max_hops', evstore._relay_integer(item.path, item.value, 1, 1000));
		WHEN 'max_age' THEN
			result := result || jsonb_build_object('max_age_ms', CASE item.type WHEN 'null' THEN item.value
				ELSE evstore._relay_ms(item.path, item.value, 1, 31536000000) END);
		WHEN 'max_bytes' THEN
			result := result || jsonb_build_object('max_bytes', CASE item.type WHEN 'null' THEN item.value
				ELSE evstore._relay_integer(item.path, item.value, 1, 1073741824) END);
		WHEN 'circuit' THEN
			IF item.type <> 'object' THEN
				PERFORM evstore._invalid(item.path, 'must be an object');
			END IF;
			FOR part IN SELECT o.key, o.value, item.path || '.' || o.key AS path FROM jsonb_each(item.value) o LOOP
				CASE part.key
				WHEN 'failures' THEN
					result := result || jsonb_build_object('circuit_failures',
						evstore._relay_integer(part.path, part.value, 1, 1000000));
				WHEN 'open_for' THEN
					result := result || jsonb_build_object('open_for_ms', evstore._relay_ms(part.path, part.value, 1, 86400000));
				WHEN 'max_open_for' THEN
					result := result || jsonb_build_object('max_open_for_ms', evstore._relay_ms(part.path, part.value, 1, 86400000));
				ELSE
					PERFORM evstore._invalid(part.path, 'is not known');
				END CASE;
			END LOOP;
		ELSE
			PERFORM evstore._invalid(item.path, 'is not known');
		END CASE;
	END LOOP;
END
$$;
COMMENT ON FUNCTION evstore._relay_options(jsonb, evstore.subscription, jsonb) IS 'options of a relay, applied';

-- The function of the option transform as it is stored; VS010 unless it can be one,
-- 42501 unless the relay's owner may call it.
CREATE OR REPLACE FUNCTION evstore._relay_transform(value jsonb, owner text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	fn regprocedure;
	f record;
BEGIN
	IF jsonb_typeof(value) = 'null' THEN
		RETURN NULL;
	ELSIF jsonb_typeof(value) <> 'string' THEN
		PERFORM evstore._invalid('$.options.transform', 'must be the name of a function with its schema and arguments');
	END IF;
	BEGIN
		fn := to_regprocedure(value #>> '{}');
	EXCEPTION WHEN data_exception OR syntax_error OR undefined_object THEN
		NULL;
	END;
	SELECT format('%I.%I', n.nspname, x.proname) AS name,
		x.prokind = 'f' AND NOT x.proretset AND x.prorettype = 'jsonb'::regtype AND x.pronargs = 1
			AND x.proargtypes[0] = 'evstore.event'::regtype AND n.nspname !~ '^pg_(toast_)?temp_' AS ok
	INTO f
	FROM pg_proc x JOIN pg_namespace n ON n.oid = x.pronamespace
	WHERE x.oid = fn;
	IF NOT FOUND OR NOT f.ok THEN
		RAISE EXCEPTION USING ERRCODE = 'VS010',
			MESSAGE = format('"%s" cannot be the transform of a relay', value #>> '{}'),
			DETAIL = jsonb_build_object('path', '$.options.transform', 'function', value)::text,
			HINT = 'It must be a function of the form schema.f(evstore.event) that returns jsonb.';
	END IF;
	IF NOT has_function_privilege(owner, fn, 'EXECUTE') THEN
		RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
			MESSAGE = format('permission denied for function %s', fn);
	END IF;
	RETURN f.name;
END
$$;
COMMENT ON FUNCTION evstore._relay_transform(jsonb, text) IS 'the transform of a relay';

-- The secrets that a configuration refers to stay for as long as this transaction
-- does, and then because of the relay; VS009 for one that is not there.
CREATE OR REPLACE FUNCTION evstore._relay_secrets(config jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item text;
BEGIN
	FOR item IN SELECT DISTINCT p #>> '{}' FROM jsonb_path_query(config, 'strict $.**.secret ? (@.type() == "string")', silent => true) p LOOP
		PERFORM FROM evstore.secret s WHERE s.name = item FOR KEY SHARE;
		IF NOT FOUND THEN
			RAISE EXCEPTION USING ERRCODE = 'VS009',
				MESSAGE = format('secret "%s" does not exist', item),
				DETAIL = jsonb_build_object('secret', item)::text,
				HINT = 'Make it with create_secret() first.';
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION evstore._relay_secrets(jsonb) IS 'keeps the secrets that a configuration refers to';

-- A topic template; VS010 unless it is one.
CREATE OR REPLACE FUNCTION evstore._check_topic(template text) RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'evs_check_topic';
COMMENT ON FUNCTION evstore._check_topic(text) IS 'raises VS010 unless it is a topic template';

CREATE OR REPLACE FUNCTION evstore._relay_create(name text, owner text, sink text, config jsonb, filter jsonb,
	start text, options jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription;
	r evstore.relay;
	changed record;
BEGIN
	IF num_nulls(name, sink, start) > 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
			MESSAGE = format('argument "%s" must not be null',
				CASE WHEN name IS NULL THEN 'name' WHEN sink IS NULL THEN 'sink' ELSE 'start' END);
	END IF;
	IF octet_length(name) NOT BETWEEN 1 AND 51 OR name LIKE '$%' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = 'the name of a relay must have 1 to 51 bytes, and not begin with $';
	END IF;
	PERFORM evstore._check_filter(COALESCE(filter, '{}'));
	s.filter := COALESCE(filter, '{}');
	s.key := 'stream';
	s.retry := evstore.retry_policy();
	s.on_failure := 'block_key';
	changed := evstore._relay_options('{"format": "cloudevents", "topic": null, "source": null, "batch_size": 100,
		"batch_bytes": 1048576, "batch_wait_ms": 0, "in_flight": 64, "timeout_ms": 30000, "rate": null, "burst": 1,
		"max_hops": 16, "max_age_ms": null, "max_bytes": null, "circuit_failures": 5, "open_for_ms": 5000,
		"max_open_for_ms": 300000, "metadata": false}', s, COALESCE(options, '{}'));
	r.options := changed.result;
	s := changed.s;
	r.transform := evstore._relay_transform(COALESCE(options -> 'transform', 'null'), owner);
	r.config := COALESCE(config, '{}');
	PERFORM evstore._relay_check_sink(sink, r.config, r.options);
	PERFORM evstore._relay_secrets(r.config);
	INSERT INTO evstore.subscription (name, filter, key, slots, lease, retry, on_failure, notify, paused,
		created_at, kind)
	VALUES (_relay_create.name, s.filter, s.key, 1, NULL, s.retry, s.on_failure, false, false, clock_timestamp(), 'relay')
	ON CONFLICT DO NOTHING
	RETURNING id INTO r.id;
	IF r.id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'VS008',
			MESSAGE = (SELECT format('%s "%s" already exists', x.kind, x.name)
				FROM evstore.subscription x WHERE x.name = _relay_create.name),
			DETAIL = jsonb_build_object('relay', name)::text;
	END IF;
	INSERT INTO evstore.relay (id, owner, sink, config, options, transform, trust_from, created_at)
	VALUES (r.id, _relay_create.owner, _relay_create.sink, r.config, r.options, r.transform,
		evstore._last_position(), clock_timestamp());
	PERFORM evstore._slot_reset(r.id, 0, evstore._start_position(start));
	PERFORM evstore._audit('create_relay', jsonb_build_object('relay', name, 'owner', owner, 'sink', sink));
	PERFORM evstore._kick(r.id);
END
$$;
COMMENT ON FUNCTION evstore._relay_create(text, text, text, jsonb, jsonb, text, jsonb) IS 'behind create_relay()';

CREATE OR REPLACE FUNCTION evstore._relay_alter(name text, owner text, config jsonb, filter jsonb, options jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name, 'relay');
	o evstore.subscription := s;
	r evstore.relay;
	changed record;
BEGIN
	SELECT * INTO r FROM evstore.relay x WHERE x.id = s.id;
	IF filter IS NOT NULL THEN
		PERFORM evstore._check_filter(filter);
		s.filter := filter;
	END IF;
	IF options IS NOT NULL THEN
		changed := evstore._relay_options(r.options, s, options);
		r.options := changed.result;
		s := changed.s;
		IF s.key <> o.key THEN
			PERFORM evstore._invalid('$.options.key', 'cannot be changed: create another relay');
		END IF;
		IF options ? 'transform' THEN
			r.transform := evstore._relay_transform(options -> 'transform', COALESCE(_relay_alter.owner, r.owner));
		END IF;
	END IF;
	IF owner IS NOT NULL AND r.transform IS NOT NULL THEN
		PERFORM evstore._relay_transform(to_jsonb(r.transform || '(evstore.event)'), owner);
	END IF;
	r.config := COALESCE(_relay_alter.config, r.config);
	PERFORM evstore._relay_check_sink(r.sink, r.config, r.options);
	PERFORM evstore._relay_secrets(r.config);
	-- events that are on their way come back with a word first
	PERFORM evstore._slots_lock(s.id, 1);
	UPDATE evstore.relay x
	SET owner = COALESCE(_relay_alter.owner, x.owner), config = r.config, options = r.options, transform = r.transform
	WHERE x.id = r.id;
	UPDATE evstore.subscription x SET filter = s.filter, retry = s.retry, on_failure = s.on_failure WHERE x.id = s.id;
	IF s.on_failure <> o.on_failure THEN
		PERFORM evstore._slots_rearrange(s.id, 1);
	END IF;
	PERFORM evstore._audit('alter_relay', jsonb_build_object('relay', name));
	PERFORM evstore._kick(s.id);
END
$$;
COMMENT ON FUNCTION evstore._relay_alter(text, text, jsonb, jsonb, jsonb) IS 'behind alter_relay()';

/*
 * create_relay(name, sink, config, filter, start, options): send events to a broker.
 *
 * name: 1 to 51 bytes.  sink: the name of a sink module, see docs/reference/sinks.md.  config: what
 * the module wants to know; {"secret": "name"} stands for a secret.  filter, start: as in
 * create_subscription().  options: key (stream, correlation, none or a jsonpath; default
 * stream), format (cloudevents, cloudevents-batch, cloudevents-binary or raw), topic (a template),
 * source, metadata (default false: members of an event's metadata do not go along), transform (a function f(evstore.event) that returns jsonb; null: the event is not sent),
 * batch_size (1 to 100000; default 100), batch_bytes (default 1 MB), batch_wait (0: at once), in_flight (1 to
 * 100000; default 64), timeout (default 30 s), retry (see retry_policy()), on_failure (block_key, park_key
 * or skip; default block_key), circuit (failures: 5, open_for: 5 s, max_open_for: 5 min), rate (messages a
 * second; default null: no limit), burst (default 1), max_hops (default 16), max_age, max_bytes (default null:
 * no limit).  Checked by the module at once; no network.
 * Errors: VS008, VS010, 22004, 22023, 42501.
 */
CREATE OR REPLACE FUNCTION evstore.create_relay(name text, sink text, config jsonb DEFAULT '{}',
	filter jsonb DEFAULT '{}', start text DEFAULT 'beginning', options jsonb DEFAULT '{}')
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_create_relay';
COMMENT ON FUNCTION evstore.create_relay(text, text, jsonb, jsonb, text, jsonb) IS 'send events to a broker, in order';

/*
 * alter_relay(name, config, filter, options, owner): what is null stays.
 *
 * The sink and the ordering key cannot be changed.  What is on its way is waited for.
 * The caller must be able to act as the relay's owner, and as the new one.
 * Errors: VS009, VS010, 42501.
 */
CREATE OR REPLACE FUNCTION evstore.alter_relay(name text, config jsonb DEFAULT NULL, filter jsonb DEFAULT NULL,
	options jsonb DEFAULT NULL, owner regrole DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_alter_relay';
COMMENT ON FUNCTION evstore.alter_relay(text, jsonb, jsonb, jsonb, regrole) IS
	'change a relay''s configuration, filter, options or owner';

CREATE OR REPLACE FUNCTION evstore.pause_relay(name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name, 'relay');
BEGIN
	UPDATE evstore.subscription x SET paused = true WHERE x.id = s.id AND NOT x.paused;
	PERFORM evstore._audit('pause_relay', jsonb_build_object('relay', name));
	PERFORM evstore._kick(s.id);
END
$$;
COMMENT ON FUNCTION evstore.pause_relay(text) IS 'send nothing more until resume_relay(); what is on its way is waited for';

/*
 * resume_relay(name): go on after pause_relay(), or after the sink has stopped it.
 * An open circuit is tried at once.
 */
CREATE OR REPLACE FUNCTION evstore.resume_relay(name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name, 'relay');
BEGIN
	-- it is opened anew, with the circuit closed
	UPDATE evstore.relay r SET faulted = false, resumed_at = clock_timestamp() WHERE r.id = s.id;
	UPDATE evstore.subscription x SET paused = false WHERE x.id = s.id AND x.paused;
	PERFORM evstore._audit('resume_relay', jsonb_build_object('relay', name));
	PERFORM evstore._kick(s.id);
END
$$;
COMMENT ON FUNCTION evstore.resume_relay(text) IS 'go on after a pause, or after the sink has stopped it';

/*
 * seek_relay(name, start) -> bigint: begin anew after a position.
 *
 * Events that failed come again if they are after it; what was parked before it
 * stays parked.  What is on its way may arrive.  Errors: VS009, 22023.
 */
CREATE OR REPLACE FUNCTION evstore.seek_relay(name text, start text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name, 'relay');
	begins bigint := evstore._start_position(start);
BEGIN
	PERFORM evstore._slots_lock(s.id, 1);
	DELETE FROM evstore.failed_event f
	WHERE f.subscription_id = s.id AND (f.state <> 'parked' OR f."position" > begins);
	PERFORM evstore._slot_reset(s.id, 0, begins);
	PERFORM evstore._saga_relay_gone(name, begins, 'Relay.Skipped');
	UPDATE evstore.relay r SET trust_from = evstore._last_position() WHERE r.id = s.id;
	PERFORM evstore._audit('seek_relay', jsonb_build_object('relay', name, 'start', start, 'position', begins));
	PERFORM evstore._kick(s.id);
	RETURN begins;
END
$$;
COMMENT ON FUNCTION evstore.seek_relay(text, text) IS 'let a relay begin anew at a position or time';

CREATE OR REPLACE FUNCTION evstore.drop_relay(name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name, 'relay');
BEGIN
	PERFORM evstore._slots_lock(s.id, 1);
	DELETE FROM evstore.relay_status t WHERE t.id = s.id;
	DELETE FROM evstore.relay r WHERE r.id = s.id;
	DELETE FROM evstore.failed_event f WHERE f.subscription_id = s.id;
	DELETE FROM evstore.slot_state t WHERE t.subscription_id = s.id;
	PERFORM evstore._saga_relay_gone(name, NULL, 'Relay.Dropped');
	PERFORM evstore._audit('drop_relay', jsonb_build_object('relay', name));
	PERFORM evstore._kick(s.id);
	DELETE FROM evstore.subscription x WHERE x.id = s.id;
END
$$;
COMMENT ON FUNCTION evstore.drop_relay(text) IS 'remove a relay, with its parked events';

/*
 * replay_parked_relay(name, at_position, key, data, max_count) -> integer: how many
 *
 * As replay_parked(), for a relay: its parked events are sent again, those of a
 * key in order.
 */
CREATE OR REPLACE FUNCTION evstore.replay_parked_relay(name text, at_position bigint DEFAULT NULL,
	key text DEFAULT NULL, data jsonb DEFAULT NULL, max_count bigint DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name, 'relay');
BEGIN
	RETURN evstore.replay_parked(s.name, at_position, key, data, max_count);
END
$$;
COMMENT ON FUNCTION evstore.replay_parked_relay(text, bigint, text, jsonb, bigint) IS 'send a relay''s parked events again';

/*
 * run_relay(name, max_count) -> bigint: how many messages were acknowledged
 *
 * Sends what there is in the caller's session and transaction, until there is
 * nothing left that could be sent now: for tests, and for servers without workers.
 * Errors: VS009, 22023, 55000 (its worker runs; it is paused; in a transaction that has appended), 57P03.
 */
CREATE OR REPLACE FUNCTION evstore.run_relay(name text, max_count bigint DEFAULT NULL) RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_run_relay';
COMMENT ON FUNCTION evstore.run_relay(text, bigint) IS 'have a relay send what there is now, from this session';

/*
 * test_relay(name, timeout) -> (result, code, detail, latency_ms): what the other side says
 *
 * Sends one synthetic message of type evstore.test from this session.  result: ok,
 * duplicate, retry, outage, permanent, fatal or timeout.  Errors: VS009, VS010, 22023.
 */
CREATE OR REPLACE FUNCTION evstore.test_relay(name text, timeout interval DEFAULT '10 seconds',
	OUT result text, OUT code integer, OUT detail text, OUT latency_ms double precision)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_test_relay';
COMMENT ON FUNCTION evstore.test_relay(text, interval) IS 'send one synthetic message, and report what the other side says';

-- The status of a relay, with what has been added to it.
CREATE OR REPLACE FUNCTION evstore._relay_note(relay bigint, circuit text, open_until timestamptz, outages integer,
	counts bigint[], latency_ms double precision, error text, failing boolean DEFAULT false)
RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO evstore.relay_status AS t (id, circuit, circuit_since, open_until, outages, failing, opened, sent, duplicates,
		failures, bytes, latency_ms, last_sent_at, error, error_at)
	SELECT r.id, _relay_note.circuit, evstore._now(), _relay_note.open_until, _relay_note.outages, _relay_note.failing, counts[1], counts[2],
		counts[3], counts[4], counts[5], _relay_note.latency_ms, CASE WHEN counts[2] > 0 THEN evstore._now() END,
		_relay_note.error, CASE WHEN _relay_note.error IS NOT NULL THEN evstore._now() END
	FROM evstore.relay r WHERE r.id = relay
	ON CONFLICT (id) DO UPDATE
	SET circuit = excluded.circuit,
		circuit_since = CASE WHEN t.circuit <> excluded.circuit THEN excluded.circuit_since ELSE t.circuit_since END,
		open_until = excluded.open_until, outages = excluded.outages, failing = excluded.failing,
		opened = t.opened + excluded.opened, sent = t.sent + excluded.sent,
		duplicates = t.duplicates + excluded.duplicates, failures = t.failures + excluded.failures,
		bytes = t.bytes + excluded.bytes, latency_ms = COALESCE(excluded.latency_ms, t.latency_ms),
		last_sent_at = COALESCE(excluded.last_sent_at, t.last_sent_at),
		error = COALESCE(excluded.error, t.error), error_at = COALESCE(excluded.error_at, t.error_at);
END;
COMMENT ON FUNCTION evstore._relay_note(bigint, text, timestamptz, integer, bigint[], double precision, text, boolean) IS
	'writes down what a relay has done';

-- An event could not be sent.  action: retry or park, with the reason.
CREATE OR REPLACE FUNCTION evstore._relay_failed(sub bigint, after bigint, at_position bigint, error text, action text,
	delay interval, reason text)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM evstore._failed_nack(sub, 0, after, at_position, error, action, delay);
	IF action = 'park' THEN
		UPDATE evstore.failed_event f SET reason = _relay_failed.reason
		WHERE f.subscription_id = sub AND f."position" = at_position AND f.state = 'parked';
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._relay_failed(bigint, bigint, bigint, text, text, interval, text) IS 'an event could not be sent';

-- The other side has more than there is in the log: it is of a log that has been lost,
-- by a restore or a failover.  From now on nothing that it has is this relay's.
CREATE OR REPLACE FUNCTION evstore._relay_renew(relay bigint) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	UPDATE evstore.relay r SET token = gen_random_uuid() WHERE r.id = relay;
END;
COMMENT ON FUNCTION evstore._relay_renew(bigint) IS 'makes a relay another one for the other side';

-- The sink says that there is no point in going on.
CREATE OR REPLACE FUNCTION evstore._relay_fault(relay bigint) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	UPDATE evstore.relay r SET faulted = true WHERE r.id = relay AND NOT r.faulted;
END;
COMMENT ON FUNCTION evstore._relay_fault(bigint) IS 'stops a relay until resume_relay()';

/*
 * publish(topic, data, key, headers, type, event_id) -> (stream, version, position): a message for the outside.
 *
 * For applications that want an outbox and nothing else: an event in stream outbox-<topic>, or with
 * a key in outbox-<topic>-<key>; messages of a stream are sent in order.  headers: an object of
 * strings that goes along.  Relays take the topic for theirs unless they have a template.
 * Errors: those of append(), 22023.
 */
CREATE OR REPLACE FUNCTION evstore.publish(topic text, data jsonb, key text DEFAULT NULL, headers jsonb DEFAULT NULL,
	type text DEFAULT 'message', event_id uuid DEFAULT NULL, OUT stream text, OUT version bigint, OUT "position" bigint)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF topic IS NULL OR topic = '' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'argument "topic" must not be null or empty';
	END IF;
	IF headers IS NOT NULL AND (jsonb_typeof(headers) <> 'object' OR EXISTS (SELECT FROM jsonb_each(
			CASE jsonb_typeof(headers) WHEN 'object' THEN headers ELSE '{}' END) h WHERE jsonb_typeof(h.value) <> 'string')) THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'argument "headers" must be an object of strings';
	END IF;
	stream := concat_ws('-', 'outbox', topic, key);
	SELECT a.version, a."position" INTO version, "position"
	FROM evstore.append(stream, publish.type, publish.data, jsonb_strip_nulls(jsonb_build_object('topic', topic,
		'key', key, 'headers', headers)), event_id => publish.event_id) a;
END
$$;
COMMENT ON FUNCTION evstore.publish(text, jsonb, text, jsonb, text, uuid) IS 'a message for relays to send: the transactional outbox';
