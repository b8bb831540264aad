-- What has become of relays.

CREATE OR REPLACE FUNCTION evstore._relay_pid(relay bigint) RETURNS integer
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'evs_relay_pid';
COMMENT ON FUNCTION evstore._relay_pid(bigint) IS 'the process of a relay''s worker, or null';

CREATE OR REPLACE VIEW evstore.relays AS
SELECT s.name AS relay,
	CASE WHEN r.faulted THEN 'stopped'
		WHEN s.paused THEN 'paused'
		WHEN o.missing OR t.failing THEN 'failing'
		WHEN w.pid IS NULL THEN 'waiting for a worker'
		WHEN t.circuit <> 'closed' THEN 'circuit ' || translate(t.circuit, '_', ' ')
		ELSE 'running' END AS state,
	r.sink,
	r.config,
	r.owner,
	s.filter,
	s.key,
	r.options,
	r.transform,
	s.retry,
	s.on_failure,
	r.created_at,
	w.pid,
	COALESCE(t.circuit, 'closed') AS circuit,
	t.circuit_since,
	t.open_until,
	COALESCE(t.outages, 0) AS outages,
	COALESCE(t.opened, 0) AS opened,
	COALESCE(t.sent, 0) AS sent,
	COALESCE(t.duplicates, 0) AS duplicates,
	COALESCE(t.failures, 0) AS failures,
	COALESCE(t.bytes, 0) AS bytes,
	t.latency_ms,
	t.last_sent_at,
	x.checkpoint,
	l.events AS lag_events,
	l.exact AS lag_is_exact,
	CASE WHEN l.events IS NOT NULL
		THEN COALESCE(GREATEST(extract(epoch FROM evstore._now() - l.oldest), 0), 0)::double precision
		END AS lag_seconds,
	x.retrying,
	x.waiting,
	x.parked,
	CASE WHEN o.missing THEN format('role "%s", which owned it, does not exist', r.owner COLLATE "default") ELSE t.error END AS last_error,
	t.error_at AS last_error_at
FROM evstore.relay r
	JOIN evstore.subscription s ON s.id = r.id
	JOIN evstore.subscription_slots x ON x.subscription = s.name
	CROSS JOIN LATERAL evstore._subscription_lag(s.name) l
	CROSS JOIN LATERAL (SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_roles y WHERE y.rolname = r.owner) AS missing) o
	LEFT JOIN evstore.relay_status t ON t.id = r.id
	LEFT JOIN LATERAL (SELECT evstore._relay_pid(r.id) AS pid) w ON true;
COMMENT ON VIEW evstore.relays IS 'relays: how far they are, what they have sent, and what keeps them from going on';

-- What keeps relays from going on; for health(), which reads no events.
CREATE OR REPLACE FUNCTION evstore._relay_problems() RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT format('%s: %s', s.name, CASE WHEN NOT EXISTS (SELECT FROM pg_roles x WHERE x.rolname = r.owner)
			THEN format('role "%s", which owned it, does not exist', r.owner COLLATE "default")
		ELSE COALESCE(t.error, 'stopped') END)
	FROM evstore.relay r
		JOIN evstore.subscription s ON s.id = r.id
		LEFT JOIN evstore.relay_status t ON t.id = r.id
	WHERE r.faulted OR NOT EXISTS (SELECT FROM pg_roles x WHERE x.rolname = r.owner)
		OR (NOT s.paused AND (t.circuit <> 'closed' OR t.failing))
	ORDER BY r.id;
END;
COMMENT ON FUNCTION evstore._relay_problems() IS 'relays that do not go on, and why';
