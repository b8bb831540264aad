-- Sagas: what a definition says, without looking at what there is.

CREATE OR REPLACE FUNCTION evstore._saga_problems(definition jsonb)
RETURNS TABLE (path text, severity text, message text)
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'evs_saga_problems';
COMMENT ON FUNCTION evstore._saga_problems(jsonb) IS 'what is wrong with a definition, as far as jsonb shows it';

CREATE OR REPLACE FUNCTION evstore._saga_envelope(definition jsonb) RETURNS jsonb
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'evs_saga_make_envelope';
COMMENT ON FUNCTION evstore._saga_envelope(jsonb) IS
	'{asl, compensation, options} of a definition in any form; VS010 if it is not valid';

CREATE OR REPLACE FUNCTION evstore._saga_graph(definition jsonb, name text, format text) RETURNS text
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'evs_saga_make_graph';
COMMENT ON FUNCTION evstore._saga_graph(jsonb, text, text) IS 'the diagram of a definition; VS010 if it is not valid';

-- Members of objects that are there more than once.  In jsonb only the last would be left.
CREATE OR REPLACE FUNCTION evstore._json_duplicates(document json) RETURNS SETOF text
LANGUAGE sql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	WITH RECURSIVE node (path, value, again) AS (
		SELECT '$', _json_duplicates.document, false
		UNION ALL
		SELECT n.path || m.step, m.value, m.again
		FROM node n
			CROSS JOIN LATERAL (
				SELECT '.' || CASE WHEN o.key ~ '^[A-Za-z_][A-Za-z0-9_]*$' THEN o.key ELSE to_json(o.key)::text END AS step,
					o.value, row_number() OVER (PARTITION BY o.key) > 1 AS again
				FROM json_each(CASE json_typeof(n.value) WHEN 'object' THEN n.value ELSE '{}' END) o
				UNION ALL
				SELECT format('[%s]', a.number - 1), a.value, false
				FROM json_array_elements(CASE json_typeof(n.value) WHEN 'array' THEN n.value ELSE '[]' END)
					WITH ORDINALITY a (value, number)) m)
	SELECT DISTINCT n.path FROM node n WHERE n.again ORDER BY n.path;
END;
COMMENT ON FUNCTION evstore._json_duplicates(json) IS 'paths of members that are there more than once';

/*
 * validate_saga(definition json) -> setof (path, severity, message)
 *
 * Everything that is wrong with a definition, with its JSON path: severity is error,
 * or warning for what is allowed but hardly meant.  No row: create_saga() takes it, if
 * the functions, relays and sagas that it names exist, which is not looked at here.
 *
 * json, and not jsonb, so that members that are there twice are seen; write
 * definition::json for a jsonb.  It can be called by everybody who may read.
 */
CREATE OR REPLACE FUNCTION evstore.validate_saga(definition json)
RETURNS TABLE (path text, severity text, message text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF definition IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'argument "definition" must not be null';
	END IF;
	RETURN QUERY SELECT d, 'error', 'is there more than once' FROM evstore._json_duplicates(definition) d;
	RETURN QUERY SELECT p.path, p.severity, p.message FROM evstore._saga_problems(definition::jsonb) p;
EXCEPTION WHEN data_exception THEN
	IF SQLSTATE = '22004' THEN
		RAISE;
	END IF;
	-- what json may have and jsonb may not: \u0000, numbers that are too large
	RETURN QUERY SELECT '$', 'error', format('cannot be stored: %s', SQLERRM);
END
$$;
COMMENT ON FUNCTION evstore.validate_saga(json) IS 'everything that is wrong with the definition of a saga';

/*
 * saga_graph(name, format default 'mermaid') -> text: the newest definition of a saga,
 * drawn.
 *
 * format: mermaid (a stateDiagram-v2) or dot (for Graphviz).  Errors: VS009, 22023.
 */
CREATE OR REPLACE FUNCTION evstore.saga_graph(name text, format text DEFAULT 'mermaid') RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	definition jsonb;
BEGIN
	IF saga_graph.name IS NULL OR saga_graph.format IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
			MESSAGE = pg_catalog.format('argument "%s" must not be null',
				CASE WHEN saga_graph.name IS NULL THEN 'name' ELSE 'format' END);
	END IF;
	SELECT v.definition INTO definition
	FROM evstore.saga s
		JOIN evstore.saga_version v ON v.saga_id = s.id AND v.version = s.version
	WHERE s.name = saga_graph.name;
	IF definition IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'VS009', MESSAGE = pg_catalog.format('saga "%s" does not exist', saga_graph.name),
			DETAIL = jsonb_build_object('saga', saga_graph.name)::text;
	END IF;
	RETURN evstore._saga_graph(definition, saga_graph.name, saga_graph.format);
END
$$;
COMMENT ON FUNCTION evstore.saga_graph(text, text) IS 'the definition of a saga as a diagram: mermaid or dot';
