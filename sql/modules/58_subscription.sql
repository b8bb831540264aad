-- Subscriptions.  Those that C code does not do itself run as evstore's owner,
-- so the right to call them is the right to do it.

/*
 * create_subscription(name, filter, start, slots, options, if_not_exists)
 *   -> bigint: the position after which it begins
 *
 * name: 1 to 51 bytes, and no $ first.  filter: as in read_all().  start: beginning, end, a
 * position, or a time.  slots: 1 to 256, in how many parts the events are
 * divided by the hash of their ordering key; one consumer has a slot at a time.
 * options: lease (seconds or an interval, default evstore.default_lease), retry
 * (see retry_policy()), on_failure (block_key, park_key or skip; default
 * block_key), key (stream, correlation or a jsonpath; default stream), notify
 * (default false).  Errors: VS008, VS010, 22023.
 */
CREATE OR REPLACE FUNCTION evstore.create_subscription(name text, filter jsonb DEFAULT '{}',
	start text DEFAULT 'beginning', slots integer DEFAULT 1, options jsonb DEFAULT '{}',
	if_not_exists boolean DEFAULT false)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription;
	begins bigint;
BEGIN
	IF name IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'argument "name" must not be null';
	END IF;
	IF octet_length(name) NOT BETWEEN 1 AND 51 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = 'the name of a subscription must have 1 to 51 bytes';
	ELSIF name LIKE '$%' THEN
		-- those of rebuilds and automatic snapshots
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = 'the name of a subscription must not begin with $';
	END IF;
	PERFORM evstore._check_slots(slots);
	PERFORM evstore._check_filter(COALESCE(filter, '{}'));
	begins := evstore._start_position(start);
	s.name := name;
	s.filter := COALESCE(filter, '{}');
	s.key := 'stream';
	s.slots := slots;
	s.retry := evstore.retry_policy();
	s.on_failure := 'block_key';
	s.notify := false;
	s := evstore._subscription_options(s, COALESCE(options, '{}'));

	INSERT INTO evstore.subscription (name, filter, key, slots, lease, retry, on_failure, notify, paused,
		created_at)
	VALUES (s.name, s.filter, s.key, s.slots, s.lease, s.retry, s.on_failure, s.notify, false,
		clock_timestamp())
	ON CONFLICT DO NOTHING
	RETURNING id INTO s.id;
	IF s.id IS NULL THEN
		IF if_not_exists THEN
			RETURN (SELECT min(t.checkpoint) FROM evstore.subscription_slots t
				WHERE t.subscription = create_subscription.name);
		END IF;
		RAISE EXCEPTION USING ERRCODE = 'VS008',
			MESSAGE = (SELECT format('%s "%s" already exists', x.kind, x.name)
				FROM evstore.subscription x WHERE x.name = create_subscription.name),
			DETAIL = jsonb_build_object('subscription', name)::text;
	END IF;
	FOR i IN 0 .. slots - 1 LOOP
		PERFORM evstore._slot_reset(s.id, i, begins);
	END LOOP;
	RETURN begins;
END
$$;
COMMENT ON FUNCTION evstore.create_subscription(text, jsonb, text, integer, jsonb, boolean) IS
	'a named cursor over the log, for one consumer or a group';

/*
 * alter_subscription(name, filter, slots, options): what is null stays.
 *
 * The filter counts for events that are not acknowledged yet.  The number of
 * slots changes when the old ones have done all there is at this moment; the
 * ordering key cannot be changed.  Errors: VS009, VS010, 22023.
 */
CREATE OR REPLACE FUNCTION evstore.alter_subscription(name text, filter jsonb DEFAULT NULL,
	slots integer DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name);
	o evstore.subscription := s;
BEGIN
	IF filter IS NOT NULL THEN
		PERFORM evstore._check_filter(filter);
		s.filter := filter;
	END IF;
	IF options IS NOT NULL THEN
		s := evstore._subscription_options(s, options);
		IF s.key <> o.key THEN
			PERFORM evstore._invalid('$.options.key', 'cannot be changed: create another subscription');
		END IF;
	END IF;
	IF slots IS NOT NULL THEN
		PERFORM evstore._check_slots(slots);
		IF slots <> s.slots OR s.next_slots IS NOT NULL THEN
			-- nobody can have been given more than what is safe now
			PERFORM evstore._slots_lock(s.id, s.slots);
			s.next_slots := slots;
			s.drain_to := COALESCE(s.drain_to, GREATEST(evstore.safe_position(),
				(SELECT max(t.cursor) FROM evstore.subscription_slots t WHERE t.subscription = s.name)));
		END IF;
	END IF;
	UPDATE evstore.subscription x
	SET filter = s.filter, lease = s.lease, retry = s.retry, on_failure = s.on_failure,
		notify = s.notify, next_slots = s.next_slots, drain_to = s.drain_to
	WHERE x.id = s.id;
	IF s.on_failure <> o.on_failure THEN
		PERFORM evstore._slots_rearrange(s.id, s.slots);
	END IF;
	PERFORM evstore._kick(s.id);
