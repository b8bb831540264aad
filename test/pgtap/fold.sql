-- The fold evaluates a transition in its own way: fields of the event without the
-- event, jsonb_build_object() and its like by functions of its own.  Each transition
-- here must do in a load, and in fold(), as in a loop in PL/pgSQL.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;

SELECT plan(168);

CREATE SCHEMA shape;
CREATE DOMAIN shape.small AS int CHECK (value < 1000);
CREATE DOMAIN shape.smaller AS shape.small CHECK (value < 100);
CREATE DOMAIN shape.word AS varchar(20);
CREATE DOMAIN shape.object AS jsonb CHECK (jsonb_typeof(value) = 'object');
CREATE TYPE shape.mood AS ENUM ('sad', 'glad');
CREATE SEQUENCE shape.calls;

-- An event with all columns, one with as few as can be, and values that are stored
-- compressed and out of line.
SELECT evstore.append_events('shape-1', jsonb_build_array(
	'{"type": "Drawn", "data": {"n": 1, "text": "Größe", "list": [1, [2], {}], "none": null, "half": 0.50}, "metadata": {"by": "me"},
		"correlation_id": "c-1", "causation_id": "01890a5d-ac96-774b-bcce-b302099a8057", "source": "pen",
		"occurred_at": "2024-02-29T12:00:00Z", "schema_version": 3, "tags": ["a", "b"]}'::jsonb,
	'{"type": "Seen", "data": {"n": 2}}'::jsonb,
	'{"type": "Drawn", "data": 17}'::jsonb,
	'{"type": "Drawn", "data": []}'::jsonb,
	jsonb_build_object('type', 'Drawn', 'data', jsonb_build_object('n', 5, 'text', repeat('long ', 1000))),
	jsonb_build_object('type', 'Drawn', 'data', jsonb_build_object('n', 6, 'text', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 9000) AS i))),
	'{"type": "Seen", "data": {"n": 7}}'::jsonb)) \g /dev/null

-- What transitions call.
CREATE FUNCTION shape.inlined(e evstore.event) RETURNS text LANGUAGE sql STABLE AS $$ SELECT e.type || e.version $$;
CREATE FUNCTION shape.called(e evstore.event) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN e.type || e.version || coalesce(length(e.data ->> 'text'), 0); END $$;
CREATE FUNCTION shape.field(t text) RETURNS text LANGUAGE plpgsql STRICT AS $$ BEGIN RETURN t || '.'; END $$;

