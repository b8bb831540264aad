-- What has become of projections.

CREATE OR REPLACE VIEW evstore.projections AS
SELECT s.name AS projection,
	CASE WHEN p.faulted THEN 'stopped'
		WHEN p.mode = 'inline' THEN 'inline'
		WHEN s.paused THEN 'paused'
		WHEN o.missing THEN 'failing'
		WHEN e.error IS NOT NULL THEN 'failing'
		ELSE 'running' END AS state,
	p.mode,
	p.owner,
	p.handler,
	s.filter,
	p.schema,
	p.tables,
	p.depends_on,
	p.on_error,
	p.batch_size,
	s.slots AS partitions,
	s.retry,
	make_interval(secs => p.statement_timeout / 1000.0::double precision) AS statement_timeout,
	p.notify,
	p.created_at,
	CASE WHEN p.mode = 'async' THEN t.checkpoint END AS checkpoint,
	l.events AS lag_events,
	l.exact AS lag_is_exact,
	CASE WHEN l.events IS NOT NULL
		THEN COALESCE(GREATEST(extract(epoch FROM evstore._now() - l.oldest), 0), 0)::double precision
		END AS lag_seconds,
	t.retrying,
	t.waiting,
	t.parked,
	CASE WHEN o.missing THEN format('role "%s", which owned it, does not exist', p.owner COLLATE "default") ELSE e.error END AS last_error,
	e.at AS last_error_at,
	e."position" AS last_error_position,
	e.sqlstate AS last_error_sqlstate,
	e.retry_at,
	CASE WHEN r.faulted THEN 'failed' WHEN r.id IS NOT NULL THEN 'running' END AS rebuild_state,
	r.checkpoint AS rebuild_checkpoint,
	r.progress AS rebuild_progress,
	CASE WHEN r.progress > 0 AND NOT r.faulted
		THEN (clock_timestamp() - r.created_at) * ((1 - r.progress) / r.progress) END AS rebuild_time_left,
	r.error AS rebuild_error
FROM evstore.projection p
	JOIN evstore.subscription s ON s.id = p.id
	CROSS JOIN LATERAL (SELECT min(x.checkpoint) AS checkpoint, sum(x.retrying)::bigint AS retrying,
			sum(x.waiting)::bigint AS waiting, sum(x.parked)::bigint AS parked
		FROM evstore.subscription_slots x WHERE x.subscription = s.name) t
	LEFT JOIN LATERAL (SELECT y.* FROM evstore._subscription_lag(s.name) y WHERE p.mode = 'async') l ON true
	CROSS JOIN LATERAL (SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = p.owner) AS missing) o
	LEFT JOIN LATERAL (SELECT z.error, z.at, z."position", z.sqlstate, z.retry_at
		FROM (SELECT f.error AS error, f.failed_at AS at, f."position", f.sqlstate, f.retry_at, 0 AS rank
			FROM evstore.projection_error f WHERE f.projection_id = p.id
			UNION ALL
			SELECT f.error, f.last_failed_at, f."position", NULL, f.retry_at, 1
			FROM evstore.failed_event f WHERE f.subscription_id = p.id AND f.error IS NOT NULL AND f.state <> 'parked') z
		ORDER BY z.rank, z.at DESC LIMIT 1) e ON true
	LEFT JOIN LATERAL (SELECT q.id, q.faulted, q.created_at, w.checkpoint,
			LEAST(1, (w.checkpoint - q.begins)::numeric / NULLIF(GREATEST(v.target - q.begins, 1), 0))::double precision AS progress,
			(SELECT f.error FROM evstore.projection_error f WHERE f.projection_id = q.id
				ORDER BY f.failed_at DESC LIMIT 1) AS error
		FROM evstore.projection q
			CROSS JOIN LATERAL (SELECT min(x.checkpoint) AS checkpoint
				FROM evstore.subscription_slots x JOIN evstore.subscription o ON o.name = x.subscription WHERE o.id = q.id) w
			CROSS JOIN LATERAL (SELECT CASE WHEN p.mode = 'inline' THEN evstore._last_position() ELSE t.checkpoint END AS target) v
		WHERE q.rebuild_of = p.id) r ON true
WHERE p.rebuild_of IS NULL;
COMMENT ON VIEW evstore.projections IS 'projections: how far they are, and what keeps them from going on';

-- What keeps projections from going on; for health(), which reads no events.
CREATE OR REPLACE FUNCTION evstore._projection_problems() RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT format(CASE WHEN p.rebuild_of IS NOT NULL THEN 'the rebuild of %s: %s' ELSE '%s: %s' END,
		COALESCE(o.name, s.name), CASE WHEN NOT r.found THEN format('role "%s", which owned it, does not exist', p.owner COLLATE "default") ELSE e.error END)
	FROM evstore.projection p
		JOIN evstore.subscription s ON s.id = p.id
		LEFT JOIN evstore.subscription o ON o.id = p.rebuild_of
		CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pg_roles x WHERE x.rolname = p.owner) AS found) r
		LEFT JOIN LATERAL (SELECT f.error FROM evstore.projection_error f WHERE f.projection_id = p.id
			ORDER BY f.failed_at DESC LIMIT 1) e ON true
	WHERE p.faulted OR NOT r.found OR e.error IS NOT NULL
	ORDER BY p.id;
END;
COMMENT ON FUNCTION evstore._projection_problems() IS 'projections that do not go on, and why';
