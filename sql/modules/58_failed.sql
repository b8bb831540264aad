-- Failed events: called from src/subscription/failed.c as the owner, with the
-- slot locked.  A slot's rows are those whose key_hash falls to it.
--
-- An event that the filter failed on (parked, reason filter_error) keeps no other
-- event of its key back: it may never have been meant for the subscription.

-- Which keys must wait, from which position on, which events beyond the cursor
-- have rows, and when the next one before it is due: what has been delivered is,
-- whatever the clock says now.
CREATE OR REPLACE FUNCTION evstore._failed_load(sub bigint, slot integer, after bigint,
	OUT key_hashes bigint[], OUT wait_from bigint[], OUT positions bigint[], OUT next_retry timestamptz)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription;
BEGIN
	SELECT * INTO s FROM evstore.subscription x WHERE x.id = sub;
	IF s.on_failure <> 'skip' THEN
		SELECT array_agg(k.key_hash ORDER BY k.key_hash), array_agg(k."first" ORDER BY k.key_hash)
		INTO key_hashes, wait_from
		FROM (SELECT f.key_hash, min(f."position") AS "first"
			FROM evstore.failed_event f
			WHERE f.subscription_id = sub AND f.key_hash % s.slots = slot AND f.state NOT IN ('done', 'deferred')
				AND f.reason IS DISTINCT FROM 'filter_error'
			GROUP BY 1) k;
	END IF;
	SELECT array_agg(f."position" ORDER BY f."position") INTO positions
	FROM evstore.failed_event f
	WHERE f.subscription_id = sub AND f."position" > after AND f.key_hash % s.slots = slot;
	SELECT min(CASE WHEN f.delivered_epoch IS NULL THEN f.retry_at ELSE '-infinity' END) INTO next_retry
	FROM evstore.failed_event f
	WHERE f.subscription_id = sub AND f.state IN ('retry', 'deferred') AND f."position" <= after
		AND f.key_hash % s.slots = slot;
END
$$;
COMMENT ON FUNCTION evstore._failed_load(bigint, integer, bigint) IS 'what failed events mean for new ones of a slot';

-- What the slot's failed events mean for its state.
CREATE OR REPLACE FUNCTION evstore._failed_summary(sub bigint, slot integer, after bigint,
	OUT pending boolean, OUT lowest bigint)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription;
BEGIN
	SELECT * INTO s FROM evstore.subscription x WHERE x.id = sub;
	pending := EXISTS (SELECT FROM evstore.failed_event f
		WHERE f.subscription_id = sub AND f.key_hash % s.slots = slot
			AND (f.state IN ('retry', 'waiting', 'deferred') OR f."position" > after
				OR (s.on_failure <> 'skip' AND f.reason IS DISTINCT FROM 'filter_error')));
	SELECT min(f."position") INTO lowest
	FROM evstore.failed_event f
	WHERE f.subscription_id = sub AND f.key_hash % s.slots = slot AND f."position" <= after
		AND f.state IN ('retry', 'waiting', 'deferred') AND NOT f.replayed;
END
$$;
COMMENT ON FUNCTION evstore._failed_summary(bigint, integer, bigint) IS 'is anything of the slot pending, and from where';

-- Park a row, and what is behind it as the policy says.
CREATE OR REPLACE FUNCTION evstore._failed_park(sub bigint, at_position bigint, reason text, error text)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	policy text := (SELECT x.on_failure FROM evstore.subscription x WHERE x.id = sub);
	hash bigint;
