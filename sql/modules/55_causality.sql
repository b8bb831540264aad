/*
 * Causality: what led to an event, and what came of it.
 *
 * An event's causation_id is the id of the event that caused it; the events of
 * one business transaction share a correlation_id (terms: the correlation
 * extension of CloudEvents; Hohpe and Woolf's Correlation Identifier).  Each
 * event has one cause at most, so a correlation is a forest, except where ids
 * chosen by callers close a circle; circles are cut, never followed twice.
 *
 * All three functions return the columns of evstore.event, depth and path, so
 * their arguments have other names than those columns.
 */

/*
 * flow(correlation) returns setof (columns of evstore.event, depth, path)
 *
 * Every event of the correlation, as the forest of causes and effects.
 *
 * correlation  a correlation id
 *
 * depth        0 for a root: an event without a cause in this correlation; else
 *              one more than its cause's
 * path         the event ids from the root to the event itself, depth + 1 of them
 *
 * Rows come depth first: an event follows its cause, and the effects of one
 * cause come in the order of their positions, as the roots do.  Of the events of
 * a circle the one with the lowest position is taken for a root.
 *
 * It reads the committed log up to the safe position, so a transaction does not
 * see its own events here.  Cost: the events of the correlation, by index.
 *
 * Errors: none.  An unknown or NULL correlation gives no rows.
 */
CREATE OR REPLACE FUNCTION evstore.flow(correlation text)
RETURNS TABLE (
	"position" bigint,
	stream text,
	version bigint,
	event_id uuid,
	type text,
	schema_version int,
	data jsonb,
	metadata jsonb,
	correlation_id text,
	causation_id uuid,
	source text,
	occurred_at timestamptz,
	recorded_at timestamptz,
	tags text[],
	depth int,
	path uuid[])
LANGUAGE sql VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	WITH RECURSIVE
	member AS MATERIALIZED (
		SELECT e.* FROM evstore.read_correlation(correlation) AS e
	),
	/*
	 * A circle has an event that was recorded before its cause.  From each such
	 * event walk up; UNION ends the walk where it has been before.  An event that
	 * comes upon itself is on a circle, and the walk has met no other events.
	 */
	walk (start, start_position, "position", cause) AS (
		SELECT e.event_id, e."position", e."position", e.causation_id
		FROM member AS e
		JOIN member AS c ON c.event_id = e.causation_id
		WHERE c."position" >= e."position"
		UNION
		SELECT w.start, w.start_position, c."position", c.causation_id
		FROM walk AS w
		JOIN member AS c ON c.event_id = w.cause
	),
	cut AS (
		SELECT w.start AS event_id
		FROM walk AS w
		GROUP BY w.start, w.start_position
		HAVING bool_or(w.cause = w.start) AND min(w."position") = w.start_position
	),
	link AS (
		SELECT e.event_id, e."position", c.event_id AS cause
		FROM member AS e
		LEFT JOIN member AS c
			ON c.event_id = e.causation_id
			AND NOT EXISTS (SELECT FROM cut AS x WHERE x.event_id = e.event_id)
	),
	tree (event_id, depth, path, place) AS (
		SELECT l.event_id, 0, ARRAY[l.event_id], ARRAY[l."position"]
		FROM link AS l
		WHERE l.cause IS NULL
		UNION ALL
		SELECT l.event_id, t.depth + 1, t.path || l.event_id, t.place || l."position"
		FROM tree AS t
		JOIN link AS l ON l.cause = t.event_id
	)
	SELECT m.*, t.depth, t.path
	FROM tree AS t
	JOIN member AS m ON m.event_id = t.event_id
	ORDER BY t.place
$$;
REVOKE ALL ON FUNCTION evstore.flow(text) FROM PUBLIC;
COMMENT ON FUNCTION evstore.flow(text) IS
	'Every event of a correlation, as the tree of causes and effects';

/*
 * causes_of(id) returns setof (columns of evstore.event, depth, path)
 *
 * The chain of causes, from the event up to the first.
 *
 * id     an event id
 *
 * depth  0 for the event itself, 1 for its cause, ...
 * path   the event ids from the event itself to this row's, depth + 1 of them
 *
 * The chain crosses streams and correlations.  It ends at an event without a
 * cause, at a cause that is not in this store, or where it would come to an event
 * again.  Cost: one look-up by id a row.  A transaction sees its own events.
 *
 * Errors: none.  An unknown or NULL id gives no rows.
 */
