-- Appending.  docs/reference/append.md describes each function.

CREATE OR REPLACE FUNCTION evstore.version() RETURNS text
LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'evs_version';
COMMENT ON FUNCTION evstore.version() IS 'version of the loaded library';

CREATE OR REPLACE FUNCTION evstore.any_version() RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN -2::bigint;
COMMENT ON FUNCTION evstore.any_version() IS 'expected version: any';

CREATE OR REPLACE FUNCTION evstore.no_stream() RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN -1::bigint;
COMMENT ON FUNCTION evstore.no_stream() IS 'expected version: no stream yet, or a deleted one';

CREATE OR REPLACE FUNCTION evstore.stream_exists_version() RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN -4::bigint;
COMMENT ON FUNCTION evstore.stream_exists_version() IS 'expected version: the stream must exist';

CREATE OR REPLACE FUNCTION evstore.append(
	stream text,
	type text,
	data jsonb DEFAULT '{}',
	metadata jsonb DEFAULT NULL,
	expected_version bigint DEFAULT NULL,
	event_id uuid DEFAULT NULL,
	correlation_id text DEFAULT NULL,
	causation_id uuid DEFAULT NULL,
	schema_version integer DEFAULT 1,
	occurred_at timestamptz DEFAULT NULL,
	source text DEFAULT NULL,
	tags text[] DEFAULT NULL,
	OUT version bigint,
	OUT "position" bigint)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_append';
COMMENT ON FUNCTION evstore.append(text, text, jsonb, jsonb, bigint, uuid, text, uuid, integer, timestamptz, text, text[]) IS
	'append one event; call it as SELECT * FROM evstore.append(...)';

CREATE OR REPLACE FUNCTION evstore.append_one(
	stream text,
	type text,
	data jsonb DEFAULT '{}',
	metadata jsonb DEFAULT NULL,
	expected_version bigint DEFAULT NULL,
	event_id uuid DEFAULT NULL,
	correlation_id text DEFAULT NULL,
	causation_id uuid DEFAULT NULL,
	schema_version integer DEFAULT 1,
	occurred_at timestamptz DEFAULT NULL,
	source text DEFAULT NULL,
	tags text[] DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_append_one';
COMMENT ON FUNCTION evstore.append_one(text, text, jsonb, jsonb, bigint, uuid, text, uuid, integer, timestamptz, text, text[]) IS
	'append one event and return its version alone';

CREATE OR REPLACE FUNCTION evstore.append_events(
	stream text,
	events jsonb,
	expected_version bigint DEFAULT NULL,
	commutes_with text[] DEFAULT NULL,
	OUT first_version bigint,
	OUT version bigint,
	OUT "position" bigint)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_append_events';
COMMENT ON FUNCTION evstore.append_events(text, jsonb, bigint, text[]) IS
	'append the events of a JSON array, all or nothing';

CREATE OR REPLACE FUNCTION evstore.append_arrays(
	stream text,
	types text[],
	data jsonb[] DEFAULT NULL,
	metadata jsonb[] DEFAULT NULL,
	event_ids uuid[] DEFAULT NULL,
	expected_version bigint DEFAULT NULL,
	OUT first_version bigint,
	OUT version bigint,
	OUT "position" bigint)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_append_arrays';
COMMENT ON FUNCTION evstore.append_arrays(text, text[], jsonb[], jsonb[], uuid[], bigint) IS
	'append the events of parallel arrays, all or nothing';

CREATE OR REPLACE FUNCTION evstore.try_append(
	stream text,
	events jsonb,
	expected_version bigint DEFAULT NULL,
	commutes_with text[] DEFAULT NULL,
	OUT ok boolean,
	OUT first_version bigint,
	OUT version bigint,
	OUT "position" bigint,
	OUT actual_version bigint)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_try_append';
COMMENT ON FUNCTION evstore.try_append(text, jsonb, bigint, text[]) IS
	'as append_events, but a conflict is a result, not an error';

CREATE OR REPLACE FUNCTION evstore.append_streams(appends jsonb)
RETURNS TABLE (stream text, first_version bigint, version bigint, "position" bigint)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_append_streams';
COMMENT ON FUNCTION evstore.append_streams(jsonb) IS
	'append to several streams, all or nothing';