CREATE TABLE shape.transition (id int GENERATED ALWAYS AS IDENTITY, options text, body text);
INSERT INTO shape.transition (options, body)
-- ---- how the event is used ----
SELECT 'STABLE', body FROM (VALUES
	($$ jsonb_build_object('position', e.position, 'stream', e.stream, 'version', e.version, 'type', e.type, 'schema_version', e.schema_version,
		'data', e.data, 'metadata', e.metadata, 'correlation_id', e.correlation_id, 'source', e.source, 'before', state -> 'version') $$),
	($$ jsonb_build_object('event_id', e.event_id, 'causation_id', e.causation_id, 'occurred_at', e.occurred_at, 'recorded_at', e.recorded_at, 'tags', e.tags) $$),
	($$ jsonb_build_object('a', e.data -> 'n', 'b', e.data -> 'text', 'c', e.data) || state $$),
	($$ jsonb_build_object('a', length(e.data ->> 'text'), 'b', md5(e.data ->> 'text'), 'c', e.data ? 'text') $$),
	($$ to_jsonb(e) $$),
	($$ jsonb_build_object('all', e, 'type', e.type) $$),
	($$ jsonb_build_object('all', ROW(e.*)::evstore.event, 'type', e.type) $$),
	($$ to_jsonb(ROW(e.*)) $$),
	($$ to_jsonb(e::text) $$),
	($$ jsonb_build_array(e IS NULL, e IS NOT NULL, e IS DISTINCT FROM NULL, (e).type IS NULL, e.source IS NULL) $$),
	($$ jsonb_build_array(e = e, e < ROW(e.*)::evstore.event, ROW(e.version, e.type) < ROW(3, 'M'), (e.version, e.source) IS NULL) $$),
	($$ jsonb_build_array((ROW(1, 'a', 2, NULL, 'b', 3, e.data, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::evstore.event).data, e.version) $$),
	($$ to_jsonb(shape.inlined(e)) $$),
	($$ to_jsonb(shape.called(e)) $$),
	($$ jsonb_build_array(shape.called(e), shape.inlined(e), e.type, e.data) $$),
	($$ jsonb_build_array(shape.called(e), e.data ->> 'text', length(e.data ->> 'text')) $$),
	($$ jsonb_build_array(shape.field(e.type), shape.field(e.correlation_id), coalesce(e.correlation_id, e.source, 'none')) $$),
	($$ jsonb_build_array(e.tags[1], array_length(e.tags, 1), 'b' = ANY (e.tags), e.type = ANY ('{Seen,Lost}')) $$),
	($$ jsonb_build_array(e.type < 'E' COLLATE "C", e.type LIKE 'D%', e.type COLLATE "C" >= 'Seen') $$),
	($$ jsonb_build_array(extract(epoch FROM e.recorded_at - e.recorded_at), e.occurred_at = e.recorded_at, e.occurred_at > '2025-01-01') $$),
	($$ jsonb_build_array((e.data ->> 'n')::int::shape.small, (e.version * 10)::int::shape.smaller) $$),
	($$ jsonb_build_array((e.version * 300)::int::shape.small) $$),
	($$ jsonb_build_array((SELECT max(x) FROM jsonb_each_text(CASE jsonb_typeof(e.data) WHEN 'object' THEN e.data END) AS t (k, x))) $$),
	-- what is returned belongs to something else
	($$ e.data $$), ($$ e.metadata $$), ($$ e.data -> 'none' $$), ($$ state $$), ($$ NULL::jsonb $$), ($$ '{"a": "constant"}'::jsonb $$),
	($$ CASE WHEN e.version % 2 = 0 THEN e.data ELSE state END $$),
	-- the state
	($$ jsonb_build_array(e.version, state) $$),
	($$ jsonb_build_object('old', state -> 'new', 'new', state -> 'old') || jsonb_build_object('n', e.version, 'size', length(state::text)) || state $$),
	($$ CASE WHEN e.type = 'Drawn' THEN jsonb_build_object('drawn', coalesce((state ->> 'drawn')::int, 0) + 1) END $$),
	($$ jsonb_set(state, '{n}', to_jsonb(coalesce((state ->> 'n')::numeric, 0) + 0.10)) $$),
	($$ jsonb_build_object('n', 10 / (3 - e.version)) $$)) AS t (body)
UNION ALL
-- ---- how the function is declared ----
SELECT options, $$ jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + 1, 'type', e.type, 'path', current_setting('search_path')) $$
FROM unnest('{STABLE,VOLATILE,IMMUTABLE,STRICT,STABLE STRICT,SECURITY DEFINER,SET search_path = shape,STABLE LEAKPROOF,PARALLEL SAFE}'::text[]) AS options
UNION ALL
SELECT 'STABLE STRICT', $$ e.data || state $$
UNION ALL
SELECT 'VOLATILE', $$ CASE WHEN nextval('shape.calls') > 0 THEN jsonb_build_object('type', e.type) END $$
UNION ALL
-- ---- what JSON is built of ----
SELECT 'STABLE', body FROM (VALUES
	($$ jsonb_build_object() $$), ($$ jsonb_build_array() $$),
	($$ jsonb_build_object('a', 1, 'b', 2, 'a', e.version) $$),
	($$ jsonb_build_object('z', 1, 'aa', 2, 'b', 3, '', 4, 'ä', 5, e.type, 6) $$),
	($$ jsonb_build_object(e.type::varchar(3), e.type::varchar(3), e.type::char(8), e.type::char(8), e.type::name, 1) $$),
	($$ jsonb_build_object('Seen'::shape.word, 'Seen'::shape.word, 'o', '{"a": 1}'::shape.object) $$),
	($$ jsonb_build_object('o', e.data::shape.object) $$),
	($$ jsonb_build_object(e.version, e.version) $$), ($$ jsonb_build_object(true, 1, 1.50, 2) $$),
	($$ jsonb_build_object(e.source, 1) $$), ($$ jsonb_build_object(NULL, 1) $$), ($$ jsonb_build_object('a', 1, NULL::text, 1) $$),
	($$ jsonb_build_object('a') $$), ($$ jsonb_build_object(e.data, 1) $$), ($$ jsonb_build_object(ARRAY[1], 1) $$),
	($$ jsonb_build_object(VARIADIC ARRAY[e.type, e.type, 'x', e.source]) $$), ($$ jsonb_build_array(VARIADIC ARRAY[e.version, 1]) $$),
	($$ jsonb_build_array(VARIADIC NULL::text[]) $$),
	($$ jsonb_build_array(e.version::int2, (-e.version)::int2, 32767::int2, -32768::int2, 0::int2, NULL::int2) $$),
	($$ jsonb_build_array(e.version::int4, 2147483647, -2147483648, 0, 10000, 100000000, NULL::int) $$),
	($$ jsonb_build_array(e.version, 9223372036854775807, -9223372036854775808, 0::bigint, 10000::bigint, 1000000000000, NULL::bigint) $$),
	($$ jsonb_build_array(e.version / 3.0, 1.50, 0.000, -0.1, 1e100, 1e-20, 10000.0000, 123456789012345678901234567890.5, NULL::numeric, 1.25::numeric(10, 1)) $$),
	($$ jsonb_build_array(1, 'NaN'::numeric, e.type) $$), ($$ jsonb_build_object('a', 'Infinity'::numeric, 'b', '-Infinity'::numeric) $$),
	($$ jsonb_build_array(1::float8, 0.1::float4, 'NaN'::float8, 1e300::float8) $$),
	($$ jsonb_build_array(true, false, NULL::bool, e.version = 1) $$),
	($$ jsonb_build_array('', 'a', e.type, 'Größe "quoted" \ ' || chr(10), NULL, NULL::text, 'x'::"char", 'glad'::shape.mood) $$),
	($$ jsonb_build_array(e.data, e.data -> 'list', e.data -> 'none', e.data -> 'text', e.data -> 'half', '{}'::jsonb, '[]'::jsonb, 'null'::jsonb, 'true'::jsonb, '"s"'::jsonb, NULL::jsonb) $$),
	($$ jsonb_build_object('a', jsonb_build_array(e.version, jsonb_build_object('b', jsonb_build_array()), 'x'), 'c', jsonb_build_object('d', e.data)) $$),
	($$ jsonb_build_array('{"b":1,  "a": 2}'::json, date '2024-02-29', timestamp '2024-02-29 12:00', interval '1 day', ARRAY[1, 2], e.tags, ROW(1, 'a'), 'a'::bytea) $$),
	($$ jsonb_build_array(repeat('long ', 5000), e.data ->> 'text') $$),
	($$ to_jsonb(e.version::int2) $$), ($$ to_jsonb(e.version::int) $$), ($$ to_jsonb(e.version) $$), ($$ to_jsonb(e.version / 7.0) $$),
	($$ to_jsonb(e.version > 2) $$), ($$ to_jsonb(e.type) $$), ($$ to_jsonb('a'::varchar) $$), ($$ to_jsonb(e.source) $$),
	($$ to_jsonb(e.data) $$), ($$ to_jsonb(e.data -> 'text') $$), ($$ to_jsonb(e.data -> 'list') $$), ($$ to_jsonb('NaN'::numeric) $$),
	($$ to_jsonb(e.version::int::shape.small) $$), ($$ to_jsonb(e.event_id) $$), ($$ to_jsonb(e.tags) $$), ($$ to_jsonb(1.5::float8) $$),
	($$ jsonb_build_object('build', json_build_object('a', e.version), 'agg', to_json(e.type)) $$)) AS t (body);

