-- Aggregates and snapshots.  Definitions and snapshots are changed as evstore's
-- owner, so the right to call the function is the right to do it; loading runs
-- with the rights of the caller, and so does the transition.

CREATE OR REPLACE FUNCTION evstore._check_transition(transition regprocedure) RETURNS void
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'evs_check_transition';
COMMENT ON FUNCTION evstore._check_transition(regprocedure) IS 'raises VS010 unless it can be a transition';

-- The quoted name with schema of a transition.
CREATE OR REPLACE FUNCTION evstore._transition_name(transition regprocedure) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM evstore._check_transition(transition);
	RETURN (SELECT format('%I.%I', n.nspname, p.proname)
		FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
		WHERE p.oid = transition);
END
$$;
COMMENT ON FUNCTION evstore._transition_name(regprocedure) IS 'a transition as it is stored';

CREATE OR REPLACE FUNCTION evstore._no_aggregate(category text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'VS009',
		MESSAGE = format('aggregate "%s" does not exist', category),
		DETAIL = jsonb_build_object('aggregate', category)::text;
END
$$;
COMMENT ON FUNCTION evstore._no_aggregate(text) IS 'raises VS009';

CREATE OR REPLACE FUNCTION evstore._check_state_version(state_version integer) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF state_version < 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = 'argument "state_version" must not be negative';
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._check_state_version(integer) IS 'raises 22023 for a negative one';

-- An aggregate with the members of options in place of its own.
CREATE OR REPLACE FUNCTION evstore._aggregate_options(a evstore.aggregate, options jsonb)
RETURNS evstore.aggregate
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	option record;
BEGIN
	IF jsonb_typeof(options) <> 'object' THEN
		PERFORM evstore._invalid('$.options', 'must be an object');
	END IF;
	FOR option IN SELECT o.key, o.value, o.value #>> '{}' AS text FROM jsonb_each(options) o LOOP
		CASE option.key
		WHEN 'keep' THEN
			IF jsonb_typeof(option.value) <> 'number' OR option.text::numeric NOT BETWEEN 1 AND 1000
				OR option.text::numeric <> trunc(option.text::numeric) THEN
				PERFORM evstore._invalid('$.options.keep', 'must be an integer from 1 to 1000');
			END IF;
			a.keep := option.text::numeric;
		WHEN 'unknown_event' THEN
			IF jsonb_typeof(option.value) <> 'string' OR option.text NOT IN ('ignore', 'error') THEN
				PERFORM evstore._invalid('$.options.unknown_event', 'must be "ignore" or "error"');
			END IF;
			a.unknown_event := option.text;
		ELSE
			PERFORM evstore._invalid('$.options.' || option.key, 'is not known');
		END CASE;
	END LOOP;
	RETURN a;
END
$$;
COMMENT ON FUNCTION evstore._aggregate_options(evstore.aggregate, jsonb) IS 'checks and takes the options of an aggregate';

/*
 * create_aggregate(category, initial, transition, state_version, options)
 *
 * Say how the events of a category's streams become a state.
 *
 * category: as in read_category(), without "-".  initial: the state before the
 * first event.  transition: f(state jsonb, event evstore.event) RETURNS jsonb;
 * the same state for the same arguments, always.  NULL from it means that it
 * does not know the event.  state_version: 0 or more; snapshots with another one
 * do not count.  options: keep (snapshots of a stream, 1 to 1000, default 3),
 * unknown_event (ignore or error, default ignore).  Errors: VS008, VS010, 22023.
 */
CREATE OR REPLACE FUNCTION evstore.create_aggregate(category text, initial jsonb,
	transition regprocedure, state_version integer DEFAULT 1, options jsonb DEFAULT '{}')
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	a evstore.aggregate;
BEGIN
	IF num_nulls(category, initial, transition, state_version) > 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
			MESSAGE = format('argument "%s" must not be null', CASE
				WHEN category IS NULL THEN 'category' WHEN initial IS NULL THEN 'initial'
				WHEN transition IS NULL THEN 'transition' ELSE 'state_version' END);
	END IF;
	IF category = '' OR strpos(category, '-') > 0 OR octet_length(category) > 512 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = 'argument "category" must have 1 to 512 bytes and no "-"';
	END IF;
	PERFORM evstore._check_state_version(state_version);
	a.category := category;
	a.initial := initial;
	a.transition := evstore._transition_name(transition);
	a.state_version := state_version;
	a.keep := 3;
	a.unknown_event := 'ignore';
	a.created_at := clock_timestamp();
	a := evstore._aggregate_options(a, COALESCE(options, '{}'));
	INSERT INTO evstore.aggregate SELECT (a).* ON CONFLICT DO NOTHING;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'VS008',
			MESSAGE = format('aggregate "%s" already exists', category),
			DETAIL = jsonb_build_object('aggregate', category)::text;
	END IF;
END
$$;
COMMENT ON FUNCTION evstore.create_aggregate(text, jsonb, regprocedure, integer, jsonb) IS
	'say how the events of a category''s streams become a state';

/*
 * alter_aggregate(category, initial, transition, state_version, options): what is
 * null stays.
 *
 * With another initial state or transition the state version grows by one, unless
 * one is given.  After CREATE OR REPLACE of the transition it must be given.
 * Errors: VS009, VS010, 22023.
 */
CREATE OR REPLACE FUNCTION evstore.alter_aggregate(category text, initial jsonb DEFAULT NULL,
	transition regprocedure DEFAULT NULL, state_version integer DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	o evstore.aggregate;
	a evstore.aggregate;
BEGIN
	SELECT x.* INTO o FROM evstore.aggregate x WHERE x.category = alter_aggregate.category FOR UPDATE;
	IF NOT FOUND THEN
		PERFORM evstore._no_aggregate(category);
	END IF;
	PERFORM evstore._check_state_version(state_version);
	a := o;
	a.initial := COALESCE(initial, o.initial);
	IF transition IS NOT NULL THEN
		a.transition := evstore._transition_name(transition);
	END IF;
	IF options IS NOT NULL THEN
		a := evstore._aggregate_options(a, options);
	END IF;
	a.state_version := COALESCE(state_version,
		o.state_version + (a.initial <> o.initial OR a.transition <> o.transition)::integer);
	UPDATE evstore.aggregate x
	SET initial = a.initial, transition = a.transition, state_version = a.state_version, keep = a.keep,
		unknown_event = a.unknown_event
	WHERE x.category = a.category;
END
$$;
COMMENT ON FUNCTION evstore.alter_aggregate(text, jsonb, regprocedure, integer, jsonb) IS
	'change an aggregate; its snapshots may stop to count';

-- drop_aggregate(category): the definition, and the snapshots of its streams.
CREATE OR REPLACE FUNCTION evstore.drop_aggregate(category text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM evstore.aggregate a WHERE a.category = drop_aggregate.category;
	IF NOT FOUND THEN
		PERFORM evstore._no_aggregate(category);
	END IF;
	DELETE FROM evstore.snapshot n USING evstore.stream s
	WHERE n.stream_id = s.id AND split_part(s.name, '-', 1) = drop_aggregate.category;
END
$$;
COMMENT ON FUNCTION evstore.drop_aggregate(text) IS 'forget an aggregate and its snapshots';

/*
 * load_aggregate(stream) → state, version, snapshot_version, events_read
 *
 * version: to append with; -1 if there is no stream.  snapshot_version: of the
 * snapshot that it began with, or null.  The transaction's own appends count.
 * Errors: VS009, VS012, 55000, and those of the transition.
 */
CREATE OR REPLACE FUNCTION evstore.load_aggregate(stream text,
	OUT state jsonb, OUT version bigint, OUT snapshot_version bigint, OUT events_read bigint)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_load_aggregate';
COMMENT ON FUNCTION evstore.load_aggregate(text) IS 'the state of a stream';

-- The same from the events up to a version; version: of the last of them, or -1.
CREATE OR REPLACE FUNCTION evstore.aggregate_at_version(stream text, at_version bigint,
	OUT state jsonb, OUT version bigint, OUT snapshot_version bigint, OUT events_read bigint)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_aggregate_at_version';
COMMENT ON FUNCTION evstore.aggregate_at_version(text, bigint) IS 'the state that a stream had at a version';

-- The same from the events recorded up to a time.
CREATE OR REPLACE FUNCTION evstore.aggregate_at_time(stream text, at_time timestamptz,
	OUT state jsonb, OUT version bigint, OUT snapshot_version bigint, OUT events_read bigint)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_aggregate_at_time';
COMMENT ON FUNCTION evstore.aggregate_at_time(text, timestamptz) IS 'the state that a stream had at a time';

CREATE OR REPLACE FUNCTION evstore._fold_step(internal, evstore.event, regprocedure, jsonb)
RETURNS internal
LANGUAGE C AS 'MODULE_PATHNAME', 'evs_fold_step';
COMMENT ON FUNCTION evstore._fold_step(internal, evstore.event, regprocedure, jsonb) IS 'step of fold()';

CREATE OR REPLACE FUNCTION evstore._fold_final(internal) RETURNS jsonb
LANGUAGE C AS 'MODULE_PATHNAME', 'evs_fold_final';
COMMENT ON FUNCTION evstore._fold_final(internal) IS 'result of fold()';

/*
 * fold(event, transition, initial ORDER BY event.version) → jsonb
 *
 * A fold without a definition.  transition and initial: as in create_aggregate();
 * those of the first row count.  No rows: null.  An event that the transition does
 * not know changes nothing.  Errors: 22023 if a stream's events are not in order
 * or one is missing, VS010.
 */
CREATE OR REPLACE AGGREGATE evstore.fold(event evstore.event, transition regprocedure, initial jsonb) (
	SFUNC = evstore._fold_step,
	STYPE = internal,
	FINALFUNC = evstore._fold_final
);
COMMENT ON AGGREGATE evstore.fold(evstore.event, regprocedure, jsonb) IS
	'fold events into a state, in the order of ORDER BY';

/*
 * save_snapshot(stream, version, state, state_version) → boolean: was it kept?
 *
 * state: that of the stream at this version, which must be one of an event that can
 * be seen.  state_version: default that of the aggregate, else 1.  One that is
 * older, by its state version or as more than "keep" others are newer, is not
 * kept.  Errors: VS004, 22023.
 */
CREATE OR REPLACE FUNCTION evstore.save_snapshot(stream text, version bigint, state jsonb,
	state_version integer DEFAULT NULL)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	a evstore.aggregate;
	n evstore.snapshot;
BEGIN
	IF num_nulls(stream, version, state) > 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
			MESSAGE = format('argument "%s" must not be null', CASE
				WHEN stream IS NULL THEN 'stream' WHEN version IS NULL THEN 'version' ELSE 'state' END);
	END IF;
	PERFORM evstore._check_state_version(state_version);
	SELECT x.* INTO a FROM evstore.aggregate x WHERE x.category = split_part(stream, '-', 1);
	SELECT s.id INTO n.stream_id FROM evstore.stream s
	WHERE s.name = stream AND NOT s.deleted AND NOT s.tombstoned;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'VS004',
			MESSAGE = format('stream "%s" does not exist', stream),
			DETAIL = jsonb_build_object('stream', stream)::text;
	END IF;
	SELECT e.recorded_at INTO n.recorded_at
	FROM evstore.read_stream(stream, version, 1) e WHERE e.version = save_snapshot.version;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('stream "%s" has no event with version %s', stream, version),
			DETAIL = jsonb_build_object('stream', stream, 'version', version)::text;
	END IF;
	n.version := version;
	n.state_version := COALESCE(state_version, a.state_version, 1);
	n.state := state;
	n.created_at := clock_timestamp();
	IF n.state_version < a.state_version OR (a.category IS NULL AND EXISTS (
			SELECT FROM evstore.snapshot x
			WHERE x.stream_id = n.stream_id AND x.state_version > n.state_version)) THEN
		RETURN false;
	END IF;
	INSERT INTO evstore.snapshot SELECT (n).*
	ON CONFLICT ON CONSTRAINT snapshot_pkey
	DO UPDATE SET state = excluded.state, recorded_at = excluded.recorded_at, created_at = excluded.created_at;
	IF a.category IS NULL THEN
		RETURN true;
	END IF;
	DELETE FROM evstore.snapshot x
	WHERE x.stream_id = n.stream_id AND (x.state_version < a.state_version
		OR (x.state_version = n.state_version AND x.version < (
			SELECT y.version FROM evstore.snapshot y
			WHERE y.stream_id = n.stream_id AND y.state_version = n.state_version
			ORDER BY y.version DESC OFFSET a.keep - 1 LIMIT 1)));
	RETURN EXISTS (SELECT FROM evstore.snapshot x
		WHERE x.stream_id = n.stream_id AND x.state_version = n.state_version AND x.version = n.version);
END
$$;
COMMENT ON FUNCTION evstore.save_snapshot(text, bigint, jsonb, integer) IS
	'keep the state of a stream at a version';

/*
 * load_snapshot(stream, max_version) → version, state, state_version, created_at
 *
 * The newest one that counts, up to max_version; all null if there is none.
 */
CREATE OR REPLACE FUNCTION evstore.load_snapshot(stream text, max_version bigint DEFAULT NULL,
	OUT version bigint, OUT state jsonb, OUT state_version integer, OUT created_at timestamptz)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_load_snapshot';
COMMENT ON FUNCTION evstore.load_snapshot(text, bigint) IS 'the newest snapshot of a stream';

/*
 * prune_snapshots(stream, keep) → bigint: how many were removed
 *
 * Keeps the newest ones of the highest state version.  keep: 0 or more.
 */
CREATE OR REPLACE FUNCTION evstore.prune_snapshots(stream text, keep integer DEFAULT 3)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	removed bigint;
BEGIN
	IF num_nulls(stream, keep) > 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
			MESSAGE = format('argument "%s" must not be null', CASE WHEN stream IS NULL THEN 'stream' ELSE 'keep' END);
	END IF;
	IF keep < 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'argument "keep" must not be negative';
	END IF;
	DELETE FROM evstore.snapshot x
	USING (SELECT y.stream_id, y.state_version, y.version,
			row_number() OVER (PARTITION BY y.state_version ORDER BY y.version DESC) AS place,
			max(y.state_version) OVER () AS highest
		FROM evstore.snapshot y JOIN evstore.stream s ON s.id = y.stream_id
		WHERE s.name = stream) AS r
	WHERE x.stream_id = r.stream_id AND x.state_version = r.state_version AND x.version = r.version
		AND (r.state_version < r.highest OR r.place > keep);
	GET DIAGNOSTICS removed = ROW_COUNT;
	RETURN removed;
END
$$;
COMMENT ON FUNCTION evstore.prune_snapshots(text, integer) IS 'remove snapshots of a stream but the newest';

CREATE OR REPLACE VIEW evstore.aggregates AS
SELECT a.category, a.initial, a.transition, a.state_version, a.keep, a.unknown_event, a.created_at
FROM evstore.aggregate a;
COMMENT ON VIEW evstore.aggregates IS 'how the events of categories become states';

CREATE OR REPLACE VIEW evstore.snapshots AS
SELECT s.name AS stream, n.version, n.state_version, n.recorded_at, n.created_at,
	pg_column_size(n.state)::bigint AS bytes
FROM evstore.snapshot n
	JOIN evstore.stream s ON s.id = n.stream_id;
COMMENT ON VIEW evstore.snapshots IS 'snapshots; bytes as stored, compressed';
