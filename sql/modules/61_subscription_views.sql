-- What has become of subscriptions.
--
-- Slots are numbered by unnest() rather than by generate_series(), for which the
-- planner would expect 1000 rows a subscription, and compile the query (JIT),
-- which takes a thousand times as long as running it.

CREATE OR REPLACE VIEW evstore.subscription_slots AS
SELECT s.name AS subscription,
	t.slot,
	t.consumer,
	evstore._slot_claimed(t.consumer, t.pid, t.lease_until) AS claimed,
	t.epoch,
	t.cursor,
	t.checkpoint,
	CASE WHEN t.consumer IS NOT NULL THEN t.lease_until END AS lease_until,
	CASE WHEN t.consumer IS NOT NULL THEN t.pid END AS pid,
	t.attempts,
	NULLIF(t.batch_limit, 0) AS batch_limit,
	f.retrying,
	f.waiting,
	f.parked,
	t.changed_at
FROM evstore.subscription s
	CROSS JOIN LATERAL unnest(array_fill(0, ARRAY[s.slots])) WITH ORDINALITY AS o(zero, number)
	CROSS JOIN LATERAL (SELECT o.number::integer - 1 AS slot) AS n
	CROSS JOIN LATERAL (SELECT x.* FROM evstore.slot_state x
		WHERE x.subscription_id = s.id AND x.slot = n.slot
		ORDER BY x.seq DESC LIMIT 1) t
	CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE y.state IN ('retry', 'deferred')) AS retrying,
			count(*) FILTER (WHERE y.state = 'waiting') AS waiting,
			count(*) FILTER (WHERE y.state = 'parked') AS parked
		FROM evstore.failed_event y
		WHERE y.subscription_id = s.id AND y.key_hash % s.slots = n.slot) f;
COMMENT ON VIEW evstore.subscription_slots IS 'slots of subscriptions: who has them, and how far they are';

CREATE OR REPLACE VIEW evstore.subscriptions AS
SELECT s.name AS subscription,
	CASE WHEN s.paused THEN 'paused' WHEN s.next_slots IS NOT NULL THEN 'draining' ELSE 'active' END AS state,
	s.filter,
	s.key,
	s.slots,
	s.next_slots,
	make_interval(secs => COALESCE(s.lease::numeric / 1000,
		extract(epoch FROM current_setting('evstore.default_lease')::interval))::double precision) AS lease,
	s.retry,
	s.on_failure,
	s.notify,
	s.created_at,
	t.checkpoint,
	t.consumers,
	l.events AS lag_events,
	l.exact AS lag_is_exact,
	CASE WHEN l.events IS NOT NULL
		THEN COALESCE(GREATEST(extract(epoch FROM evstore._now() - l.oldest), 0), 0)::double precision
		END AS lag_seconds,
	t.retrying,
	t.waiting,
	t.parked,
	e.error AS last_error,
	e.last_failed_at AS last_error_at
FROM evstore.subscription s
	CROSS JOIN LATERAL (SELECT min(x.checkpoint) AS checkpoint,
			count(DISTINCT x.consumer) FILTER (WHERE x.claimed) AS consumers,
			sum(x.retrying)::bigint AS retrying, sum(x.waiting)::bigint AS waiting,
			sum(x.parked)::bigint AS parked
		FROM evstore.subscription_slots x WHERE x.subscription = s.name) t
	CROSS JOIN LATERAL evstore._subscription_lag(s.name) l
	LEFT JOIN LATERAL (SELECT f.error, f.last_failed_at
		FROM evstore.failed_event f
		WHERE f.subscription_id = s.id AND f.error IS NOT NULL
		ORDER BY f.last_failed_at DESC, f."position" DESC LIMIT 1) e ON true
WHERE s.kind = 'subscription';
COMMENT ON VIEW evstore.subscriptions IS 'subscriptions, and how far behind they are';

CREATE OR REPLACE VIEW evstore.failed_events AS
SELECT s.name AS subscription,
	f."position",
	f.state,
	f.key,
	f.attempts,
	f.reason,
	f.error,
	f.retry_at,
	f.behind,
	f.replayed,
	f.first_failed_at,
	f.last_failed_at,
	t.name AS stream,
	e.version,
	e.event_id,
	e.type,
	COALESCE(f.data, e.data) AS data,
	f.data IS NOT NULL AS edited
FROM evstore.failed_event f
	JOIN evstore.subscription s ON s.id = f.subscription_id
	LEFT JOIN evstore.event_log e ON e."position" = f."position"
	LEFT JOIN evstore.stream t ON t.id = e.stream_id
WHERE f.state <> 'done';
COMMENT ON VIEW evstore.failed_events IS 'events that subscriptions could not get done: to be retried, deferred, waiting, or parked';

CREATE OR REPLACE VIEW evstore.parked_events AS
SELECT f.subscription, f."position", f.key, f.attempts, f.reason, f.error, f.behind,
	f.first_failed_at, f.last_failed_at, f.stream, f.version, f.event_id, f.type, f.data, f.edited
FROM evstore.failed_events f
WHERE f.state = 'parked';
COMMENT ON VIEW evstore.parked_events IS 'events that subscriptions have given up until replay_parked() or discard_parked()';

CREATE OR REPLACE VIEW evstore.workers AS
SELECT w.kind, w.state, w.pid, w.started_at, w.failures, w.last_error, w.last_error_at, w.retry_at, w.owner
FROM evstore._workers() w;
COMMENT ON VIEW evstore.workers IS 'evstore''s background workers: the launcher, and those of this database';
