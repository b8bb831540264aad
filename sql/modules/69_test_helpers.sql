/*
 * Tests of aggregates and commands: given these events, when this is done, then
 * that has happened.  In a transaction that is rolled back; its commit is refused
 * by a deferred trigger on evstore.test_outcome.
 *
 * The functions test_then... return true, or throw assert_failure (P0004) with what
 * was expected and what there is.
 */

/*
 * _test_record(stream, decided, version_before, version_after, sqlstate, message)
 *
 * Make this the outcome of the transaction.
 */
CREATE OR REPLACE FUNCTION evstore._test_record(stream text, decided boolean,
	version_before bigint DEFAULT NULL, version_after bigint DEFAULT NULL,
	sqlstate text DEFAULT NULL, message text DEFAULT NULL)
RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO evstore.test_outcome AS o
	VALUES (pg_current_xact_id(), stream, decided, version_before, version_after, sqlstate, message)
	ON CONFLICT (xact) DO UPDATE
	SET stream = excluded.stream, decided = excluded.decided, version_before = excluded.version_before,
		version_after = excluded.version_after, sqlstate = excluded.sqlstate, message = excluded.message;
END;
COMMENT ON FUNCTION evstore._test_record(text, boolean, bigint, bigint, text, text) IS 'remember how a test_when() has ended';

