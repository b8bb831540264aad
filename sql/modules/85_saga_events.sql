-- Sagas and events: the projection of a saga, which starts instances and brings them
-- events.  Called by create_saga() and drop_saga(), as evstore's owner.

-- The types of events that tasks of a definition wait for.
CREATE OR REPLACE FUNCTION evstore._saga_awaited(definition jsonb) RETURNS SETOF text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	WITH task AS MATERIALIZED (
		SELECT COALESCE(definition #> '{options,resources}' ->> (s.state ->> 'Resource'), s.state ->> 'Resource') AS resource,
			s.state -> 'Parameters' AS parameters
		FROM jsonb_path_query(definition -> 'asl', 'lax $.** ? (@.Type == "Task" && @.Resource.type() == "string")') s (state))
	SELECT substr(t.resource, length('evstore:event:') + 1)
	FROM task t WHERE starts_with(t.resource, 'evstore:event:') AND length(t.resource) > length('evstore:event:')
	UNION
	SELECT x.type #>> '{}'
	FROM task t
		CROSS JOIN LATERAL jsonb_path_query(t.parameters, 'lax $.types[*] ? (@.type() == "string")') x (type)
	WHERE t.resource ~ '^evstore:event(:|$)'
	UNION
	SELECT x.type #>> '{}'
	FROM task t
		CROSS JOIN LATERAL jsonb_path_query(t.parameters, 'lax $.failures[*] ? (@.type() == "string")') x (type)
	WHERE t.resource ~ '^evstore:event(:|$)';
END;
COMMENT ON FUNCTION evstore._saga_awaited(jsonb) IS 'types of events that a saga waits for';

-- The types of events that tasks and compensators append, as far as they are written there.
CREATE OR REPLACE FUNCTION evstore._saga_appended(definition jsonb) RETURNS SETOF text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT DISTINCT s.state #>> '{Parameters,type}'
	FROM (SELECT q.state FROM jsonb_path_query(definition -> 'asl', 'lax $.** ? (@.Type == "Task" && @.Resource.type() == "string")') q (state)
		UNION ALL
		SELECT c.value FROM jsonb_each(CASE jsonb_typeof(definition #> '{compensation,states}')
			WHEN 'object' THEN definition #> '{compensation,states}' ELSE '{}' END) c
		WHERE jsonb_typeof(c.value) = 'object') s (state)
	WHERE COALESCE(definition #> '{options,resources}' ->> (s.state ->> 'Resource'), s.state ->> 'Resource') ~ '^evstore:append(:|$)'
		AND jsonb_typeof(s.state #> '{Parameters,type}') = 'string';
END;
COMMENT ON FUNCTION evstore._saga_appended(jsonb) IS 'types of events that a saga appends';

/*
 * What the projection of a saga looks for: entries of start_on, of the version that
 * starts instances now; and for each type of events that instances wait for, of this
 * version or an older one, whom they are for.
 */
CREATE OR REPLACE FUNCTION evstore._saga_trigger_entries(saga bigint) RETURNS TABLE (kind text, n integer, entry jsonb)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	WITH definition AS MATERIALIZED (
		-- an instance of the version before may be about to start
		SELECT v.definition, v.version = g.version AS current
		FROM evstore.saga g JOIN evstore.saga_version v ON v.saga_id = g.id
		WHERE g.id = saga AND (v.version >= g.version - 1 OR v.version IN (SELECT i.version FROM evstore.saga_instance i
			WHERE i.definition_id = saga AND i.status IN ('running', 'compensating', 'compensation_failed')))
	), correlation AS (
		SELECT DISTINCT t.type, COALESCE(d.definition #> '{options,correlate}' ->> t.type, '$.correlation_id') AS key
		FROM definition d CROSS JOIN LATERAL (
			SELECT c FROM jsonb_object_keys(COALESCE(d.definition #> '{options,correlate}', '{}')) c
			UNION
			SELECT a FROM evstore._saga_awaited(d.definition) a) t (type)
	)
	SELECT 'start', s.n::integer,
		CASE WHEN s.entry ? 'type' THEN s.entry - 'type' || jsonb_build_object('filter',
			jsonb_build_object('types', jsonb_build_array(s.entry -> 'type'))) ELSE s.entry END
	FROM definition d CROSS JOIN LATERAL jsonb_array_elements(COALESCE(d.definition #> '{options,start_on}', '[]'))
		WITH ORDINALITY s (entry, n)
	WHERE d.current
	UNION ALL
	SELECT 'correlate', (row_number() OVER (ORDER BY c.type COLLATE "C", c.key COLLATE "C"))::integer,
		jsonb_build_object('type', c.type, 'key', c.key)
	FROM correlation c;
END;
COMMENT ON FUNCTION evstore._saga_trigger_entries(bigint) IS 'which events start instances of a saga, and which it waits for';

-- A filter that lets through what the entries want: by types, if all of them name some.
CREATE OR REPLACE FUNCTION evstore._saga_trigger_filter(saga bigint) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT CASE
		WHEN count(*) = 1 AND bool_and(t.kind = 'start') THEN jsonb_agg(t.entry -> 'filter') -> 0
		WHEN bool_and(t.kind = 'correlate' OR COALESCE(jsonb_typeof(t.entry #> '{filter,types}') = 'array', false))
			THEN jsonb_build_object('types', (SELECT jsonb_agg(DISTINCT y.type ORDER BY y.type)
				FROM evstore.saga_trigger x CROSS JOIN LATERAL jsonb_array_elements(
					CASE x.kind WHEN 'start' THEN x.entry #> '{filter,types}' ELSE jsonb_build_array(x.entry -> 'type') END) y (type)
				WHERE x.saga_id = saga))
		ELSE '{}' END
	FROM evstore.saga_trigger t WHERE t.saga_id = saga;
END;
COMMENT ON FUNCTION evstore._saga_trigger_filter(bigint) IS 'the filter of the projection of a saga';

CREATE OR REPLACE FUNCTION evstore._saga_trigger_create(g evstore.saga) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p evstore.projection;
	s evstore.subscription;
BEGIN
	s.name := 'saga:' || g.name;
	s.kind := 'projection';
	s.filter := evstore._saga_trigger_filter(g.id);
	s.slots := 1;
	s.retry := evstore.retry_policy('{"max_attempts": 5, "max": 60}');
	s.on_failure := 'park_key';
	s.paused := false;
	p.owner := g.owner;
	p.handler := 'evstore._saga_events';
	p.batched := true;
	p.mode := 'async';
	p.on_error := 'park';
	-- a lock an event that is brought
	p.batch_size := 250;
	p.statement_timeout := 600000;
	p.schema := 'evstore';
	p.tables := '{}';
	p.depends_on := '{}';
	p.notify := false;
	p.begins := evstore._start_position('end');
	RETURN evstore._projection_store(p, s);
END
$$;
COMMENT ON FUNCTION evstore._saga_trigger_create(evstore.saga) IS 'the projection of a saga, from now on';

/*
 * After a saga has been defined, or defined again, or has another owner: the
 * projection by the name of saga:<name> looks for what it wants.  An entry that the saga had
 * before goes on where it is; a new one begins now.
 */
CREATE OR REPLACE FUNCTION evstore._saga_trigger_set(saga_id bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	g evstore.saga;
	now_at bigint := evstore._start_position('end');
	had evstore.saga_trigger[] := ARRAY(SELECT t FROM evstore.saga_trigger t WHERE t.saga_id = _saga_trigger_set.saga_id);
BEGIN
	SELECT * INTO STRICT g FROM evstore.saga x WHERE x.id = _saga_trigger_set.saga_id;
	DELETE FROM evstore.saga_trigger t WHERE t.saga_id = g.id;
	INSERT INTO evstore.saga_trigger (saga_id, kind, n, entry, since)
	SELECT g.id, e.kind, e.n, e.entry,
		COALESCE((SELECT min(h.since) FROM unnest(had) h WHERE h.kind = e.kind AND h.entry = e.entry), now_at)
	FROM evstore._saga_trigger_entries(g.id) e;
	IF NOT FOUND THEN
		PERFORM evstore._saga_trigger_drop(g.id);
	ELSIF g.trigger_id IS NULL THEN
		UPDATE evstore.saga x SET trigger_id = evstore._saga_trigger_create(g) WHERE x.id = g.id;
	ELSE
		UPDATE evstore.subscription s SET filter = evstore._saga_trigger_filter(g.id) WHERE s.id = g.trigger_id;
		UPDATE evstore.projection p SET owner = g.owner WHERE p.id = g.trigger_id;
		PERFORM evstore._kick(g.trigger_id);
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._saga_trigger_set(bigint) IS 'has a saga look for the events of its definition';

-- What has arrived, and who waits, goes with it.
CREATE OR REPLACE FUNCTION evstore._saga_trigger_drop(saga_id bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t bigint := (SELECT g.trigger_id FROM evstore.saga g WHERE g.id = _saga_trigger_drop.saga_id);
BEGIN
	IF t IS NOT NULL THEN
		PERFORM evstore._projection_remove(t);
		UPDATE evstore.saga g SET trigger_id = NULL WHERE g.id = _saga_trigger_drop.saga_id;
	END IF;
	DELETE FROM evstore.saga_trigger x WHERE x.saga_id = _saga_trigger_drop.saga_id;
	DELETE FROM evstore.saga_arrival x WHERE x.definition_id = _saga_trigger_drop.saga_id;
	DELETE FROM evstore.saga_wait x WHERE x.definition_id = _saga_trigger_drop.saga_id;
END
$$;
COMMENT ON FUNCTION evstore._saga_trigger_drop(bigint) IS 'has a saga look for no events any more';

CREATE OR REPLACE FUNCTION evstore._saga_events(events evstore.event[]) RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'evs_saga_events';
COMMENT ON FUNCTION evstore._saga_events(evstore.event[]) IS 'brings events to a saga; the handler of a projection';

/*
 * Delete arrivals after a position that no instance can need any more: older than all
 * that have not ended, and older than a week.  That is for instances that an event starts
 * which had been parked, and for those that are retried after they have failed.
 * up_to: where to go on, so that what has been deleted is not walked through again.
 */
CREATE OR REPLACE FUNCTION evstore._saga_arrivals_prune(definition bigint, after bigint, OUT deleted bigint, OUT up_to bigint)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	oldest bigint := (SELECT i.started_after FROM evstore.saga_instance i
		WHERE i.definition_id = definition AND i.status IN ('running', 'compensating', 'compensation_failed')
		ORDER BY i.started_after LIMIT 1);
BEGIN
	-- where the first ones are too young, the others are not looked at
	WITH lowest AS MATERIALIZED (
		SELECT a.ctid, a.arrived_at
		FROM evstore.saga_arrival a
		WHERE a.definition_id = definition AND a."position" > after AND a."position" <= COALESCE(oldest, 9223372036854775807)
		ORDER BY a."position" LIMIT 500
	), gone AS (
		DELETE FROM evstore.saga_arrival a USING lowest l
		WHERE a.ctid = l.ctid AND l.arrived_at < evstore._now() - interval '7 days'
		RETURNING a."position"
	)
	-- others of the last position may be left
	SELECT count(*), COALESCE(max(g."position") - 1, after) INTO deleted, up_to FROM gone g;
END
$$;
COMMENT ON FUNCTION evstore._saga_arrivals_prune(bigint, bigint) IS 'deletes events that no instance of a saga can wait for';