BEGIN
	UPDATE evstore.failed_event f
	SET state = 'parked', retry_at = NULL, delivered_epoch = NULL, behind = NULL,
		reason = _failed_park.reason, error = COALESCE(_failed_park.error, f.error),
		last_failed_at = evstore._now()
	WHERE f.subscription_id = sub AND f."position" = at_position
	RETURNING f.key_hash INTO hash;
	IF policy = 'park_key' THEN
		UPDATE evstore.failed_event f
		SET state = 'parked', retry_at = NULL, delivered_epoch = NULL,
			reason = 'behind', behind = at_position
		WHERE f.subscription_id = sub AND f.key_hash = hash AND f."position" > at_position
			AND f.state IN ('retry', 'waiting');
	ELSIF policy = 'block_key' THEN
		UPDATE evstore.failed_event f
		SET state = 'waiting', retry_at = NULL, delivered_epoch = NULL
		WHERE f.subscription_id = sub AND f.key_hash = hash AND f."position" > at_position
			AND f.state = 'retry';
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._failed_park(bigint, bigint, text, text) IS 'parks an event, and what is behind it as the policy says';

-- An event that was not delivered gets a parked row, unless it has one.
CREATE OR REPLACE FUNCTION evstore._failed_park_unseen(sub bigint, at_position bigint, reason text, error text)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO evstore.failed_event (subscription_id, "position", key_hash, key, state, attempts,
		reason, error, first_failed_at, last_failed_at)
	SELECT sub, at_position, k.key_hash, k.key, 'parked', 0, _failed_park_unseen.reason, _failed_park_unseen.error,
		evstore._now(), evstore._now()
	FROM evstore.subscription s CROSS JOIN LATERAL evstore._event_key(s.name, at_position) k
	WHERE s.id = sub
	ON CONFLICT DO NOTHING;
	IF FOUND AND reason <> 'filter_error' THEN
		PERFORM evstore._failed_park(sub, at_position, reason, error);
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._failed_park_unseen(bigint, bigint, text, text) IS 'parks an event that was not delivered';

-- Something of these keys is done: what waited for it is due.
CREATE OR REPLACE FUNCTION evstore._failed_promote(sub bigint, key_hashes bigint[]) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	UPDATE evstore.failed_event f
	SET state = 'retry', retry_at = evstore._now(), delivered_epoch = NULL
	FROM evstore.subscription s
	WHERE s.id = sub AND f.subscription_id = sub AND f.key_hash = ANY (key_hashes)
		AND f.state = 'waiting'
		AND NOT EXISTS (SELECT FROM evstore.failed_event g
			WHERE g.subscription_id = sub AND g.key_hash = f.key_hash
				AND g."position" < f."position"
				AND (g.state = 'retry' OR (g.state = 'parked' AND s.on_failure = 'block_key'
					AND g.reason IS DISTINCT FROM 'filter_error')));
END;
COMMENT ON FUNCTION evstore._failed_promote(bigint, bigint[]) IS 'makes due what waited for an event that is done';