CREATE OR REPLACE FUNCTION evstore.causes_of(id uuid)
RETURNS TABLE (
	"position" bigint,
	stream text,
	version bigint,
	event_id uuid,
	type text,
	schema_version int,
	data jsonb,
	metadata jsonb,
	correlation_id text,
	causation_id uuid,
	source text,
	occurred_at timestamptz,
	recorded_at timestamptz,
	tags text[],
	depth int,
	path uuid[])
LANGUAGE sql VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	WITH RECURSIVE chain AS (
		SELECT e.*, 0 AS depth, ARRAY[e.event_id] AS path
		FROM evstore.get_event(id) AS e
		WHERE e.event_id IS NOT NULL
		UNION ALL
		SELECT e.*, c.depth + 1, c.path || e.event_id
		FROM chain AS c
		CROSS JOIN LATERAL evstore.get_event(c.causation_id) AS e
		WHERE c.causation_id <> ALL (c.path)
			AND e.event_id IS NOT NULL
	)
	SELECT c.* FROM chain AS c ORDER BY c.depth
$$;
REVOKE ALL ON FUNCTION evstore.causes_of(uuid) FROM PUBLIC;
COMMENT ON FUNCTION evstore.causes_of(uuid) IS
	'The chain of causes, from an event up to the first';

/*
 * _effect_links(cause)
 *
 * The committed events that may have come of the event: those of its correlation,
 * or, for an event without one, all later events that name a cause.
 */
CREATE OR REPLACE FUNCTION evstore._effect_links(cause evstore.event)
RETURNS TABLE (event_id uuid, causation_id uuid, "position" bigint)
LANGUAGE plpgsql VOLATILE ROWS 100
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF cause.correlation_id IS NOT NULL THEN
		RETURN QUERY
		SELECT e.event_id, e.causation_id, e."position"
		FROM evstore.read_correlation(cause.correlation_id) AS e
		WHERE e.causation_id IS NOT NULL;
	ELSE
		RETURN QUERY
		SELECT e.event_id, e.causation_id, e."position"
		FROM evstore.events AS e
		WHERE e."position" > cause."position" AND e.causation_id IS NOT NULL;
	END IF;
END
$$;
REVOKE ALL ON FUNCTION evstore._effect_links(evstore.event) FROM PUBLIC;
COMMENT ON FUNCTION evstore._effect_links(evstore.event) IS
	'private: the events that may have come of an event';

/*
 * effects_of(id) returns setof (columns of evstore.event, depth, path)
 *
 * The event and everything that came of it, as a tree.
 *
 * id     an event id
 *
 * depth  0 for the event itself, 1 for its effects, ...
 * path   the event ids from the event itself to this row's, depth + 1 of them
 *
 * Rows come depth first, as those of flow().  Effects are looked for in the event's
 * own correlation, by index; an effect that was given another correlation is not
 * found.  For an event without a correlation every later event that names a
 * cause is looked at: right, whatever correlation the effects have, but its cost
 * is that of reading the log from the event on.
 *
 * It reads the committed log up to the safe position.
 *
 * Errors: none.  An unknown or NULL id gives no rows.
 */
CREATE OR REPLACE FUNCTION evstore.effects_of(id uuid)
RETURNS TABLE (
	"position" bigint,
	stream text,
	version bigint,
	event_id uuid,
	type text,
	schema_version int,
	data jsonb,
	metadata jsonb,
	correlation_id text,
	causation_id uuid,
	source text,
	occurred_at timestamptz,
	recorded_at timestamptz,
	tags text[],
	depth int,
	path uuid[])
LANGUAGE sql VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	WITH RECURSIVE
	root AS MATERIALIZED (
		SELECT e AS event FROM evstore.get_event(id) AS e WHERE e.event_id IS NOT NULL
	),
	link AS MATERIALIZED (
		SELECT l.* FROM root AS r CROSS JOIN LATERAL evstore._effect_links(r.event) AS l
	),
	tree (event_id, depth, path, place) AS (
		SELECT (r.event).event_id, 0, ARRAY[(r.event).event_id], ARRAY[(r.event)."position"]
		FROM root AS r
		UNION ALL
		SELECT l.event_id, t.depth + 1, t.path || l.event_id, t.place || l."position"
		FROM tree AS t
		JOIN link AS l ON l.causation_id = t.event_id
		WHERE l.event_id <> ALL (t.path)
	)
	SELECT e.*, t.depth, t.path
	FROM tree AS t
	CROSS JOIN LATERAL evstore.get_event(t.event_id) AS e
	ORDER BY t.place
$$;
REVOKE ALL ON FUNCTION evstore.effects_of(uuid) FROM PUBLIC;
COMMENT ON FUNCTION evstore.effects_of(uuid) IS
	'An event and everything that came of it, as a tree';