SELECT format('CREATE FUNCTION shape.t%s(state jsonb, e evstore.event) RETURNS jsonb LANGUAGE sql %s AS $f$ SELECT %s $f$', id, options, body) FROM shape.transition ORDER BY id \gexec

-- A state and how it is stored, or the error.
CREATE FUNCTION shape.outcome(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state jsonb;
	code text;
	message text;
BEGIN
	EXECUTE query INTO state;
	RETURN format('%s (%s bytes)', state, pg_column_size(state));
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
	RETURN format('%s: %s', code, message);
END $$;
-- The loop, with the planner's view of a call to it.
CREATE FUNCTION shape.loop(transition text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	state jsonb := '{}';
	e evstore.event;
	next jsonb;
BEGIN
	FOR e IN SELECT * FROM evstore.read_stream('shape-1') LOOP
		EXECUTE format('SELECT shape.%I($1, $2)', transition) INTO next USING state, e;
		state := coalesce(next, state);
	END LOOP;
	RETURN state;
END $$;
SELECT evstore.create_aggregate('shape', '{}', 'shape.t1(jsonb,evstore.event)') \g /dev/null
CREATE FUNCTION shape.load(transition text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evstore.alter_aggregate('shape', transition => format('shape.%I(jsonb,evstore.event)', transition)::regprocedure);
	RETURN shape.outcome('SELECT state FROM evstore.load_aggregate(''shape-1'')');
END $$;

SELECT is(shape.load('t' || id), shape.outcome(format('SELECT shape.loop(%L)', 't' || id)), format('%s: %s', options, btrim(body)))
FROM shape.transition ORDER BY id;
SELECT is(shape.outcome(format('SELECT evstore.fold(e, ''shape.t%s(jsonb,evstore.event)'', ''{}'' ORDER BY e.version) FROM evstore.read_stream(''shape-1'') AS e', id)),
	shape.load('t' || id), format('fold(), %s: %s', options, btrim(body)))
FROM shape.transition WHERE body ~ '\m(e|state)\M' AND body !~ 'search_path|calls' ORDER BY id;

-- ---- how often, by whom, and what an error says ----

SELECT setval('shape.calls', 1, false) \g /dev/null
SELECT shape.load('t' || id) FROM shape.transition WHERE body ~ 'calls' \g /dev/null
SELECT is(nextval('shape.calls'), 8::bigint, 'a volatile function is called once for each event');

CREATE FUNCTION shape.context(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	context text;
BEGIN
	EXECUTE query;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
	RETURN split_part(context, E'\n', 1);
END $$;
SELECT shape.load('t' || id) FROM shape.transition WHERE body ~ '10 /' \g /dev/null
SELECT is(shape.context('SELECT evstore.load_aggregate(''shape-1'')'), (SELECT format('transition shape.t%s(jsonb,evstore.event) at version 3 of stream "shape-1", of type "Drawn"', id) FROM shape.transition WHERE body ~ '10 /'),
	'an error says at which event it was');
SELECT is(shape.context(format('SELECT evstore.fold(e, ''shape.t%s(jsonb,evstore.event)'', ''{}'' ORDER BY e.version) FROM evstore.read_stream(''shape-1'') AS e', id)),
	format('transition shape.t%s(jsonb,evstore.event) at version 3 of stream "shape-1", of type "Drawn"', id), 'in fold(), too')
FROM shape.transition WHERE body ~ '10 /';

-- what is not stored yet has no position and may have no id
SELECT shape.load('t' || id) FROM shape.transition WHERE body ~ '''all'', e,' \g /dev/null
SELECT results_eq($$ SELECT state #>> '{all,type}', state #> '{all,position}' FROM evstore.check_transitions('shape-2', '[{"type": "Drawn", "data": {"n": 1}}]') $$,
	$$ VALUES ('Drawn', 'null'::jsonb) $$, 'a new event as a whole');
SELECT shape.load('t1') \g /dev/null
SELECT is((SELECT state FROM evstore.check_transitions('shape-2', '[{"type": "Drawn", "data": {"n": 1}}]')) - 'before',
	'{"position": null, "stream": "shape-2", "version": 0, "type": "Drawn", "schema_version": 1, "data": {"n": 1}, "metadata": {}, "correlation_id": null, "source": null}', 'and by its columns');

-- the right to execute what is called in another way
CREATE ROLE shape_reader;
SELECT evstore.grant_access('shape_reader', 'reader') \g /dev/null
GRANT USAGE ON SCHEMA shape TO shape_reader;
REVOKE EXECUTE ON FUNCTION jsonb_build_object(VARIADIC "any") FROM PUBLIC;
SET ROLE shape_reader;
SELECT is(shape.outcome('SELECT state FROM evstore.load_aggregate(''shape-1'')'), '42501: permission denied for function jsonb_build_object', 'rights on jsonb_build_object() count');
RESET ROLE;
GRANT EXECUTE ON FUNCTION jsonb_build_object(VARIADIC "any") TO PUBLIC;

SELECT finish();
