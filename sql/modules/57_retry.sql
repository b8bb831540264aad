/*
 * Optimistic concurrency with retries: read, decide, append, and again if another
 * writer was quicker.
 */

/*
 * _function_name(fn, argument, types, form, purpose)
 *
 * The quoted, qualified name of a function that an argument names.  VS010 unless it
 * takes arguments of these types and returns jsonb.
 */
CREATE OR REPLACE FUNCTION evstore._function_name(fn regprocedure, argument text, types text, form text, purpose text)
RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name text;
BEGIN
	SELECT format('%I.%I', n.nspname, p.proname) INTO name
	FROM pg_proc AS p
	JOIN pg_namespace AS n ON n.oid = p.pronamespace
	WHERE p.oid = fn AND p.prokind = 'f' AND NOT p.proretset AND p.prorettype = 'jsonb'::regtype
		AND oidvectortypes(p.proargtypes) = types;
	IF name IS NULL THEN
		RAISE EXCEPTION USING
			ERRCODE = 'VS010',
			MESSAGE = format('function %s cannot be used %s', coalesce(fn::text, 'null'), purpose),
			DETAIL = jsonb_build_object('path', argument, 'function', fn::text),
			HINT = format('It must have the form %s RETURNS jsonb.', form);
	END IF;
	RETURN name;
END
$$;
REVOKE ALL ON FUNCTION evstore._function_name(regprocedure, text, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION evstore._function_name(regprocedure, text, text, text, text) IS
	'private: the quoted name of a function that has the form that is asked for';

/*
 * _version_seen(stream)
 *
 * The version of a stream that the reads of the current transaction see, or -1:
 * one to decide on.  stream_version() tells the newest committed one, which a
 * snapshot taken earlier, under REPEATABLE READ or SERIALIZABLE, does not cover.
 */
CREATE OR REPLACE FUNCTION evstore._version_seen(stream text)
RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
		RETURN coalesce((SELECT e.version FROM evstore.read_stream(stream, NULL, 1, 'backward') AS e), -1);
	END IF;
	RETURN evstore.stream_version(stream);
END
$$;
REVOKE ALL ON FUNCTION evstore._version_seen(text) FROM PUBLIC;
COMMENT ON FUNCTION evstore._version_seen(text) IS
	'private: the version of a stream that the transaction''s reads see';

/*
 * _append_retry(stream, call, args, max_attempts, search_path)
 *
 * What append_retry() and execute_command() do.  call is a query with the
 * parameters stream, version and args that returns events and the version that
 * they were decided on.
 */
CREATE OR REPLACE FUNCTION evstore._append_retry(
	stream text, call text, args jsonb, max_attempts int, search_path text,
	OUT first_version bigint,
	OUT version bigint,
	OUT "position" bigint,
	OUT attempts int)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	own_path CONSTANT text := current_setting('search_path');
	can_retry CONSTANT boolean :=
		current_setting('transaction_isolation') NOT IN ('repeatable read', 'serializable');
	seen bigint;
	events jsonb;
	outcome record;
BEGIN
	IF max_attempts IS NULL OR max_attempts NOT BETWEEN 1 AND 1000 THEN
		RAISE EXCEPTION USING
			ERRCODE = 'invalid_parameter_value',
			MESSAGE = 'argument "max_attempts" must be from 1 to 1000',
			DETAIL = jsonb_build_object('argument', 'max_attempts', 'value', max_attempts);
	END IF;

	FOR attempt IN 1 .. max_attempts LOOP
		attempts := attempt;
		seen := evstore._version_seen(stream);

		PERFORM pg_catalog.set_config('search_path', search_path, true);
		EXECUTE call INTO events, seen USING stream, seen, args;
		PERFORM pg_catalog.set_config('search_path', own_path, true);

		IF events IS NULL OR events IN ('null', '[]') THEN
			version := seen;
			RETURN;
		END IF;

		IF attempt = max_attempts OR NOT can_retry THEN
			-- the last attempt: a conflict is an error
			SELECT a.first_version, a.version, a."position"
			INTO _append_retry.first_version, _append_retry.version, _append_retry."position"
			FROM evstore.append_events(stream, events, expected_version => seen) AS a;
			RETURN;
		END IF;
		SELECT t.* INTO outcome
		FROM evstore.try_append(stream, events, expected_version => seen) AS t;
		IF outcome.ok THEN
			first_version := outcome.first_version;
			version := outcome.version;
			"position" := outcome."position";
			RETURN;
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION evstore._append_retry(text, text, jsonb, int, text) IS
	'private: decide and append; decide again if another writer was quicker';

/*
 * append_retry(stream, decide, args, max_attempts, search_path)
 *     returns first_version, version, position, attempts
 *
 * Have a function decide which events to append to a stream, and append them if
 * the stream is still at the version that it decided on; if not, have it decide
 * again.
 *
 * stream        the stream
 * decide        decide(stream text, version bigint, args jsonb) RETURNS jsonb: an
 *               array of events as append_events() takes them; NULL or [] to
 *               append nothing.  version is the stream's, -1 if there is none
 * args          passed on to decide
 * max_attempts  how often to decide at most, 1 to 1000
 * search_path   with which decide runs; default: the caller's
 *
 * first_version, version, position
 *               as append_events() returns them; if there was nothing to append
 *               NULL, the version that was decided on, NULL
 * attempts      how often decide was called
 *
 * decide is called again after every lost race, so it should do nothing but read
 * and compute.  Its reads must see what the other writer committed.  Under READ
 * COMMITTED each call does.  Under REPEATABLE READ and SERIALIZABLE they see the
 * transaction's snapshot, whenever they are made; deciding again could only repeat
 * the mistake.  There decide is called once, and a conflict raised at once: it is
 * the whole transaction that has to be tried again.
 *
 * The stream stays locked against other appends from the first attempt to append
 * to the end of the transaction, so the second one succeeds, unless the first was
 * to create the stream.
 *
 * Errors:
 * VS001  still in conflict after max_attempts, or at once as said above
 * VS010  decide does not have that form
 * 42501  the caller may not execute decide
 * 22023  max_attempts out of range
 * and those of append_events() and of decide itself
 */
CREATE OR REPLACE FUNCTION evstore.append_retry(
	stream text,
	decide regprocedure,
	args jsonb,
	max_attempts int DEFAULT 5,
	-- a default is evaluated before the function's own SET takes effect
	search_path text DEFAULT pg_catalog.current_setting('search_path'),
	OUT first_version bigint,
	OUT version bigint,
	OUT "position" bigint,
	OUT attempts int)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	SELECT r.* INTO first_version, version, "position", attempts
	FROM evstore._append_retry(stream, format('SELECT %s($1, $2, $3), $2', evstore._function_name(decide, 'decide',
		'text, bigint, jsonb', 'decide(stream text, version bigint, args jsonb)', 'to decide')), args,
		max_attempts, search_path) AS r;
END
$$;
REVOKE ALL ON FUNCTION evstore.append_retry(text, regprocedure, jsonb, int, text) FROM PUBLIC;
COMMENT ON FUNCTION evstore.append_retry(text, regprocedure, jsonb, int, text) IS
	'Decide and append; decide again if another writer was quicker';
