/*
 * Routes: choreography, a process that comes about because services answer each
 * other's events, and that nobody controls (Hohpe and Woolf).  A route is a
 * projection that appends: exactly once, in order, with retries and parked events,
 * and each of its events caused by the one that it answers.
 */

CREATE OR REPLACE FUNCTION evstore._route_handler(fn regprocedure) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'VS010',
		MESSAGE = format('function %s cannot be the handler of a route', fn::text),
		DETAIL = jsonb_build_object('path', 'fn', 'function', fn::text)::text,
		HINT = 'It must have the form f(evstore.event) RETURNS void: what it appends is caused by the event.';
END
$$;
COMMENT ON FUNCTION evstore._route_handler(regprocedure) IS 'raises VS010 for a handler of batches';

-- The types of events that a filter lets through: * for {}, null if it does not say.
CREATE OR REPLACE FUNCTION evstore._filter_types(filter jsonb) RETURNS SETOF text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	WITH said AS MATERIALIZED (
		SELECT COALESCE(filter -> 'types', filter #> '{pattern,detail-type}', filter #> '{pattern,type}',
			filter #> '{pattern,eventType}') AS types)
	SELECT DISTINCT t.type
	FROM said CROSS JOIN LATERAL jsonb_array_elements_text(said.types) t (type)
	WHERE jsonb_typeof(said.types) = 'array' AND NOT jsonb_path_exists(said.types, 'strict $[*] ? (@.type() != "string")')
	UNION ALL
	SELECT CASE filter WHEN '{}' THEN '*' END
	FROM said
	WHERE said.types IS NULL OR jsonb_path_exists(said.types, 'strict $[*] ? (@.type() != "string")');
END;
COMMENT ON FUNCTION evstore._filter_types(jsonb) IS 'types of events that a filter names';

/*
 * What leads to what: as routes and sagas are defined, and as has been seen.
 * to_type is null where nothing is known to come of it.  observed is null for sagas.
 */
CREATE OR REPLACE VIEW evstore.choreography AS
WITH observed AS (
	SELECT o.route_id, o.from_type, o.to_type, sum(o.observed)::bigint AS observed
	FROM evstore.route_observed o GROUP BY 1, 2, 3
), declared AS (
	SELECT r.id AS route_id, f.type COLLATE "C" AS from_type, e.type AS to_type
	FROM evstore.route r
		JOIN evstore.subscription s ON s.id = r.id
		CROSS JOIN LATERAL evstore._filter_types(s.filter) f (type)
		LEFT JOIN LATERAL unnest(r.emits) e (type) ON true
	WHERE e.type IS NOT NULL OR NOT EXISTS (SELECT FROM observed o WHERE o.route_id = r.id)
), edge AS (
	SELECT COALESCE(o.route_id, d.route_id) AS route_id, COALESCE(o.from_type, d.from_type) AS from_type,
		COALESCE(o.to_type, d.to_type) AS to_type, COALESCE(o.observed, 0) AS observed
	FROM declared d FULL JOIN observed o
		ON o.route_id = d.route_id AND o.from_type = d.from_type AND o.to_type = d.to_type
)
SELECT x.from_type, s.name AS route, x.to_type,
	COALESCE(x.to_type = ANY (r.emits), false) AS declared, x.observed
FROM edge x JOIN evstore.subscription s ON s.id = x.route_id JOIN evstore.route r ON r.id = x.route_id
UNION ALL
SELECT f.type, 'saga:' || g.name, a.type, a.type IS NOT NULL, NULL::bigint
FROM evstore.saga g
	JOIN evstore.saga_version v ON v.saga_id = g.id AND v.version = g.version
	CROSS JOIN LATERAL (
		SELECT y.type COLLATE "C" FROM evstore.saga_trigger t CROSS JOIN LATERAL evstore._filter_types(COALESCE(t.entry -> 'filter',
			jsonb_build_object('types', jsonb_build_array(t.entry -> 'type')))) y (type)
		WHERE t.saga_id = g.id
		UNION
		SELECT w.type FROM evstore._saga_awaited(v.definition) w (type)) f (type)
	LEFT JOIN LATERAL evstore._saga_appended(v.definition) a (type) ON true;
COMMENT ON VIEW evstore.choreography IS 'which types of events lead to which, by routes and sagas';

CREATE OR REPLACE VIEW evstore.routes AS
SELECT s.name AS route,
	CASE WHEN p.faulted THEN 'stopped'
		WHEN s.paused THEN 'paused'
		WHEN EXISTS (SELECT FROM evstore.projection_error e WHERE e.projection_id = p.id) THEN 'failing'
		ELSE 'running' END AS state,
	p.owner,
	s.filter,
	ARRAY(SELECT f.type FROM evstore._filter_types(s.filter) f (type) WHERE f.type IS NOT NULL ORDER BY 1) AS types,
	p.handler,
	r.emits,
	ARRAY(SELECT DISTINCT o.to_type FROM evstore.route_observed o WHERE o.route_id = r.id ORDER BY 1) AS observed,
	p.created_at
FROM evstore.route r
	JOIN evstore.projection p ON p.id = r.id
	JOIN evstore.subscription s ON s.id = r.id;
COMMENT ON VIEW evstore.routes IS 'routes: what they answer, with what, and what they have been seen to append';

/*
 * The edges of which cycles are made.  One from * goes out of every type that
 * something leads to.
 */
CREATE OR REPLACE FUNCTION evstore._choreography_cyclic()
RETURNS TABLE (from_type text, route text, to_type text, named text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	WITH RECURSIVE edge AS MATERIALIZED (
		SELECT DISTINCT t.type AS from_type, c.route, c.to_type, c.from_type AS named
		FROM evstore.choreography c
			JOIN (SELECT DISTINCT x.to_type AS type FROM evstore.choreography x) t
				ON t.type = c.from_type OR c.from_type = '*'
		WHERE c.to_type IS NOT NULL
	), reach (source, target) AS (
		SELECT e.from_type, e.to_type FROM edge e
		UNION
		SELECT r.source, e.to_type FROM reach r JOIN edge e ON e.from_type = r.target
	)
	SELECT e.from_type, e.route, e.to_type, e.named
	FROM edge e JOIN reach r ON r.source = e.to_type AND r.target = e.from_type
	UNION
	SELECT e.from_type, e.route, e.to_type, e.named FROM edge e WHERE e.from_type = e.to_type;
END;
COMMENT ON FUNCTION evstore._choreography_cyclic() IS 'what cycles of events are made of';

-- A cycle from its least type on: the same one is found from each of its edges.
CREATE OR REPLACE FUNCTION evstore._choreography_turn(cycle text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT cycle[m.i:cardinality(cycle) - 1] || cycle[1:m.i]
	FROM (SELECT t.i::integer AS i FROM unnest(cycle) WITH ORDINALITY t (type, i)
		WHERE t.i % 2 = 1 ORDER BY t.type COLLATE "C", t.i LIMIT 1) m;
END;
COMMENT ON FUNCTION evstore._choreography_turn(text[]) IS 'a cycle, begun at its least type';

/*
 * choreography_cycles() -> setof text[]: types and routes by turns, from a type to
 * itself.
 *
 * For each edge of the view choreography that is part of a cycle, the shortest one
 * that it is part of; each once.  An empty result: whatever happens comes to an end.
 * A cycle may be meant, if a handler ends it.  Routes whose filter names no types
 * count with what they have been seen to do.
 */
CREATE OR REPLACE FUNCTION evstore.choreography_cycles() RETURNS SETOF text[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	edges jsonb := (SELECT COALESCE(jsonb_agg(c), '[]') FROM evstore._choreography_cyclic() c);
	e record;
	via jsonb;
	step jsonb;
	frontier text[];
	path text[];
	cycle text[];
	found text[] := '{}';
BEGIN
	FOR e IN SELECT * FROM jsonb_to_recordset(edges) x (from_type text, route text, to_type text)
			ORDER BY x.from_type COLLATE "C", x.route COLLATE "C", x.to_type COLLATE "C" LOOP
		-- breadth first from what comes of it, until that leads back
		via := '{}';
		frontier := ARRAY[e.to_type];
		WHILE e.from_type <> e.to_type AND NOT via ? e.from_type LOOP
			SELECT jsonb_object_agg(n.to_type, jsonb_build_array(n.from_type, n.route)), array_agg(n.to_type)
			INTO STRICT step, frontier
			FROM (SELECT DISTINCT ON (x.to_type) x.to_type, x.from_type, x.route
				FROM jsonb_to_recordset(edges) x (from_type text, route text, to_type text)
				WHERE x.from_type = ANY (frontier) AND NOT via ? x.to_type
				ORDER BY x.to_type, x.from_type, x.route) n;
			via := via || step;
		END LOOP;
		path := ARRAY[e.from_type];
		WHILE path[1] <> e.to_type LOOP
			path := ARRAY[via -> path[1] ->> 0, via -> path[1] ->> 1] || path;
		END LOOP;
		cycle := evstore._choreography_turn(ARRAY[e.from_type, e.route] || path);
		IF NOT cycle::text = ANY (found) THEN
			found := found || cycle::text;
			RETURN NEXT cycle;
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION evstore.choreography_cycles() IS 'cycles among routes and sagas: events that lead to themselves';

CREATE OR REPLACE FUNCTION evstore._choreography_quote(format text, name text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT CASE format
		WHEN 'mermaid' THEN '"' || replace(replace(replace(name, '#', '#35;'), '"', '#quot;'), E'\n', ' ') || '"'
		ELSE '"' || replace(replace(replace(name, E'\\', E'\\\\'), '"', E'\\"'), E'\n', ' ') || '"' END;
END;
COMMENT ON FUNCTION evstore._choreography_quote(text, text) IS 'a name as a graph has it';

/*
 * The lines of the graph.  Types are boxes, routes are round; a broken line has not
 * been seen to happen, a red one is part of a cycle.
 */
CREATE OR REPLACE FUNCTION evstore._choreography_lines(format text) RETURNS TABLE (part integer, line text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	WITH edge AS MATERIALIZED (
		SELECT COALESCE(c.from_type, '(other filter)') AS from_type, c.route, c.to_type, c.observed,
			EXISTS (SELECT FROM evstore._choreography_cyclic() y
				WHERE y.named = c.from_type AND y.route = c.route AND y.to_type = c.to_type) AS cyclic
		FROM evstore.choreography c
	), node AS MATERIALIZED (
		SELECT x.kind, x.name, x.kind || row_number() OVER (PARTITION BY x.kind ORDER BY x.name COLLATE "C") AS id
		FROM (SELECT 't' AS kind, e.from_type AS name FROM edge e
			UNION SELECT 't', e.to_type FROM edge e WHERE e.to_type IS NOT NULL
			UNION SELECT 'r', e.route FROM edge e) x
	), link AS MATERIALIZED (
		SELECT row_number() OVER (ORDER BY x.route COLLATE "C", x.side, x.type COLLATE "C") - 1 AS n, r.id AS route, t.id AS type, x.side,
			x.cyclic, x.observed
		FROM (SELECT e.route, 1 AS side, e.from_type AS type, bool_or(e.cyclic) AS cyclic, sum(e.observed) AS observed
			FROM edge e GROUP BY e.route, e.from_type
			UNION ALL
			SELECT e.route, 2, e.to_type, bool_or(e.cyclic), sum(e.observed)
			FROM edge e WHERE e.to_type IS NOT NULL GROUP BY e.route, e.to_type) x
			JOIN node r ON r.kind = 'r' AND r.name = x.route
			JOIN node t ON t.kind = 't' AND t.name = x.type
	)
	SELECT 1, CASE format WHEN 'mermaid' THEN 'flowchart LR' ELSE E'digraph choreography {\n\trankdir=LR;' END
	UNION ALL
	SELECT 2, CASE
		WHEN format = 'mermaid' AND n.kind = 't' THEN format('    %s[%s]', n.id, evstore._choreography_quote(format, n.name))
		WHEN format = 'mermaid' THEN format('    %s([%s])', n.id, evstore._choreography_quote(format, n.name))
		ELSE format(E'\t%s [label=%s, shape=%s];', n.id, evstore._choreography_quote(format, n.name),
			CASE n.kind WHEN 't' THEN 'box' ELSE 'ellipse' END) END
	FROM (SELECT * FROM node x ORDER BY x.kind DESC, x.name COLLATE "C") n
	UNION ALL
	SELECT 3, CASE
		WHEN format = 'mermaid' THEN format('    %s %s%s %s', l.source, CASE WHEN l.seen THEN '-->' ELSE '-.->' END,
			CASE WHEN l.seen AND l.side = 2 THEN format('|%s|', l.observed) ELSE '' END, l.target)
		ELSE format(E'\t%s -> %s [style=%s%s%s];', l.source, l.target, CASE WHEN l.seen THEN 'solid' ELSE 'dashed' END,
			CASE WHEN l.seen AND l.side = 2 THEN format(', label="%s"', l.observed) ELSE '' END,
			CASE WHEN l.cyclic THEN ', color=red' ELSE '' END) END
	FROM (SELECT x.*, CASE x.side WHEN 1 THEN x.type ELSE x.route END AS source,
			CASE x.side WHEN 1 THEN x.route ELSE x.type END AS target, COALESCE(x.observed > 0, false) AS seen
		FROM link x ORDER BY x.n) l
	UNION ALL
	SELECT 4, CASE format WHEN 'mermaid' THEN (SELECT '    linkStyle ' || string_agg(l.n::text, ',' ORDER BY l.n) || ' stroke:red'
		FROM link l WHERE l.cyclic) ELSE '}' END;
END;
COMMENT ON FUNCTION evstore._choreography_lines(text) IS 'the lines of a graph of routes and sagas';

/*
 * choreography_graph(format) -> text: routes and sagas, drawn.
 *
 * format: mermaid, or dot (of Graphviz).  Errors: 22023 for another one.
 */
CREATE OR REPLACE FUNCTION evstore.choreography_graph(format text DEFAULT 'mermaid') RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF format IS NULL OR format NOT IN ('mermaid', 'dot') THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = 'argument "format" must be mermaid or dot';
	END IF;
	RETURN (SELECT string_agg(l.line, E'\n' ORDER BY l.part, l.n)
		FROM evstore._choreography_lines(format) WITH ORDINALITY l (part, line, n)) || E'\n';
END
$$;
COMMENT ON FUNCTION evstore.choreography_graph(text) IS 'which events lead to which, as a graph to be drawn';

CREATE OR REPLACE FUNCTION evstore._route_create(name text, owner text, fn regprocedure, filter jsonb, emits text[],
	options jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	cycle text[];
BEGIN
	IF num_nulls(filter, fn, emits, options) > 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
			MESSAGE = format('argument "%s" must not be null', CASE WHEN filter IS NULL THEN 'filter'
				WHEN fn IS NULL THEN 'fn' WHEN emits IS NULL THEN 'emits' ELSE 'options' END);
	ELSIF EXISTS (SELECT FROM unnest(emits) t WHERE t IS NULL OR octet_length(t) NOT BETWEEN 1 AND 512) THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = 'argument "emits" must have types of events, of 1 to 512 bytes';
	ELSIF jsonb_typeof(options) <> 'object' THEN
		PERFORM evstore._invalid('$.options', 'must be an object');
	ELSIF options ->> 'mode' <> 'async' THEN
		PERFORM evstore._invalid('$.options.mode', 'must be async for a route');
	ELSIF jsonb_typeof(options -> 'start') <> 'string' THEN
		PERFORM evstore._invalid('$.options.start', 'must be a string');
	END IF;
	PERFORM evstore._projection_create(name, owner, fn, filter, COALESCE(options ->> 'start', 'end'),
		'{"on_error": "park"}' || options - 'start');
	IF (SELECT p.batched FROM evstore.projection p JOIN evstore.subscription s ON s.id = p.id
			WHERE s.name = _route_create.name) THEN
		PERFORM evstore._route_handler(fn);
	END IF;
	INSERT INTO evstore.route (id, emits)
	SELECT s.id, ARRAY(SELECT DISTINCT t COLLATE "C" FROM unnest(_route_create.emits) t ORDER BY 1)
	FROM evstore.subscription s WHERE s.name = _route_create.name;
	PERFORM evstore._audit('create_route', jsonb_build_object('route', name, 'emits', emits));
	FOR cycle IN SELECT c FROM evstore.choreography_cycles() c LOOP
		IF EXISTS (SELECT FROM unnest(cycle) WITH ORDINALITY t (x, i) WHERE t.i % 2 = 0 AND t.x = name) THEN
			RAISE WARNING USING MESSAGE = format('route "%s" closes a cycle of events', name),
				DETAIL = array_to_string(cycle, ' -> '),
				HINT = 'See that a handler ends it.';
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION evstore._route_create(text, text, regprocedure, jsonb, text[], jsonb) IS 'behind create_route()';

/*
 * create_route(name, filter, fn, emits, options)
 *
 * Answers events that match the filter: fn, f(evstore.event) RETURNS void, is called with
 * each once, and appends what is to come of it.  The event is the cause of what it
 * appends.  It runs as the role that calls this function.
 * name: as for create_projection().  emits: types that fn appends, for the graph;
 * what it does append is observed, too.
 * options: start (default end: events from now on), and those of create_projection()
 * but for mode; on_error is park if not given, so that one event that fails does not
 * hold up others.
 * A WARNING tells of a cycle: the route's events lead back to what it answers.
 * Errors: VS008, VS010, 22004, 22023, 42501.
 */
CREATE OR REPLACE FUNCTION evstore.create_route(name text, filter jsonb, fn regprocedure, emits text[] DEFAULT '{}',
	options jsonb DEFAULT '{}')
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_create_route';
COMMENT ON FUNCTION evstore.create_route(text, jsonb, regprocedure, text[], jsonb) IS 'answer events with events, by a function';

CREATE OR REPLACE FUNCTION evstore.drop_route(name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name, 'projection');
BEGIN
	IF NOT EXISTS (SELECT FROM evstore.route r WHERE r.id = s.id) THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('projection "%s" is not a route', name),
			HINT = 'Use drop_projection().';
	END IF;
	PERFORM evstore._projection_needed(name);
	PERFORM evstore._projection_remove(s.id);
	PERFORM evstore._audit('drop_route', jsonb_build_object('route', name));
END
$$;
COMMENT ON FUNCTION evstore.drop_route(text) IS 'remove a route, its parked events, and what was observed of it';