END
$$;
COMMENT ON FUNCTION evstore.alter_subscription(text, jsonb, integer, jsonb) IS
	'change a subscription''s filter, number of slots or options';

CREATE OR REPLACE FUNCTION evstore.drop_subscription(name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name);
BEGIN
	PERFORM evstore._slots_lock(s.id, s.slots);
	DELETE FROM evstore.failed_event f WHERE f.subscription_id = s.id;
	DELETE FROM evstore.subscription_member m WHERE m.subscription_id = s.id;
	DELETE FROM evstore.slot_state t WHERE t.subscription_id = s.id;
	DELETE FROM evstore.subscription x WHERE x.id = s.id;
	PERFORM evstore._audit('drop_subscription', jsonb_build_object('subscription', name));
	PERFORM evstore._kick(s.id);
END
$$;
COMMENT ON FUNCTION evstore.drop_subscription(text) IS 'remove a subscription, with its parked events';

CREATE OR REPLACE FUNCTION evstore.pause_subscription(name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name);
BEGIN
	UPDATE evstore.subscription x SET paused = true WHERE x.id = s.id AND NOT x.paused;
END
$$;
COMMENT ON FUNCTION evstore.pause_subscription(text) IS
	'give out no events until resume_subscription(); what has been given out may be acknowledged';

CREATE OR REPLACE FUNCTION evstore.resume_subscription(name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name);
BEGIN
	UPDATE evstore.subscription x SET paused = false WHERE x.id = s.id AND x.paused;
	PERFORM evstore._kick(s.id);
END
$$;
COMMENT ON FUNCTION evstore.resume_subscription(text) IS 'go on after pause_subscription()';

/*
 * seek(name, start) -> bigint: let all slots begin anew after a position.
 *
 * Whoever has a slot is fenced: its ack() is VS007.  Events that failed come
 * again, if they are after the position; what was parked before it stays
 * parked.  Errors: VS009, 22023.
 */
CREATE OR REPLACE FUNCTION evstore.seek(name text, start text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name);
	begins bigint := evstore._start_position(start);
BEGIN
	PERFORM evstore._slots_lock(s.id, s.slots);
	IF s.next_slots IS NOT NULL THEN
		PERFORM evstore._slots_switch(s.id);
		s.slots := s.next_slots;
	END IF;
	DELETE FROM evstore.failed_event f
	WHERE f.subscription_id = s.id AND (f.state <> 'parked' OR f."position" > begins);
	FOR i IN 0 .. s.slots - 1 LOOP
		PERFORM evstore._slot_reset(s.id, i, begins);
	END LOOP;
	PERFORM evstore._audit('seek', jsonb_build_object('subscription', name, 'start', start,
		'position', begins));
	RETURN begins;
END
$$;
COMMENT ON FUNCTION evstore.seek(text, text) IS 'let a subscription begin anew at a position or time';

-- Consumers.

/*
 * fetch(name, consumer, max_count, wait_ms)
 *   -> setof (slot, epoch, attempt, and the columns of evstore.event)
 *
 * Events after those acknowledged, of the slots that this consumer has or can
 * have: in order within a slot.  The same ones again until ack() or nack().
 * max_count 0 to 10000; wait_ms 0 to 3600000: how long to wait if there is
 * nothing.  It may return earlier with nothing.  Errors: VS009, 22023, 55000
 * (waiting in a transaction that has appended).
 */
CREATE OR REPLACE FUNCTION evstore.fetch(name text, consumer text, max_count bigint DEFAULT 100,
	wait_ms bigint DEFAULT 0)
RETURNS TABLE (slot integer, epoch bigint, attempt integer, "position" bigint, stream text,
	version bigint, event_id uuid, type text, schema_version integer, data jsonb, metadata jsonb,
	correlation_id text, causation_id uuid, source text, occurred_at timestamptz,
	recorded_at timestamptz, tags text[])
LANGUAGE C VOLATILE ROWS 100 AS 'MODULE_PATHNAME', 'evs_fetch';
COMMENT ON FUNCTION evstore.fetch(text, text, bigint, bigint) IS
	'a consumer''s next events, in order; claims and renews its slots';

CREATE OR REPLACE PROCEDURE evstore.wait_for_events(name text, wait_ms bigint DEFAULT 20000,
	consumer text DEFAULT NULL)
