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
	-- what is another session's temporary schema later must not be called
	IF (SELECT pg_is_other_temp_schema(p.pronamespace) OR p.pronamespace = pg_my_temp_schema()
			FROM pg_proc p WHERE p.oid = transition) THEN
		PERFORM evstore._invalid('transition', 'must not be temporary');
	END IF;
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

-- A jsonpath that no data can make fail: VS010 for others.
CREATE OR REPLACE FUNCTION evstore._check_jsonpath(path text, value text) RETURNS jsonpath
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM jsonb_path_query_first('{}', value::jsonpath, '{}', true);
	RETURN value;
EXCEPTION WHEN syntax_error OR data_exception OR undefined_object OR feature_not_supported THEN
	PERFORM evstore._invalid(path, 'is no jsonpath that can be used: ' || SQLERRM);
END
$$;
COMMENT ON FUNCTION evstore._check_jsonpath(text, text) IS 'a jsonpath in a definition';

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

/*
 * The option transitions: VS010 unless it is an array of objects with type, and
 * maybe from, to, guard and message.
 */
CREATE OR REPLACE FUNCTION evstore._check_transitions(transitions jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	path text;
	rule record;
	item record;
BEGIN
	IF jsonb_typeof(transitions) <> 'array' THEN
		PERFORM evstore._invalid('$.options.transitions', 'must be an array of objects');
	END IF;
	FOR rule IN SELECT r.value, r.n FROM jsonb_array_elements(transitions) WITH ORDINALITY r (value, n) LOOP
		path := format('$.options.transitions[%s]', rule.n - 1);
		IF jsonb_typeof(rule.value) <> 'object' THEN
			PERFORM evstore._invalid(path, 'must be an object');
		END IF;
		IF NOT rule.value ? 'type' THEN
			PERFORM evstore._invalid(path || '.type', 'is missing');
		END IF;
		FOR item IN SELECT o.key, o.value FROM jsonb_each(rule.value) o LOOP
			IF item.key NOT IN ('from', 'type', 'to', 'guard', 'message') THEN
				PERFORM evstore._invalid(path || '.' || item.key, 'is not known');
			ELSIF item.key = 'from' THEN
				IF jsonb_typeof(item.value) NOT IN ('string', 'null', 'array') OR EXISTS (
						SELECT FROM jsonb_array_elements(CASE jsonb_typeof(item.value) WHEN 'array' THEN item.value ELSE '[]' END) f (value)
						WHERE jsonb_typeof(f.value) NOT IN ('string', 'null')) THEN
					PERFORM evstore._invalid(path || '.from', 'must be the name of a state, null, or an array of these');
				END IF;
			ELSIF jsonb_typeof(item.value) <> 'string' THEN
				PERFORM evstore._invalid(path || '.' || item.key, 'must be a string');
			END IF;
		END LOOP;
		IF rule.value ? 'guard' THEN
			PERFORM evstore._check_jsonpath(path || '.guard', rule.value ->> 'guard');
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION evstore._check_transitions(jsonb) IS 'raises VS010 for transitions that are not in their form';

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
		WHEN 'state_path' THEN
			a.state_path := evstore._check_jsonpath('$.options.state_path',
				CASE jsonb_typeof(option.value) WHEN 'string' THEN option.text ELSE '' END);
		WHEN 'lost_events' THEN
			IF jsonb_typeof(option.value) <> 'string' OR option.text NOT IN ('ignore', 'error') THEN
				PERFORM evstore._invalid('$.options.lost_events', 'must be "ignore" or "error"');
			END IF;
			a.lost_events := option.text;
		WHEN 'snapshot_every' THEN
			IF jsonb_typeof(option.value) NOT IN ('number', 'null') OR option.text::numeric NOT BETWEEN 1 AND 1000000000
				OR option.text::numeric <> trunc(option.text::numeric) THEN
				PERFORM evstore._invalid('$.options.snapshot_every', 'must be null, or an integer from 1 to 1000000000');
			END IF;
			a.snapshot_every := option.text::numeric;
		WHEN 'transitions' THEN
			a.transitions := NULLIF(option.value, 'null');
			PERFORM evstore._check_transitions(a.transitions);
		ELSE
			PERFORM evstore._invalid('$.options.' || option.key, 'is not known');
		END CASE;
	END LOOP;
	RETURN a;
END
$$;
COMMENT ON FUNCTION evstore._aggregate_options(evstore.aggregate, jsonb) IS 'checks and takes the options of an aggregate';

-- All snapshots of a category, also those that are being saved now.
CREATE OR REPLACE FUNCTION evstore._forget_snapshots(category text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	LOCK TABLE evstore.snapshot IN SHARE ROW EXCLUSIVE MODE;
	DELETE FROM evstore.snapshot n USING evstore.stream s
	WHERE n.stream_id = s.id AND split_part(s.name, '-', 1) = _forget_snapshots.category;
END
$$;
COMMENT ON FUNCTION evstore._forget_snapshots(text) IS 'removes the snapshots of a category';

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
 * unknown_event (ignore or error, default ignore), lost_events (error or ignore,
 * default error), transitions (see check_transitions(); default null: no checks),
 * state_path (a jsonpath, default $.status), snapshot_every (1 or more: a worker
 * saves a snapshot of a stream that has so many events since the last one; default
 * null: none does).  The worker calls the transition as the role that has called
 * this function.  Snapshots that streams of the category
 * have already are removed: nobody knows what they are of.  Errors: VS008, VS010,
 * 22023.
 */
CREATE OR REPLACE FUNCTION evstore.create_aggregate(category text, initial jsonb,
	transition regprocedure, state_version integer DEFAULT 1, options jsonb DEFAULT '{}')
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_create_aggregate';
COMMENT ON FUNCTION evstore.create_aggregate(text, jsonb, regprocedure, integer, jsonb) IS
	'say how the events of a category''s streams become a state';

/*
 * alter_aggregate(category, initial, transition, state_version, options): what is
 * null stays.
 *
 * With another initial state or transition the state version becomes one that was
 * not used yet, unless one is given.  After CREATE OR REPLACE of the transition it
 * must be given.
 * Errors: VS009, VS010, 22023.
 */
CREATE OR REPLACE FUNCTION evstore.alter_aggregate(category text, initial jsonb DEFAULT NULL,
	transition regprocedure DEFAULT NULL, state_version integer DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_alter_aggregate';
COMMENT ON FUNCTION evstore.alter_aggregate(text, jsonb, regprocedure, integer, jsonb) IS
	'change an aggregate; its snapshots may stop to count';

CREATE OR REPLACE FUNCTION evstore._aggregate_create(caller text, category text, initial jsonb,
	transition regprocedure, state_version integer, options jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE
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
	a.highest_version := state_version;
	a.keep := 3;
	a.unknown_event := 'ignore';
	a.lost_events := 'error';
	a.state_path := '$.status';
	a.created_at := clock_timestamp();
	a := evstore._aggregate_options(a, COALESCE(options, '{}'));
	PERFORM evstore._forget_snapshots(category);
	INSERT INTO evstore.aggregate SELECT (a).* ON CONFLICT DO NOTHING;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'VS008',
			MESSAGE = format('aggregate "%s" already exists', category),
			DETAIL = jsonb_build_object('aggregate', category)::text;
	END IF;
	PERFORM evstore._follow_snapshots(a, caller, caller);
END
$$;
COMMENT ON FUNCTION evstore._aggregate_create(text, text, jsonb, regprocedure, integer, jsonb) IS 'behind create_aggregate()';

CREATE OR REPLACE FUNCTION evstore._aggregate_alter(caller text, category text, initial jsonb,
	transition regprocedure, state_version integer, options jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	o evstore.aggregate;
	a evstore.aggregate;
BEGIN
	SELECT x.* INTO o FROM evstore.aggregate x WHERE x.category = _aggregate_alter.category FOR UPDATE;
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
		CASE WHEN a.initial <> o.initial OR a.transition <> o.transition THEN o.highest_version + 1 ELSE o.state_version END);
	a.highest_version := GREATEST(o.highest_version, a.state_version);
	UPDATE evstore.aggregate x
	SET initial = a.initial, transition = a.transition, state_version = a.state_version,
		highest_version = a.highest_version, keep = a.keep, lost_events = a.lost_events,
		unknown_event = a.unknown_event, state_path = a.state_path, transitions = a.transitions,
		snapshot_every = a.snapshot_every
	WHERE x.category = a.category;
	PERFORM evstore._follow_snapshots(a, CASE WHEN a.transition <> o.transition THEN caller END, caller);
END
$$;
COMMENT ON FUNCTION evstore._aggregate_alter(text, text, jsonb, regprocedure, integer, jsonb) IS 'behind alter_aggregate()';

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
	PERFORM evstore._projection_remove(s.id) FROM evstore.subscription s WHERE s.name = '$snapshots-' || category;
	PERFORM evstore._forget_snapshots(category);
	PERFORM evstore._audit('drop_aggregate', jsonb_build_object('aggregate', category));
END
$$;
COMMENT ON FUNCTION evstore.drop_aggregate(text) IS 'forget an aggregate and its snapshots';

/*
 * load_aggregate(stream) -> state, version, snapshot_version, events_read,
 *   state_version
 *
 * version: to append with; -1 if there is no stream.  snapshot_version: of the
 * snapshot that it began with, or null.  state_version: the aggregate's, to save a
 * snapshot with.  The transaction's own appends count.
 * Errors: VS009, VS012, 55000, and those of the transition.
 */
CREATE OR REPLACE FUNCTION evstore.load_aggregate(stream text,
	OUT state jsonb, OUT version bigint, OUT snapshot_version bigint, OUT events_read bigint,
	OUT state_version integer)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_load_aggregate';
COMMENT ON FUNCTION evstore.load_aggregate(text) IS 'the state of a stream';

-- The same from the events up to a version; version: of the last of them, or -1.
CREATE OR REPLACE FUNCTION evstore.aggregate_at_version(stream text, at_version bigint,
	OUT state jsonb, OUT version bigint, OUT snapshot_version bigint, OUT events_read bigint,
	OUT state_version integer)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_aggregate_at_version';
COMMENT ON FUNCTION evstore.aggregate_at_version(text, bigint) IS 'the state that a stream had at a version';

-- The same from the events recorded up to a time.
CREATE OR REPLACE FUNCTION evstore.aggregate_at_time(stream text, at_time timestamptz,
	OUT state jsonb, OUT version bigint, OUT snapshot_version bigint, OUT events_read bigint,
	OUT state_version integer)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_aggregate_at_time';
COMMENT ON FUNCTION evstore.aggregate_at_time(text, timestamptz) IS 'the state that a stream had at a time';

/*
 * _check_guard(category, stream, index, state, type, data) -> text: the state that
 * the event must lead to, or null.  Raises VS013 unless it is allowed in this one.
 */
CREATE OR REPLACE FUNCTION evstore._check_guard(category text, stream text, index integer, state jsonb,
	type text, data jsonb)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	a record;
	name text;
	rule jsonb;
	refused jsonb;
	sources jsonb;
	found jsonb;
BEGIN
	SELECT x.* INTO a FROM evstore.aggregates x WHERE x.category = _check_guard.category;
	name := jsonb_path_query_first(state, a.state_path, '{}', true) #>> '{}';
	FOR rule IN SELECT r.value FROM jsonb_array_elements(a.transitions) r WHERE r.value ->> 'type' = _check_guard.type LOOP
		IF rule ? 'from' THEN
			-- where it is allowed, not where it is refused in so many words
			IF rule ->> 'guard' IS DISTINCT FROM 'false' THEN
				sources := COALESCE(sources, '[]') || (rule -> 'from');
			END IF;
			CONTINUE WHEN NOT ('[]' || (rule -> 'from')) @> jsonb_build_array(name);
		END IF;
		BEGIN
			found := CASE WHEN rule ? 'guard' THEN jsonb_path_query_first(
				jsonb_build_object('state', state, 'event', jsonb_build_object('type', type, 'data', data)),
				(rule ->> 'guard')::jsonpath, '{}', true) ELSE 'true' END;
		EXCEPTION WHEN data_exception OR feature_not_supported THEN
			-- as of two times of which only one has a zone
			found := NULL;
		END;
		IF found NOT IN ('false', 'null') THEN
			RETURN rule ->> 'to';
		END IF;
		refused := COALESCE(refused, rule);
	END LOOP;
	RAISE EXCEPTION USING ERRCODE = 'VS013',
		MESSAGE = COALESCE(refused ->> 'message', format(CASE
			WHEN refused IS NOT NULL THEN 'event type "%1$s" is refused in state "%2$s": its guard does not hold'
			WHEN sources IS NULL THEN 'event type "%1$s" is in no transition of the aggregate'
			ELSE 'event type "%1$s" is refused in state "%2$s"' END, type, COALESCE(name, 'null'))),
		DETAIL = jsonb_build_object('stream', stream, 'index', index, 'type', type, 'state', name, 'from', sources)::text;
END
$$;
COMMENT ON FUNCTION evstore._check_guard(text, text, integer, jsonb, text, jsonb) IS 'raises VS013 unless an event is allowed in a state';

-- _check_events(stream, state, events) -> jsonb: the state after them.  Raises VS013.
CREATE OR REPLACE FUNCTION evstore._check_events(stream text, state jsonb, version bigint, events jsonb)
RETURNS jsonb
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_check_events';
COMMENT ON FUNCTION evstore._check_events(text, jsonb, bigint, jsonb) IS 'the state after events that are not stored yet, if they are allowed';

/*
 * check_transitions(stream, events) -> state, version
 *
 * May these events, in the form of append_events(), be appended to the stream as it
 * is now?  state: the one after them.  version: the one to append with, since what
 * was checked holds only there.
 *
 * The aggregate's option transitions is an array of {"type", "from", "to", "guard",
 * "message"}: an event of the type is allowed in the state, or one of the states,
 * from (default: any; null: none yet), if the jsonpath guard over {"state", "event":
 * {"type", "data"}} finds something that is neither false nor null; it must lead to
 * the state to.  The guard "false" is for refusals with a message of their own.  Types in no transition are refused.  The state's name is what
 * state_path finds.  Terms: those of state charts (Harel).
 * Errors: VS005, VS009, VS012, VS013.
 */
CREATE OR REPLACE FUNCTION evstore.check_transitions(stream text, events jsonb,
	OUT state jsonb, OUT version bigint)
LANGUAGE sql VOLATILE
BEGIN ATOMIC
	SELECT evstore._check_events(stream, l.state, l.version, events), l.version
	FROM evstore.load_aggregate(stream) l;
END;
COMMENT ON FUNCTION evstore.check_transitions(text, jsonb) IS
	'may these events be appended to the stream as it is now?';

/*
 * execute_command(stream, command, args, max_attempts, search_path)
 *     returns first_version, version, position, attempts
 *
 * Load the aggregate, have command(state jsonb, args jsonb) RETURNS jsonb decide
 * which events to append (as append_events() takes them; null or [] for none),
 * check them against the aggregate's transitions, append them if the stream is still
 * at the version that was loaded, and begin again if it is not.  As append_retry()
 * in all else.  Errors: those of append_retry() and check_transitions().
 */
CREATE OR REPLACE FUNCTION evstore.execute_command(
	stream text,
	command regprocedure,
	args jsonb DEFAULT '{}',
	max_attempts int DEFAULT 5,
	search_path text DEFAULT pg_catalog.current_setting('search_path'),
	OUT first_version bigint,
	OUT version bigint,
	OUT "position" bigint,
	OUT attempts int)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- OFFSET 0: the command is called once, its result is used twice.  The check
	-- throws or has a result.
	SELECT r.* INTO first_version, version, "position", attempts
	FROM evstore._append_retry(stream, format(
		'SELECT d.events, d.version'
		' FROM (SELECT l.state, l.version, %s(l.state, $3) AS events FROM evstore.load_aggregate($1) l OFFSET 0) d'
		' WHERE evstore._check_events($1, d.state, d.version, d.events) IS NOT NULL',
		evstore._function_name(command, 'command', 'jsonb, jsonb', 'command(state jsonb, args jsonb)', 'as a command')), args, max_attempts, search_path) AS r;
END
$$;
COMMENT ON FUNCTION evstore.execute_command(text, regprocedure, jsonb, int, text) IS
	'Load an aggregate, decide, check and append; again if another writer was quicker';

CREATE OR REPLACE FUNCTION evstore._fold_step(internal, evstore.event, regprocedure, jsonb)
RETURNS internal
LANGUAGE C AS 'MODULE_PATHNAME', 'evs_fold_step';
COMMENT ON FUNCTION evstore._fold_step(internal, evstore.event, regprocedure, jsonb) IS 'step of fold()';

CREATE OR REPLACE FUNCTION evstore._fold_final(internal) RETURNS jsonb
LANGUAGE C AS 'MODULE_PATHNAME', 'evs_fold_final';
COMMENT ON FUNCTION evstore._fold_final(internal) IS 'result of fold()';

/*
 * fold(event, transition, initial ORDER BY event.version) -> jsonb
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
 * save_snapshot(stream, version, state, state_version) -> boolean: was it kept?
 *
 * state: that of the stream at this version, which must be one of an event that can
 * be seen.  state_version: that of the aggregate that the state was made with, as
 * loading returns it; without an aggregate, default 1.  A snapshot that is older, by
 * its state version or because "keep" others are newer, is not kept.  Errors: VS004,
 * 22004, 22023.
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
	-- before the look at the definition: whoever changes it waits for this
	LOCK TABLE evstore.snapshot IN ROW EXCLUSIVE MODE;
	SELECT x.* INTO a FROM evstore.aggregate x WHERE x.category = split_part(stream, '-', 1);
	IF a.category IS NOT NULL AND state_version IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
			MESSAGE = 'argument "state_version" must not be null where there is an aggregate',
			HINT = 'load_aggregate() returns it with the state.';
	END IF;
	IF state_version > a.highest_version THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('state version %s is above all that aggregate "%s" has had', state_version, a.category),
			DETAIL = jsonb_build_object('aggregate', a.category, 'state_version', a.state_version)::text;
	END IF;
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
	n.state_version := COALESCE(state_version, 1);
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
	-- those that somebody else is removing are left to it
	DELETE FROM evstore.snapshot x
	WHERE x.ctid = ANY (ARRAY(
		SELECT z.ctid FROM evstore.snapshot z
		WHERE z.stream_id = n.stream_id AND (z.state_version < a.state_version
			OR (z.state_version = n.state_version AND z.version < (
				SELECT y.version FROM evstore.snapshot y
				WHERE y.stream_id = n.stream_id AND y.state_version = n.state_version
				ORDER BY y.version DESC OFFSET a.keep - 1 LIMIT 1)))
		FOR UPDATE SKIP LOCKED));
	RETURN EXISTS (SELECT FROM evstore.snapshot x
		WHERE x.stream_id = n.stream_id AND x.state_version = n.state_version AND x.version = n.version);
END
$$;
COMMENT ON FUNCTION evstore.save_snapshot(text, bigint, jsonb, integer) IS
	'keep the state of a stream at a version';

/*
 * load_snapshot(stream, max_version) -> version, state, state_version, created_at
 *
 * The newest one that counts, up to max_version; all null if there is none.
 */
CREATE OR REPLACE FUNCTION evstore.load_snapshot(stream text, max_version bigint DEFAULT NULL,
	OUT version bigint, OUT state jsonb, OUT state_version integer, OUT created_at timestamptz)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_load_snapshot';
COMMENT ON FUNCTION evstore.load_snapshot(text, bigint) IS 'the newest snapshot of a stream';

/*
 * prune_snapshots(stream, keep) -> bigint: how many were removed
 *
 * Keeps the newest ones of the aggregate's state version, or of the highest one
 * without an aggregate.  keep: 0 or more.  Errors: 22004, 22023.
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
			COALESCE(a.state_version, max(y.state_version) OVER ()) AS present
		FROM evstore.snapshot y JOIN evstore.stream s ON s.id = y.stream_id
			LEFT JOIN evstore.aggregate a ON a.category = split_part(s.name, '-', 1)
		WHERE s.name = stream) AS r
	WHERE x.stream_id = r.stream_id AND x.state_version = r.state_version AND x.version = r.version
		AND (r.state_version <> r.present OR r.place > keep);
	GET DIAGNOSTICS removed = ROW_COUNT;
	IF removed > 0 THEN
		PERFORM evstore._audit('prune_snapshots', jsonb_build_object('stream', stream, 'keep', keep, 'removed', removed));
	END IF;
	RETURN removed;
END
$$;
COMMENT ON FUNCTION evstore.prune_snapshots(text, integer) IS 'remove snapshots of a stream but the newest';

CREATE OR REPLACE VIEW evstore.aggregates AS
SELECT a.category, a.initial, a.transition, a.state_version, a.keep, a.unknown_event,
	a.lost_events, a.state_path, a.transitions, a.created_at, a.snapshot_every
FROM evstore.aggregate a;
COMMENT ON VIEW evstore.aggregates IS 'how the events of categories become states';

CREATE OR REPLACE VIEW evstore.snapshots AS
SELECT s.name AS stream, n.version, n.state_version, n.recorded_at, n.created_at,
	pg_column_size(n.state)::bigint AS bytes
FROM evstore.snapshot n
	JOIN evstore.stream s ON s.id = n.stream_id;
COMMENT ON VIEW evstore.snapshots IS 'snapshots; bytes as stored, compressed';