-- A row is done with.
CREATE OR REPLACE FUNCTION evstore._failed_resolve(sub bigint, at_position bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	hash bigint;
BEGIN
	DELETE FROM evstore.failed_event f
	WHERE f.subscription_id = sub AND f."position" = at_position
	RETURNING f.key_hash INTO hash;
	PERFORM evstore._failed_promote(sub, ARRAY[hash]);
END
$$;
COMMENT ON FUNCTION evstore._failed_resolve(bigint, bigint) IS 'removes a failed event, and makes due what waited for it';

/*
 * Deliver what is due with a claim, and what has been delivered with it: the
 * claim's ack() takes that for done.  If the claim before ended without a word
 * while it had some of it, one of them may be the reason: the first one counts
 * an attempt, and half of them are delivered this time.  An event is parked when
 * it was alone, and the claim before had no other event at all.
 */
CREATE OR REPLACE FUNCTION evstore._failed_take(sub bigint, slot integer, after bigint, epoch bigint,
	max_count bigint, alone boolean)
RETURNS TABLE (at_position bigint, attempts integer, data jsonb)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription;
	lost bigint[];
	n integer;
BEGIN
	IF max_count <= 0 THEN
		RETURN;
	END IF;
	SELECT * INTO s FROM evstore.subscription x WHERE x.id = sub;
	SELECT array_agg(f."position" ORDER BY f."position") INTO lost
	FROM evstore.failed_event f
	WHERE f.subscription_id = sub AND f.state = 'retry' AND f.delivered_epoch <> epoch
		AND f."position" <= after AND f.key_hash % s.slots = slot;
	IF lost IS NOT NULL THEN
		UPDATE evstore.failed_event f
		SET delivered_epoch = NULL,
			attempts = f.attempts + CASE WHEN f."position" = lost[1] THEN 1 ELSE 0 END
		WHERE f.subscription_id = sub AND f."position" = ANY (lost);
		SELECT f.attempts INTO n
		FROM evstore.failed_event f WHERE f.subscription_id = sub AND f."position" = lost[1];
		IF alone AND cardinality(lost) = 1 AND n >= (s.retry ->> 'max_attempts')::integer THEN
			PERFORM evstore._failed_park(sub, lost[1], 'poison',
				format('its consumer ended %s times while it had the event', n));
		ELSE
			max_count := LEAST(max_count, GREATEST(1, cardinality(lost) / 2));
		END IF;
	END IF;
	RETURN QUERY
		WITH due AS (
			SELECT f."position"
			FROM evstore.failed_event f
			WHERE f.subscription_id = sub AND f.state IN ('retry', 'deferred')
				AND (f.retry_at <= evstore._now() OR f.delivered_epoch = epoch)
				AND f."position" <= after AND f.key_hash % s.slots = slot
			ORDER BY f."position" LIMIT max_count),
		taken AS (
			UPDATE evstore.failed_event f SET state = 'retry', delivered_epoch = epoch
			FROM due
			WHERE f.subscription_id = sub AND f."position" = due."position"
			RETURNING f."position", f.attempts, f.data)
		SELECT taken."position", taken.attempts, taken.data FROM taken ORDER BY 1;
END
$$;
COMMENT ON FUNCTION evstore._failed_take(bigint, integer, bigint, bigint, bigint, boolean) IS 'delivers what is due with a claim';

-- Events in (after, up_to] whose key has an earlier one that is not done get
-- rows; with positions, those that are not among them.
CREATE OR REPLACE FUNCTION evstore._failed_hold(sub bigint, slot integer, after bigint, up_to bigint,
	positions bigint[])
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription;
BEGIN
	SELECT * INTO s FROM evstore.subscription x WHERE x.id = sub;
	INSERT INTO evstore.failed_event (subscription_id, "position", key_hash, key, state, attempts,
		retry_at, reason, behind, first_failed_at, last_failed_at)
	SELECT sub, e.at_position, e.key_hash, e.key,
		CASE WHEN b.state IS NULL THEN 'retry'
			WHEN b.state = 'parked' AND s.on_failure = 'park_key' THEN 'parked'
			ELSE 'waiting' END,
		0,
		CASE WHEN b.state IS NULL THEN evstore._now() END,
		CASE WHEN b.state = 'parked' AND s.on_failure = 'park_key' THEN 'behind' END,
		CASE WHEN b.state = 'parked' AND s.on_failure = 'park_key' THEN b."position" END,
		evstore._now(), evstore._now()
	FROM evstore._slot_events(s.name, slot, after, up_to) e
		LEFT JOIN LATERAL (
			SELECT f.state, f."position"
			FROM evstore.failed_event f
			WHERE f.subscription_id = sub AND f.key_hash = e.key_hash
				AND f."position" < e.at_position AND f.state NOT IN ('done', 'deferred')
				AND f.reason IS DISTINCT FROM 'filter_error'
				AND s.on_failure <> 'skip'
			ORDER BY f.state = 'parked', f."position" LIMIT 1) b ON true
	WHERE NOT EXISTS (SELECT FROM evstore.failed_event f
			WHERE f.subscription_id = sub AND f."position" = e.at_position)
		AND CASE WHEN positions IS NULL THEN b.state IS NOT NULL
			ELSE e.at_position <> ALL (positions) END;
END
$$;
COMMENT ON FUNCTION evstore._failed_hold(bigint, integer, bigint, bigint, bigint[]) IS 'rows for events that cannot be done yet';

/*
 * The cursor goes from after to up_to.  What was delivered with the claim is
 * done; so are the events it passes, but for those whose key has an earlier one
 * that is not.  With positions, only those are done, and the others are due.
 */
CREATE OR REPLACE FUNCTION evstore._failed_pass(sub bigint, slot integer, after bigint, up_to bigint,
	epoch bigint, positions bigint[])
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription;
	done bigint[];
BEGIN
	SELECT * INTO s FROM evstore.subscription x WHERE x.id = sub;
	-- first: what waited for an event that is done now has not been given
	IF up_to > after AND (s.on_failure <> 'skip' OR positions IS NOT NULL) THEN
		PERFORM evstore._failed_hold(sub, slot, after, up_to, positions);
	END IF;
	WITH d AS (
		DELETE FROM evstore.failed_event f
		WHERE f.subscription_id = sub AND f."position" <= up_to AND f.key_hash % s.slots = slot
			AND f.state = 'retry' AND f.delivered_epoch = epoch
			AND (positions IS NULL OR f."position" = ANY (positions))
		RETURNING f.key_hash)
	SELECT array_agg(DISTINCT d.key_hash) INTO done FROM d;

	-- what was put off until a later event of its key
	IF up_to > after AND EXISTS (SELECT FROM evstore.failed_event f
			WHERE f.subscription_id = sub AND f.state = 'deferred' AND f.key_hash % s.slots = slot) THEN
		UPDATE evstore.failed_event f
		SET state = 'retry', retry_at = evstore._now()
		FROM evstore._slot_events(s.name, slot, after, up_to) e
		WHERE f.subscription_id = sub AND f.state = 'deferred' AND f.key_hash = e.key_hash
			AND f."position" < e.at_position;
	END IF;
	DELETE FROM evstore.failed_event f
	WHERE f.subscription_id = sub AND f.state = 'done' AND f."position" <= up_to
		AND f.key_hash % s.slots = slot;
	IF done IS NOT NULL THEN
		PERFORM evstore._failed_promote(sub, done);
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._failed_pass(bigint, integer, bigint, bigint, bigint, bigint[]) IS 'the cursor of a slot goes on';

-- An event is to be retried, but not before an earlier one of its key.  One that
-- was given alone, after those before it had been parked, does not mind them.
CREATE OR REPLACE FUNCTION evstore._failed_wait(sub bigint, at_position bigint, after bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	policy text := (SELECT x.on_failure FROM evstore.subscription x WHERE x.id = sub);
	b record;
BEGIN
	SELECT g.state, g."position" INTO b
	FROM evstore.failed_event f JOIN evstore.failed_event g USING (subscription_id, key_hash)
	WHERE f.subscription_id = sub AND f."position" = at_position AND g."position" < at_position
		AND (g.state IN ('retry', 'waiting') OR (g.state = 'parked' AND at_position > after
			AND g.reason IS DISTINCT FROM 'filter_error'))
	ORDER BY g.state = 'parked', g."position" LIMIT 1;
	IF NOT FOUND THEN
		RETURN;
	ELSIF b.state = 'parked' AND policy = 'park_key' THEN
		UPDATE evstore.failed_event f
		SET state = 'parked', retry_at = NULL, reason = 'behind', behind = b."position"
		WHERE f.subscription_id = sub AND f."position" = at_position;
	ELSE
		UPDATE evstore.failed_event f SET state = 'waiting', retry_at = NULL
		WHERE f.subscription_id = sub AND f."position" = at_position;
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._failed_wait(bigint, bigint, bigint) IS 'lets an event wait for an earlier one of its key';

-- One event failed.
CREATE OR REPLACE FUNCTION evstore._failed_nack(sub bigint, slot integer, after bigint, at_position bigint,
	error text, action text, delay interval)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription;
	r evstore.failed_event;
	e record;
	moment timestamptz := evstore._now();
	n integer;
BEGIN
	SELECT * INTO s FROM evstore.subscription x WHERE x.id = sub;
	SELECT * INTO r FROM evstore.failed_event f
	WHERE f.subscription_id = sub AND f."position" = at_position AND f.key_hash % s.slots = slot;
	IF NOT FOUND THEN
		SELECT x.key_hash, x.key INTO e
		FROM evstore._slot_events(s.name, slot, at_position - 1, at_position) x;
		IF NOT FOUND OR at_position <= after THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
				MESSAGE = format('position %s is not an event that slot %s of subscription "%s" has to do',
					at_position, slot, s.name);
		END IF;
		INSERT INTO evstore.failed_event (subscription_id, "position", key_hash, key, state, attempts,
			first_failed_at, last_failed_at)
		VALUES (sub, at_position, e.key_hash, e.key, 'waiting', 0, moment, moment)
		RETURNING * INTO r;
	ELSIF r.state IN ('parked', 'done') THEN
		RETURN;
	END IF;

	n := r.attempts + 1;
	UPDATE evstore.failed_event f
	SET attempts = n, error = _failed_nack.error, last_failed_at = moment, delivered_epoch = NULL,
		state = 'retry', retry_at = moment + COALESCE(delay, evstore.retry_delay(s.retry, n))
	WHERE f.subscription_id = sub AND f."position" = at_position;

	IF action = 'skip' THEN
		IF at_position <= after THEN
			PERFORM evstore._failed_resolve(sub, at_position);
		ELSE
			UPDATE evstore.failed_event f SET state = 'done', retry_at = NULL
			WHERE f.subscription_id = sub AND f."position" = at_position;
			PERFORM evstore._failed_promote(sub, ARRAY[r.key_hash]);
		END IF;
	ELSIF action = 'park' THEN
		PERFORM evstore._failed_park(sub, at_position, 'manual', error);
	ELSIF n >= (s.retry ->> 'max_attempts')::integer THEN
		PERFORM evstore._failed_park(sub, at_position, 'max_attempts', error);
	ELSIF moment - r.first_failed_at >= make_interval(secs => (s.retry ->> 'max_age')::double precision) THEN
		PERFORM evstore._failed_park(sub, at_position, 'expired', error);
	ELSIF action = 'defer' THEN
		UPDATE evstore.failed_event f
		SET state = 'deferred',
			retry_at = moment + COALESCE(delay, make_interval(secs => (s.retry ->> 'max')::double precision))
		WHERE f.subscription_id = sub AND f."position" = at_position;
		PERFORM evstore._failed_promote(sub, ARRAY[r.key_hash]);
	ELSIF s.on_failure <> 'skip' THEN
		UPDATE evstore.failed_event f
		SET state = 'waiting', retry_at = NULL, delivered_epoch = NULL
		WHERE f.subscription_id = sub AND f.key_hash = r.key_hash AND f."position" > at_position
			AND f.state = 'retry';
		PERFORM evstore._failed_wait(sub, at_position, after);
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._failed_nack(bigint, integer, bigint, bigint, text, text, interval) IS 'an event failed';

-- Of a batch that failed as one: how many events were given again in it.
CREATE OR REPLACE FUNCTION evstore._failed_count_delivered(sub bigint, slot integer, epoch bigint, up_to bigint)
RETURNS integer
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT count(*)::integer
	FROM evstore.failed_event f JOIN evstore.subscription s ON s.id = f.subscription_id
	WHERE f.subscription_id = sub AND f.state = 'retry' AND f.delivered_epoch = epoch
		AND f."position" <= up_to AND f.key_hash % s.slots = slot;
END;
COMMENT ON FUNCTION evstore._failed_count_delivered(bigint, integer, bigint, bigint) IS 'how many failed events are delivered with a claim';

-- The first event after the cursor ended its consumer too often.
CREATE OR REPLACE FUNCTION evstore._failed_park_head(sub bigint, slot integer, after bigint, head bigint,
	attempts integer)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO evstore.failed_event (subscription_id, "position", key_hash, key, state, attempts,
		first_failed_at, last_failed_at)
	SELECT sub, e.at_position, e.key_hash, e.key, 'retry', _failed_park_head.attempts,
		evstore._now(), evstore._now()
	FROM evstore.subscription s
		CROSS JOIN LATERAL evstore._slot_events(s.name, slot, head - 1, head) e
	WHERE s.id = sub AND head > after
	ON CONFLICT DO NOTHING;
	IF FOUND THEN
		PERFORM evstore._failed_park(sub, head, 'poison',
			format('its consumer ended %s times while it had the event', attempts));
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._failed_park_head(bigint, integer, bigint, bigint, integer) IS 'parks an event that ends its consumers';

-- Whoever has a claim gives it up, and is not to be blamed for what it had.
CREATE OR REPLACE FUNCTION evstore._failed_release(sub bigint, slot integer) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	UPDATE evstore.failed_event f SET delivered_epoch = NULL
	FROM evstore.subscription s
	WHERE s.id = sub AND f.subscription_id = sub AND f.key_hash % s.slots = slot
		AND f.delivered_epoch IS NOT NULL;
END;
COMMENT ON FUNCTION evstore._failed_release(bigint, integer) IS 'what was delivered with a claim is not any more';

/*
 * on_failure has changed: what waited for an event may have to do so no longer,
 * and the other way round.  All slots are locked.
 */
CREATE OR REPLACE FUNCTION evstore._failed_rearrange(sub bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	policy text := (SELECT x.on_failure FROM evstore.subscription x WHERE x.id = sub);
BEGIN
	IF policy = 'park_key' THEN
		UPDATE evstore.failed_event f
		SET state = 'parked', retry_at = NULL, delivered_epoch = NULL, reason = 'behind', behind = p."position"
		FROM (SELECT g.key_hash, min(g."position") AS "position" FROM evstore.failed_event g
			WHERE g.subscription_id = sub AND g.state = 'parked'
				AND g.reason IS DISTINCT FROM 'filter_error' GROUP BY 1) p
		WHERE f.subscription_id = sub AND f.key_hash = p.key_hash AND f."position" > p."position"
			AND f.state = 'waiting';
	END IF;
	IF policy = 'skip' THEN
		UPDATE evstore.failed_event f SET state = 'retry', retry_at = evstore._now()
		WHERE f.subscription_id = sub AND f.state = 'waiting';
	ELSE
		UPDATE evstore.failed_event f SET state = 'waiting', retry_at = NULL, delivered_epoch = NULL
		WHERE f.subscription_id = sub AND f.state = 'retry'
			AND EXISTS (SELECT FROM evstore.failed_event g
				WHERE g.subscription_id = sub AND g.key_hash = f.key_hash AND g."position" < f."position"
					AND (g.state IN ('retry', 'waiting') OR (g.state = 'parked' AND policy = 'block_key'
						AND g.reason IS DISTINCT FROM 'filter_error')));
		PERFORM evstore._failed_promote(sub, ARRAY(SELECT DISTINCT f.key_hash FROM evstore.failed_event f
			WHERE f.subscription_id = sub AND f.state = 'waiting'));
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._failed_rearrange(bigint) IS 'what failed events mean for each other with a new policy';

-- From now on the new number of slots counts.  false: somebody is changing the
-- subscription; who has a slot must not wait for who may wait for the slot.
CREATE OR REPLACE FUNCTION evstore._slots_switch(sub bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM FROM evstore.subscription s WHERE s.id = sub FOR NO KEY UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	DELETE FROM evstore.slot_state t
	USING evstore.subscription s
	WHERE s.id = sub AND t.subscription_id = sub AND t.slot >= s.next_slots;
	UPDATE evstore.failed_event f SET delivered_epoch = NULL
	WHERE f.subscription_id = sub AND f.delivered_epoch IS NOT NULL;
	UPDATE evstore.subscription s SET slots = s.next_slots, next_slots = NULL, drain_to = NULL
	WHERE s.id = sub;
	RETURN true;
END
$$;
COMMENT ON FUNCTION evstore._slots_switch(bigint) IS 'from now on the new number of slots counts';
