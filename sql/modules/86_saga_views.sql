-- What has become of sagas.

/*
 * What an instance waits for, as a sentence: replies, events, signals, a time.  Null if it
 * waits for nothing.
 */
CREATE OR REPLACE FUNCTION evstore._saga_wait_reason(saga_id uuid, next_due timestamptz) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT COALESCE(
		(SELECT string_agg(format('%s %s', s.kind, s.name COLLATE "default") || COALESCE(' (' || s.key COLLATE "default" || ')', ''),
			', ' ORDER BY s.step)
		FROM evstore.saga_step s
		WHERE s.saga_id = _saga_wait_reason.saga_id AND s.status = 'running'),
		format('until %s', _saga_wait_reason.next_due));
END;
COMMENT ON FUNCTION evstore._saga_wait_reason(uuid, timestamptz) IS 'what an instance of a saga waits for';

/*
 * Its threads, as README.md in src/saga has them: which state each is in, and until when if
 * it waits for a time (what: wait or retry).
 */
CREATE OR REPLACE FUNCTION evstore._saga_threads(execution jsonb)
RETURNS TABLE (state text, what text, due timestamptz)
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT t.thread ->> 's',
		CASE t.thread ->> 'w' WHEN '2' THEN 'wait' WHEN '3' THEN 'retry' END,
		CASE WHEN t.thread ->> 'w' IN ('2', '3')
			THEN timestamptz '2000-01-01 00:00:00+00' + make_interval(secs => (t.thread ->> 'd')::numeric::double precision / 1000000) END
	FROM jsonb_array_elements(CASE jsonb_typeof(execution -> 't') WHEN 'array' THEN execution -> 't' ELSE '[]' END) t (thread)
	WHERE t.thread ->> 'w' IS DISTINCT FROM '4';
END;
COMMENT ON FUNCTION evstore._saga_threads(jsonb) IS 'where an instance of a saga is';

CREATE OR REPLACE VIEW evstore.sagas AS
SELECT i.id AS saga_id,
	s.name AS saga,
	i.version,
	CASE WHEN i.status = 'running' AND (i.next_due IS NULL OR i.next_due > evstore._now())
			AND NOT EXISTS (SELECT FROM evstore.saga_mail m WHERE m.saga_id = i.id)
		THEN 'waiting' ELSE i.status END AS status,
	i.business_key,
	(SELECT array_agg(DISTINCT t.state ORDER BY t.state) FROM evstore._saga_threads(i.execution) t) AS states,
	CASE WHEN i.status IN ('running', 'compensating') AND (i.next_due IS NULL OR i.next_due > evstore._now())
		THEN evstore._saga_wait_reason(i.id, i.next_due) END AS wait_reason,
	i.next_due,
	i.priority,
	i.started_at,
	i.updated_at,
	i.ended_at,
	i.transitions,
	i.last_error,
	i.error,
	i.cause,
	i.input,
	i.output,
	i.correlation_id,
	i.causation_id,
	i.parent_id,
	i.parent_step
FROM evstore.saga_instance i JOIN evstore.saga s ON s.id = i.definition_id;
COMMENT ON VIEW evstore.sagas IS 'instances of sagas: where they are, what they wait for, and what they have come to';

CREATE OR REPLACE VIEW evstore.saga_steps AS
SELECT t.saga_id,
	s.name AS saga,
	t.step,
	t.state,
	t.visit,
	t.attempt,
	t.kind,
	t.resource,
	t.compensates,
	t.status,
	t.outcome,
	t.started_at,
	t.ended_at,
	t.timeout_at,
	t.heartbeat_at,
	t.name,
	t.key,
	t.worker,
	t.fetched_at,
	t."position",
	t.child_id,
	t.error,
	t.cause,
	t.input,
	t.output
FROM evstore.saga_step t
	JOIN evstore.saga_instance i ON i.id = t.saga_id
	JOIN evstore.saga s ON s.id = i.definition_id;
COMMENT ON VIEW evstore.saga_steps IS 'what instances of sagas have done, and are doing';

CREATE OR REPLACE VIEW evstore.saga_definitions AS
SELECT s.name AS saga,
	s.version,
	s.owner,
	s.paused,
	s.created_at,
	v.created_at AS version_created_at,
	v.definition,
	(SELECT count(*) FROM evstore.saga_instance i
		WHERE i.definition_id = s.id AND i.status = 'running') AS running,
	(SELECT count(*) FROM evstore.saga_instance i
		WHERE i.definition_id = s.id AND i.status = 'compensating') AS compensating,
	(SELECT count(*) FROM evstore.saga_instance i
		WHERE i.definition_id = s.id AND i.status = 'compensation_failed') AS compensation_failed,
	(SELECT count(*) FROM evstore.saga_instance i
		WHERE i.definition_id = s.id AND i.ended_at IS NOT NULL) AS ended
