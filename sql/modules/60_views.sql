-- What users read.

-- Rows of events that are not hidden by their stream's lifecycle.
CREATE OR REPLACE VIEW evstore.events_uncapped AS
SELECT e."position",
	s.name AS stream,
	e.version,
	e.event_id,
	e.type,
	e.schema_version,
	e.data,
	COALESCE(e.metadata, '{}'::jsonb) AS metadata,
	e.correlation_id,
	e.causation_id,
	e.source,
	COALESCE(e.occurred_at, e.recorded_at) AS occurred_at,
	e.recorded_at,
	e.tags
FROM evstore.event_log e
	JOIN evstore.stream s ON s.id = e.stream_id
WHERE NOT s.restricted
	OR (NOT s.deleted
		AND NOT s.tombstoned
		AND e.version >= s.truncate_before
		AND (s.max_age IS NULL OR e.recorded_at > evstore._now() - s.max_age)
		AND (s.max_count IS NULL OR e.version > evstore._last_version(s.id) - s.max_count));
COMMENT ON VIEW evstore.events_uncapped IS
	'all committed events: NOT for followers, who would skip events that commit late; see events';

CREATE OR REPLACE VIEW evstore.events AS
SELECT e."position",
	e.stream,
	e.version,
	e.event_id,
	e.type,
	e.schema_version,
	e.data,
	e.metadata,
	e.correlation_id,
	e.causation_id,
	e.source,
	e.occurred_at,
	e.recorded_at,
	e.tags
FROM evstore.events_uncapped e
WHERE e."position" <= (SELECT evstore._visible_position());
COMMENT ON VIEW evstore.events IS
	'events up to the safe position: who follows by position skips none';

CREATE OR REPLACE VIEW evstore.streams AS
SELECT s.name AS stream,
	split_part(s.name, '-', 1) AS category,
	evstore._last_version(s.id) AS version,
	s.created_at,
	s.first_position,
	s.last_leaf AS last_partition,
	s.deleted,
	s.tombstoned,
	s.tombstone_reason,
	s.truncate_before,
	s.scavenged_version,
	s.max_count,
	s.max_age,
	COALESCE(s.metadata, '{}'::jsonb) AS metadata
FROM evstore.stream s;
COMMENT ON VIEW evstore.streams IS 'all streams, also deleted ones';

CREATE OR REPLACE VIEW evstore.partitions AS
SELECT c.relname AS partition,
	b.lower AS first_position,
	b.upper - 1 AS last_position,
	b.upper <= p.last + 1 AND p.safe >= b.upper - 1 AS sealed,
	GREATEST(c.reltuples::bigint, COALESCE(pg_stat_get_live_tuples(c.oid), 0)) AS estimated_rows,
	pg_total_relation_size(c.oid) AS bytes,
	COALESCE(g.guarded, false) AS guarded
FROM pg_catalog.pg_inherits i
	JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
	CROSS JOIN LATERAL (
		SELECT (m)[1]::bigint AS lower, (m)[2]::bigint AS upper
		FROM regexp_match(pg_get_expr(c.relpartbound, c.oid),
			'FROM \(''?(-?\d+)''?\) TO \(''?(-?\d+)''?\)') m) b
	CROSS JOIN (SELECT evstore._last_position() AS last,
			CASE WHEN pg_is_in_recovery()
				THEN COALESCE((SELECT max(r."position") FROM evstore.safe_point r), 0)
				ELSE evstore.safe_position() END AS safe) p
	LEFT JOIN LATERAL (
		SELECT true AS guarded
		FROM pg_catalog.pg_trigger t
			JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
			JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
		WHERE t.tgrelid = c.oid AND t.tgenabled = 'A'
			AND f.proname = '_guard' AND n.nspname = 'evstore'
		LIMIT 1) g ON true
WHERE i.inhparent = 'evstore.event_log'::regclass
ORDER BY b.lower;
COMMENT ON VIEW evstore.partitions IS 'partitions of the event log';

-- 17750 is EVS_LOCK_IN_FLIGHT; the lock's key is the floor.  A prepared
-- transaction is found by the lock on its own id.
CREATE OR REPLACE VIEW evstore.in_flight AS
SELECT l.pid,
	x.gid,
	a.application_name,
	COALESCE(a.usename, x.owner) AS username,
	(l.classid::bigint << 32) | l.objid::bigint AS floor,
	COALESCE(a.xact_start, x.prepared) AS xact_start,
	a.state,
	GREATEST(evstore._last_position() - ((l.classid::bigint << 32) | l.objid::bigint), 0) AS positions_blocked
FROM pg_catalog.pg_locks l
	LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
	LEFT JOIN (pg_catalog.pg_locks t
			JOIN pg_catalog.pg_prepared_xacts x ON x.transaction = t.transactionid)
		ON l.pid IS NULL AND t.pid IS NULL
			AND t.locktype = 'transactionid' AND t.mode = 'ExclusiveLock'
			AND t.virtualtransaction = l.virtualtransaction
WHERE l.locktype = 'advisory'
	AND l.objsubid = 17750
	AND l.granted
	AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
ORDER BY 5;
COMMENT ON VIEW evstore.in_flight IS 'transactions that hold the safe position back';

CREATE OR REPLACE VIEW evstore.audit_log AS
SELECT a.at, a.actor, a.action, NULLIF(a.stream, '') AS stream, a.detail
FROM evstore.audit a;
COMMENT ON VIEW evstore.audit_log IS 'who deleted, closed, truncated or scavenged what';