-- The outcome of the transaction's last test_when().  Error: 55000 if there is none.
CREATE OR REPLACE FUNCTION evstore._test_outcome(OUT stream text, OUT version_before bigint,
	OUT version_after bigint, OUT sqlstate text, OUT message text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	SELECT o.stream, o.version_before, o.version_after, o.sqlstate, o.message
	INTO _test_outcome.stream, _test_outcome.version_before, _test_outcome.version_after,
		_test_outcome.sqlstate, _test_outcome.message
	FROM evstore.test_outcome o
	WHERE o.xact = pg_current_xact_id_if_assigned() AND o.decided;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = 'there is no test_when() to look at',
			HINT = 'It must come before, after the last test_given(), in the same transaction.';
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._test_outcome() IS 'how the last test_when() has ended';

CREATE OR REPLACE FUNCTION evstore._test_failed(message text, expected jsonb, actual jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'assert_failure', MESSAGE = message,
		DETAIL = jsonb_build_object('expected', expected, 'actual', actual)::text;
END
$$;
COMMENT ON FUNCTION evstore._test_failed(text, jsonb, jsonb) IS 'raises assert_failure';

/*
 * test_given(stream, events)
 *
 * Begin a test: append the history of a stream, as append_events() does and without
 * a check of transitions.  Forgets the outcome of an earlier test_when().
 *
 * stream: best one of the test's own, since its older events count.  events: as
 * append_events() takes them; [] for none.
 * Errors: those of append_events(); 2D000 when the transaction commits.
 */
CREATE OR REPLACE FUNCTION evstore.test_given(stream text, events jsonb DEFAULT '[]') RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM evstore.append_events(stream, events);
	PERFORM evstore._test_record(stream, false);
END
$$;
COMMENT ON FUNCTION evstore.test_given(text, jsonb) IS 'begin a test: the history of a stream';

/*
 * test_when(stream, command, args, search_path)
 *
 * Execute a command, as execute_command() does, and remember how it ends for
 * test_then() and test_then_error().  An error is caught: what the command has done
 * is undone.
 *
 * Errors: 22004 without a stream; 2D000 when the transaction commits.
 */
CREATE OR REPLACE FUNCTION evstore.test_when(stream text, command regprocedure, args jsonb DEFAULT '{}',
	search_path text DEFAULT pg_catalog.current_setting('search_path'))
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	version_before CONSTANT bigint := evstore.stream_version(stream);
	code text;
	said text;
BEGIN
	BEGIN
		PERFORM evstore.execute_command(stream, command, args, search_path => test_when.search_path);
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, said = MESSAGE_TEXT;
	END;
	PERFORM evstore._test_record(stream, true, version_before, evstore.stream_version(stream), code, said);
END
$$;
COMMENT ON FUNCTION evstore.test_when(text, regprocedure, jsonb, text) IS 'execute a command and remember how it ends';

/*
 * test_when_append(stream, events)
 *
 * The same with events in place of a command: check them against the transitions
 * of the aggregate, and append them.  Errors: as test_when().
 */
CREATE OR REPLACE FUNCTION evstore.test_when_append(stream text, events jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	version_before CONSTANT bigint := evstore.stream_version(stream);
	code text;
	said text;
BEGIN
	BEGIN
		PERFORM evstore.append_events(stream, events,
			expected_version => (SELECT c.version FROM evstore.check_transitions(stream, events) c));
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, said = MESSAGE_TEXT;
	END;
	PERFORM evstore._test_record(stream, true, version_before, evstore.stream_version(stream), code, said);
END
$$;
COMMENT ON FUNCTION evstore.test_when_append(text, jsonb) IS 'check and append events, and remember how it ends';

-- Which members of the expected event are not those of the actual one?
CREATE OR REPLACE FUNCTION evstore._test_differences(expected jsonb, actual jsonb) RETURNS text[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	unknown text;
	wanted jsonb;
BEGIN
	IF jsonb_typeof(expected) <> 'object' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = 'argument "expected" must be an array of objects';
	END IF;
	SELECT k.name INTO unknown
	FROM jsonb_object_keys(expected) k (name)
	WHERE k.name NOT IN (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = 'evstore.event'::regclass AND a.attnum > 0)
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('an event has no member "%s"', unknown),
			HINT = 'Members are the columns of evstore.event.';
	END IF;
	-- by way of the type, so that a time is a time and not how it is written
	wanted := to_jsonb(jsonb_populate_record(NULL::evstore.event, expected));
	RETURN ARRAY(SELECT k.name FROM jsonb_object_keys(expected) k (name)
		WHERE wanted -> k.name IS DISTINCT FROM actual -> k.name ORDER BY 1);
END
$$;
COMMENT ON FUNCTION evstore._test_differences(jsonb, jsonb) IS 'members in which an event differs from what was expected';

/*
 * test_then(stream, expected) -> boolean
 *
 * The last test_when() has appended these events to the stream, and no others.
 *
 * expected: an array of objects, one for each event, in order; [] if there should be
 * none.  Members are columns of evstore.event.  Those that are named must be equal,
 * data and metadata as a whole; others may be anything.
 * Errors: P0004 if it is not so, or test_when() has ended with an error; 55000 if
 * there was none; 22023.
 */
CREATE OR REPLACE FUNCTION evstore.test_then(stream text, expected jsonb) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	o record;
	actual jsonb;
	shown jsonb;
	item record;
	differences text[];
BEGIN
	IF expected IS NULL OR jsonb_typeof(expected) <> 'array' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = 'argument "expected" must be an array of objects';
	END IF;
	SELECT t.* INTO o FROM evstore._test_outcome() t;
	IF o.stream IS DISTINCT FROM stream THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('the last test_when() was about stream "%s"', o.stream);
	END IF;
	IF o.sqlstate IS NOT NULL THEN
		PERFORM evstore._test_failed(format('events were expected, and it has failed: %s', o.message),
			expected, jsonb_build_object('sqlstate', o.sqlstate, 'message', o.message));
	END IF;
	SELECT COALESCE(jsonb_agg(to_jsonb(e) ORDER BY e.version), '[]'),
		COALESCE(jsonb_agg(jsonb_build_object('type', e.type, 'data', e.data) ORDER BY e.version), '[]')
	INTO actual, shown
	FROM evstore.read_stream(stream, o.version_before + 1, o.version_after - o.version_before) e;
	IF jsonb_array_length(actual) <> jsonb_array_length(expected) THEN
		PERFORM evstore._test_failed(format('%s events were expected, and there are %s',
			jsonb_array_length(expected), jsonb_array_length(actual)), expected, shown);
	END IF;
	FOR item IN SELECT x.value, x.n::integer - 1 AS index FROM jsonb_array_elements(expected) WITH ORDINALITY x (value, n) LOOP
		differences := evstore._test_differences(item.value, actual -> item.index);
		IF cardinality(differences) > 0 THEN
			PERFORM evstore._test_failed(format('event %s is not as expected: %s differs', item.index,
					array_to_string(differences, ', ')), item.value,
				(SELECT jsonb_object_agg(k.name, actual -> item.index -> k.name)
				FROM jsonb_object_keys(item.value || '{"type": null}') k (name)));
		END IF;
	END LOOP;
	RETURN true;
END
$$;
COMMENT ON FUNCTION evstore.test_then(text, jsonb) IS 'the last test_when() has appended these events';

/*
 * test_then_error(sqlstate, message_like) -> boolean
 *
 * The last test_when() has ended with an error: of this code, with a message like
 * that.  Null, the default: any.
 * Errors: P0004 if it is not so; 55000 if there was no test_when().
 */
CREATE OR REPLACE FUNCTION evstore.test_then_error(sqlstate text DEFAULT NULL, message_like text DEFAULT NULL)
RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	o record;
	wanted CONSTANT jsonb := jsonb_build_object('sqlstate', sqlstate, 'message_like', message_like);
BEGIN
	SELECT t.* INTO o FROM evstore._test_outcome() t;
	IF o.sqlstate IS NULL THEN
		PERFORM evstore._test_failed('an error was expected, and there is none', wanted,
			jsonb_build_object('events', o.version_after - o.version_before));
	ELSIF o.sqlstate <> COALESCE(test_then_error.sqlstate, o.sqlstate) OR o.message NOT LIKE COALESCE(message_like, '%') THEN
		PERFORM evstore._test_failed('another error was expected', wanted,
			jsonb_build_object('sqlstate', o.sqlstate, 'message', o.message));
	END IF;
	RETURN true;
END
$$;
COMMENT ON FUNCTION evstore.test_then_error(text, text) IS 'the last test_when() has ended with this error';

/*
 * test_then_state(stream, expected) -> boolean
 *
 * load_aggregate() of the stream returns a state with these members.  Those that
 * are named must be equal; others may be anything.  A state that is no object must
 * be equal as a whole.
 * Errors: P0004 if it is not so; 22004; those of load_aggregate().
 */
CREATE OR REPLACE FUNCTION evstore.test_then_state(stream text, expected jsonb) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	actual jsonb;
	differences text[];
BEGIN
	IF expected IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
			MESSAGE = 'argument "expected" must not be null';
	END IF;
	SELECT l.state INTO actual FROM evstore.load_aggregate(stream) l;
	IF jsonb_typeof(expected) = 'object' AND jsonb_typeof(actual) = 'object' THEN
		differences := ARRAY(SELECT k.name FROM jsonb_object_keys(expected) k (name)
			WHERE expected -> k.name IS DISTINCT FROM actual -> k.name ORDER BY 1);
	ELSIF expected IS DISTINCT FROM actual THEN
		differences := '{the whole of it}';
	END IF;
	IF cardinality(differences) > 0 THEN
		PERFORM evstore._test_failed(format('the state is not as expected: %s differs', array_to_string(differences, ', ')),
			expected, actual);
	END IF;
	RETURN true;
END
$$;
COMMENT ON FUNCTION evstore.test_then_state(text, jsonb) IS 'the state of a stream has these members';