LANGUAGE C AS 'MODULE_PATHNAME', 'evs_wait_for_events';
COMMENT ON PROCEDURE evstore.wait_for_events(text, bigint, text) IS
	'wait for something to fetch, without holding a snapshot';

CREATE OR REPLACE FUNCTION evstore.ack(name text, slot integer, epoch bigint, up_to bigint)
RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_ack';
COMMENT ON FUNCTION evstore.ack(text, integer, bigint, bigint) IS
	'all events given from the slot up to a position are done; returns the checkpoint';

CREATE OR REPLACE FUNCTION evstore.ack_events(name text, slot integer, epoch bigint, positions bigint[])
RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_ack_events';
COMMENT ON FUNCTION evstore.ack_events(text, integer, bigint, bigint[]) IS
	'these events are done, and others before the last of them come again; returns the checkpoint';

CREATE OR REPLACE FUNCTION evstore.nack(name text, slot integer, epoch bigint, at_position bigint,
	error text DEFAULT NULL, action text DEFAULT 'retry', delay interval DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_nack';
COMMENT ON FUNCTION evstore.nack(text, integer, bigint, bigint, text, text, interval) IS
	'an event failed: retry, defer, park or skip it; or bisect the batch that ends with it';

CREATE OR REPLACE FUNCTION evstore.extend(name text, slot integer, epoch bigint, lease interval DEFAULT NULL)
RETURNS timestamptz
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_extend';
COMMENT ON FUNCTION evstore.extend(text, integer, bigint, interval) IS
	'keep a claim for another lease; returns until when';

CREATE OR REPLACE FUNCTION evstore.release(name text, consumer text) RETURNS integer
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_release';
COMMENT ON FUNCTION evstore.release(text, text) IS
	'give back all slots of a consumer that ends; returns how many';

/*
 * dedupe_events(events) -> setof evstore.event: each event once, by position.
 *
 * For consumers that gather events from several sources.  Events without an id
 * are kept, all of them.
 */
CREATE OR REPLACE FUNCTION evstore.dedupe_events(events evstore.event[]) RETURNS SETOF evstore.event
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d."position", d.stream, d.version, d.event_id, d.type, d.schema_version, d.data, d.metadata,
		d.correlation_id, d.causation_id, d.source, d.occurred_at, d.recorded_at, d.tags
	FROM (SELECT e.*, row_number() OVER (PARTITION BY e.event_id ORDER BY e."position", e.n) AS nth
		FROM unnest(events) WITH ORDINALITY AS e("position", stream, version, event_id, type, schema_version,
			data, metadata, correlation_id, causation_id, source, occurred_at, recorded_at, tags, n)) d
	WHERE d.nth = 1 OR d.event_id IS NULL
	ORDER BY d."position", d.n;
END;
COMMENT ON FUNCTION evstore.dedupe_events(evstore.event[]) IS 'each event once, by position; those without an id are kept';

-- Parked events.

-- Locks the slots of parked events that are meant, and says which those are: what has
-- been parked in another slot meanwhile is not.
CREATE OR REPLACE FUNCTION evstore._parked(s evstore.subscription, at_position bigint, key text,
	max_count bigint)
RETURNS SETOF evstore.failed_event
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	locked integer[];
BEGIN
	SELECT array_agg(x.slot ORDER BY x.slot) INTO locked
	FROM (SELECT DISTINCT (f.key_hash % s.slots)::integer AS slot
		FROM evstore.failed_event f
		WHERE f.subscription_id = s.id AND f.state = 'parked'
			AND (at_position IS NULL OR f."position" = at_position)
			AND (_parked.key IS NULL OR f.key = _parked.key)) x;
	PERFORM evstore._slot_lock(s.id, x.slot) FROM unnest(locked) AS x(slot);
	RETURN QUERY
		SELECT f.*
		FROM evstore.failed_event f
		WHERE f.subscription_id = s.id AND f.state = 'parked'
			AND (at_position IS NULL OR f."position" = at_position)
			AND (_parked.key IS NULL OR f.key = _parked.key)
			AND f.key_hash % s.slots = ANY (locked)
		ORDER BY f."position"
		LIMIT max_count;
	IF NOT FOUND AND at_position IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'VS009',
			MESSAGE = format('subscription "%s" has no parked event at position %s', s.name, at_position),
			DETAIL = jsonb_build_object('subscription', s.name, 'position', at_position)::text;
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._parked(evstore.subscription, bigint, text, bigint) IS 'parked events, their slots locked';

CREATE OR REPLACE FUNCTION evstore._refresh_slots(s evstore.subscription, key_hashes bigint[]) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT evstore._slot_refresh((s).id, x.slot)
	FROM (SELECT DISTINCT (h % (s).slots)::integer AS slot FROM unnest(key_hashes) h ORDER BY 1) x;
END;
COMMENT ON FUNCTION evstore._refresh_slots(evstore.subscription, bigint[]) IS 'looks again what failed events mean for these keys'' slots';

/*
 * replay_parked(name, at_position, key, data, max_count) -> integer: how many
 *
 * One parked event, those of a key, or all, are given out again, those of a key
 * in order; with max_count only so many, the oldest.  data, with at_position only, is delivered in place of the event's
 * own; the event stays as it is.  The checkpoint stays where it is.
 */
CREATE OR REPLACE FUNCTION evstore.replay_parked(name text, at_position bigint DEFAULT NULL,
	key text DEFAULT NULL, data jsonb DEFAULT NULL, max_count bigint DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name, NULL);
	chosen bigint[];
	hashes bigint[];
BEGIN
	IF data IS NOT NULL AND at_position IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = 'argument "data" needs argument "at_position"';
	END IF;
	SELECT array_agg(p."position"), array_agg(DISTINCT p.key_hash) INTO chosen, hashes
	FROM evstore._parked(s, at_position, replay_parked.key, max_count) p;
	IF chosen IS NULL THEN
		RETURN 0;
	END IF;
	UPDATE evstore.failed_event f
	SET state = CASE WHEN s.on_failure = 'skip' THEN 'retry' ELSE 'waiting' END,
		retry_at = CASE WHEN s.on_failure = 'skip' THEN evstore._now() END,
		replayed = f."position" <= (SELECT t.checkpoint FROM evstore.subscription_slots t
			WHERE t.subscription = s.name AND t.slot = f.key_hash % s.slots),
		attempts = 0, behind = NULL, reason = NULL,
		data = COALESCE(replay_parked.data, f.data), first_failed_at = evstore._now()
	WHERE f.subscription_id = s.id AND f."position" = ANY (chosen);
	-- the first of each key, though an earlier one may still be parked
	UPDATE evstore.failed_event f
	SET state = 'retry', retry_at = evstore._now()
	WHERE f.subscription_id = s.id AND f.state = 'waiting'
		AND f."position" IN (SELECT min(g."position") FROM evstore.failed_event g
			WHERE g.subscription_id = s.id AND g."position" = ANY (chosen) GROUP BY g.key_hash)
		AND NOT EXISTS (SELECT FROM evstore.failed_event g
			WHERE g.subscription_id = s.id AND g.key_hash = f.key_hash
				AND g."position" < f."position" AND g.state IN ('retry', 'waiting'));
	PERFORM evstore._audit('replay_parked', jsonb_build_object('subscription', name,
		'positions', to_jsonb(chosen), 'edited', data IS NOT NULL));
	PERFORM evstore._refresh_slots(s, hashes);
	RETURN cardinality(chosen);
END
$$;
COMMENT ON FUNCTION evstore.replay_parked(text, bigint, text, jsonb, bigint) IS 'give parked events out again';

/*
 * discard_parked(name, at_position, key, reason, max_count) -> integer: how many
 *
 * One parked event, those of a key, or all, are done without having been.  What
 * waited behind them goes on.
 */
CREATE OR REPLACE FUNCTION evstore.discard_parked(name text, at_position bigint DEFAULT NULL,
	key text DEFAULT NULL, reason text DEFAULT NULL, max_count bigint DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name, NULL);
	chosen bigint[];
	hashes bigint[];
BEGIN
	SELECT array_agg(p."position"), array_agg(DISTINCT p.key_hash) INTO chosen, hashes
	FROM evstore._parked(s, at_position, discard_parked.key, max_count) p;
	IF chosen IS NULL THEN
		RETURN 0;
	END IF;
	-- a cursor that has not passed one yet must find it done
	DELETE FROM evstore.failed_event f
	WHERE f.subscription_id = s.id AND f."position" = ANY (chosen)
		AND f."position" <= (SELECT t.cursor FROM evstore.subscription_slots t
			WHERE t.subscription = s.name AND t.slot = f.key_hash % s.slots);
	UPDATE evstore.failed_event f SET state = 'done'
	WHERE f.subscription_id = s.id AND f."position" = ANY (chosen);
	PERFORM evstore._failed_promote(s.id, hashes);
	PERFORM evstore._audit('discard_parked', jsonb_build_object('subscription', name,
		'positions', to_jsonb(chosen), 'reason', reason));
	PERFORM evstore._refresh_slots(s, hashes);
	RETURN cardinality(chosen);
END
$$;
COMMENT ON FUNCTION evstore.discard_parked(text, bigint, text, text, bigint) IS 'give parked events up';