FROM evstore.saga s JOIN evstore.saga_version v ON v.saga_id = s.id AND v.version = s.version;
COMMENT ON VIEW evstore.saga_definitions IS 'sagas as they are defined now, and how many instances there are';

CREATE OR REPLACE VIEW evstore.saga_timers AS
SELECT i.id AS saga_id,
	s.name AS saga,
	t.due,
	t.what,
	t.state,
	t.step
FROM evstore.saga_instance i
	JOIN evstore.saga s ON s.id = i.definition_id
	CROSS JOIN LATERAL (
		SELECT x.timeout_at AS due, 'timeout' AS what, x.state, x.step
		FROM evstore.saga_step x WHERE x.saga_id = i.id AND x.status = 'running' AND x.timeout_at IS NOT NULL
		UNION ALL
		SELECT x.heartbeat_at, 'heartbeat', x.state, x.step
		FROM evstore.saga_step x WHERE x.saga_id = i.id AND x.status = 'running' AND x.heartbeat_at IS NOT NULL
		UNION ALL
		SELECT h.due, h.what, h.state, NULL FROM evstore._saga_threads(i.execution) h WHERE h.due IS NOT NULL
		UNION ALL
		SELECT timestamptz '2000-01-01 00:00:00+00'
			+ make_interval(secs => (i.execution ->> 'dl')::numeric::double precision / 1000000), 'deadline', NULL, NULL
		WHERE i.execution ? 'dl') t
WHERE i.status IN ('running', 'compensating');
COMMENT ON VIEW evstore.saga_timers IS 'what instances of sagas will do by themselves, and when';

-- Instances that somebody should look at, and why; what is due for a minute is late.
CREATE OR REPLACE VIEW evstore.stuck_sagas AS
SELECT i.id AS saga_id,
	s.name AS saga,
	i.status,
	i.business_key,
	CASE WHEN i.status = 'compensation_failed' THEN 'compensation failed'
		WHEN i.last_error IS NOT NULL THEN 'cannot go on'
		WHEN m.since IS NOT NULL THEN 'something has come in, and nobody takes it'
		ELSE 'due, and nobody runs it' END AS reason,
	COALESCE(i.last_error,
		(SELECT concat_ws(': ', x.error, x.cause) FROM evstore.saga_step x
			WHERE i.status = 'compensation_failed' AND x.saga_id = i.id AND x.compensates IS NOT NULL AND x.error IS NOT NULL
			ORDER BY x.step DESC LIMIT 1),
		concat_ws(': ', i.error, i.cause)) AS error,
	LEAST(i.next_due, m.since, i.updated_at) AS since
FROM evstore.saga_instance i
	JOIN evstore.saga s ON s.id = i.definition_id
	LEFT JOIN LATERAL (SELECT min(x.created_at) AS since FROM evstore.saga_mail x
		WHERE x.saga_id = i.id AND x.created_at < evstore._now() - interval '1 minute') m ON true
WHERE i.status IN ('running', 'compensating', 'compensation_failed')
	AND (i.status = 'compensation_failed' OR i.last_error IS NOT NULL
		OR (NOT s.paused AND (m.since IS NOT NULL OR i.next_due < evstore._now() - interval '1 minute')));
COMMENT ON VIEW evstore.stuck_sagas IS 'instances of sagas that do not go on by themselves, and why';

-- What keeps sagas from going on; for health(), which reads no events.
CREATE OR REPLACE FUNCTION evstore._saga_troubles() RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT p.problem FROM (
		SELECT s.id, format('%s: role "%s", which owned it, does not exist', s.name COLLATE "default", s.owner COLLATE "default") AS problem
		FROM evstore.saga s WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = s.owner)
		UNION ALL
		SELECT s.id, format('%s: %s (%s)', s.name COLLATE "default", k.reason, k.n)
		FROM evstore.saga s
			JOIN (SELECT x.saga, x.reason, count(*) AS n FROM evstore.stuck_sagas x GROUP BY x.saga, x.reason) k
				ON k.saga = s.name) p
	ORDER BY p.id, p.problem;
END;
COMMENT ON FUNCTION evstore._saga_troubles() IS 'sagas that do not go on, and why';
