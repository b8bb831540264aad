-- For operators: partitions, copies, standbys, checks.

CREATE OR REPLACE FUNCTION evstore.create_partitions(n integer) RETURNS integer
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'evs_create_partitions';
COMMENT ON FUNCTION evstore.create_partitions(integer) IS
	'make partitions ahead, after the newest; returns how many';

CREATE OR REPLACE FUNCTION evstore.record_safe_position() RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_record_safe_position';
COMMENT ON FUNCTION evstore.record_safe_position() IS
	'write the safe position down, for readers on standbys';

CREATE OR REPLACE FUNCTION evstore.adopt() RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_adopt';
COMMENT ON FUNCTION evstore.adopt() IS
	'let this database act: needed once in a restored or cloned one';

CREATE OR REPLACE FUNCTION evstore._is_adopted(system_identifier bigint, database_oid oid)
RETURNS boolean
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'evs_is_adopted';
COMMENT ON FUNCTION evstore._is_adopted(bigint, oid) IS 'do these name this database?';

/*
 * verify(stream default null) -> setof (check_name, ok, detail)
 *
 * Compares what is stored with what evstore promises: versions of a stream
 * contiguous, positions growing with them, each event's partition the right
 * one, guards in place, partitions without gaps.  Reads every event of the
 * stream, or of all streams.
 */
CREATE OR REPLACE FUNCTION evstore.verify(stream text DEFAULT NULL)
RETURNS TABLE (check_name text, ok boolean, detail text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bad text;
BEGIN
	-- after this, what the session knows of the log has its newest partition
	PERFORM evstore.safe_position();
	SELECT format('stream %s: version %s follows %s', s.name, w.version, w.previous) INTO bad
	FROM (SELECT e.stream_id, e.version,
			lag(e.version) OVER (PARTITION BY e.stream_id ORDER BY e.version) AS previous
		FROM evstore.event_log e
		WHERE verify.stream IS NULL
			OR e.stream_id = (SELECT x.id FROM evstore.stream x WHERE x.name = verify.stream)) w
		JOIN evstore.stream s ON s.id = w.stream_id
	WHERE w.version <> COALESCE(w.previous, s.scavenged_version) + 1
	LIMIT 1;
	RETURN QUERY SELECT 'versions are contiguous', bad IS NULL, bad;

	SELECT format('stream %s: version %s has position %s after %s', s.name, w.version,
		w."position", w.previous) INTO bad
	FROM (SELECT e.stream_id, e.version, e."position",
			lag(e."position") OVER (PARTITION BY e.stream_id ORDER BY e.version) AS previous
		FROM evstore.event_log e
		WHERE verify.stream IS NULL
			OR e.stream_id = (SELECT x.id FROM evstore.stream x WHERE x.name = verify.stream)) w
		JOIN evstore.stream s ON s.id = w.stream_id
	WHERE w."position" <= w.previous
	LIMIT 1;
	RETURN QUERY SELECT 'positions grow with versions', bad IS NULL, bad;

	SELECT format('stream %s: newest event is at %s, but last_leaf is %s', s.name, l.newest,
		s.last_leaf) INTO bad
	FROM evstore.stream s
		JOIN (SELECT e.stream_id, max(e."position") AS newest
			FROM evstore.event_log e GROUP BY e.stream_id) l ON l.stream_id = s.id
		LEFT JOIN evstore.partitions p ON l.newest BETWEEN p.first_position AND p.last_position
	WHERE (verify.stream IS NULL OR s.name = verify.stream)
		AND s.last_leaf IS DISTINCT FROM p.first_position
	LIMIT 1;
	RETURN QUERY SELECT 'streams know their newest partition', bad IS NULL, bad;

	SELECT format('event at %s has no stream %s', e."position", e.stream_id) INTO bad
	FROM evstore.event_log e
	WHERE NOT EXISTS (SELECT FROM evstore.stream s WHERE s.id = e.stream_id)
	LIMIT 1;
	RETURN QUERY SELECT 'every event has a stream', bad IS NULL, bad;

	SELECT format('event id %s is stored %s times', e.event_id, count(*)) INTO bad
	FROM evstore.event_log e
	WHERE verify.stream IS NULL
		OR e.stream_id = (SELECT x.id FROM evstore.stream x WHERE x.name = verify.stream)
	GROUP BY e.event_id HAVING count(*) > 1
	LIMIT 1;
	RETURN QUERY SELECT 'event ids are unique', bad IS NULL, bad;

	SELECT format('last value is %s, but position %s is stored', evstore._last_position(),
		max(e."position")) INTO bad
	FROM evstore.event_log e HAVING max(e."position") > evstore._last_position();
	RETURN QUERY SELECT 'the sequence is not behind the log', bad IS NULL, bad;

	RETURN QUERY SELECT h.check_name, h.ok, h.detail FROM evstore.health() h
	WHERE h.check_name IN ('guards are in place', 'partitions are contiguous',
		'partitions have their indexes', 'the position sequence is sound');
END
$$;
COMMENT ON FUNCTION evstore.verify(text) IS
	'compare what is stored with what evstore promises';

/*
 * health() -> setof (check_name, ok, detail)
 *
 * Cheap checks, for monitoring: no event is read.
 */
CREATE OR REPLACE FUNCTION evstore.health()
RETURNS TABLE (check_name text, ok boolean, detail text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bad text;
	has_partition boolean := EXISTS (SELECT FROM evstore.partitions);
BEGIN
	SELECT string_agg(t.relname, ', ') INTO bad
	FROM (SELECT c.relname
		FROM pg_class c
		WHERE (c.oid IN ('evstore.event_log'::regclass, 'evstore.stream'::regclass,
				'evstore.early_id'::regclass, 'evstore.sealed'::regclass)
			OR c.oid IN (SELECT i.inhrelid FROM pg_inherits i
				WHERE i.inhparent = 'evstore.event_log'::regclass))
			AND NOT EXISTS (SELECT FROM pg_trigger g JOIN pg_proc f ON f.oid = g.tgfoid
				WHERE g.tgrelid = c.oid AND g.tgenabled = 'A' AND f.proname = '_guard'
					AND f.pronamespace = 'evstore'::regnamespace
					AND g.tgtype = 62)) t;
	RETURN QUERY SELECT 'guards are in place', bad IS NULL,
		'without guard: ' || bad;

	RETURN QUERY SELECT 'DROP EXTENSION is guarded',
		NOT has_partition OR to_regclass('evstore.drop_guard') IS NOT NULL,
		CASE WHEN has_partition AND to_regclass('evstore.drop_guard') IS NULL
			THEN 'view evstore.drop_guard is missing' END;

	SELECT string_agg(format('before %s', p.partition), ', ') INTO bad
	FROM (SELECT q.partition, q.first_position,
			lag(q.last_position) OVER (ORDER BY q.first_position) AS previous
		FROM evstore.partitions q) p
	WHERE p.first_position <> p.previous + 1;
	RETURN QUERY SELECT 'partitions are contiguous', bad IS NULL, 'gap ' || bad;

	SELECT string_agg(p.partition, ', ') INTO bad
	FROM evstore.partitions p
	WHERE (SELECT count(*) FROM pg_index i
		WHERE i.indrelid = ('evstore.' || p.partition)::regclass AND i.indisvalid) < 5;
	RETURN QUERY SELECT 'partitions have their indexes', bad IS NULL, bad;

	SELECT format('CACHE %s INCREMENT %s%s', s.seqcache, s.seqincrement,
		CASE WHEN s.seqcycle THEN ' CYCLE' ELSE '' END) INTO bad
	FROM pg_sequence s
	WHERE s.seqrelid = 'evstore.position_seq'::regclass
		AND (s.seqcache <> 1 OR s.seqincrement <> 1 OR s.seqcycle);
	RETURN QUERY SELECT 'the position sequence is sound', bad IS NULL, bad;

	RETURN QUERY SELECT 'this database is adopted',
		NOT has_partition OR EXISTS (SELECT FROM evstore.instance i
			WHERE evstore._is_adopted(i.system_identifier, i.database_oid)),
		CASE WHEN has_partition AND NOT EXISTS (SELECT FROM evstore.instance i
			WHERE evstore._is_adopted(i.system_identifier, i.database_oid))
			THEN 'a copy: run evstore.adopt() if it is to act' END;

	SELECT format('the dispatcher is %s%s', w.state, ': ' || w.last_error) INTO bad
	FROM evstore.workers w
	WHERE w.kind = 'dispatcher' AND w.state NOT IN ('running', 'starting', 'not adopted')
		AND (w.state <> 'not started' OR EXISTS (SELECT FROM evstore.workers l WHERE l.kind = 'launcher'));
	RETURN QUERY SELECT 'the dispatcher runs where it should', bad IS NULL, bad;

	SELECT string_agg(p, '; ') INTO bad FROM evstore._projection_problems() p;
	RETURN QUERY SELECT 'projections go on', bad IS NULL, bad;

	SELECT string_agg(p, '; ') INTO bad FROM evstore._relay_problems() p;
	RETURN QUERY SELECT 'relays go on', bad IS NULL, bad;

	SELECT string_agg(p, '; ') INTO bad FROM evstore._saga_troubles() p;
	RETURN QUERY SELECT 'sagas go on', bad IS NULL, bad;

	SELECT format('pid %s, gid %s, since %s', f.pid, f.gid, f.xact_start) INTO bad
	FROM evstore.in_flight f
	WHERE f.xact_start < clock_timestamp() - interval '5 minutes'
	ORDER BY f.xact_start LIMIT 1;
	RETURN QUERY SELECT 'no append holds the safe position back for long', bad IS NULL, bad;
END
$$;
COMMENT ON FUNCTION evstore.health() IS 'cheap checks, for monitoring';

/*
 * _access(level) -> setof (object, privilege): what grant_access() grants.
 *
 * Levels include each other: reader < writer < admin, reader < consumer < admin.
 * A test compares this list with the catalog.
 */
CREATE OR REPLACE FUNCTION evstore._access(level text)
RETURNS TABLE (kind text, name text, privilege text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT a.kind, a.name, a.privilege
	FROM (VALUES
		('reader', 'view', 'events', 'SELECT'),
		('reader', 'view', 'events_uncapped', 'SELECT'),
		('reader', 'view', 'streams', 'SELECT'),
		('reader', 'function', 'version', 'EXECUTE'),
		('reader', 'function', 'any_version', 'EXECUTE'),
		('reader', 'function', 'no_stream', 'EXECUTE'),
		('reader', 'function', 'stream_exists_version', 'EXECUTE'),
		('reader', 'function', 'read_stream', 'EXECUTE'),
		('reader', 'function', 'read_all', 'EXECUTE'),
		('reader', 'function', 'read_category', 'EXECUTE'),
		('reader', 'function', 'read_correlation', 'EXECUTE'),
		('reader', 'function', 'get_event', 'EXECUTE'),
		('reader', 'function', 'stream_version', 'EXECUTE'),
		('reader', 'function', 'stream_exists', 'EXECUTE'),
		('reader', 'function', 'safe_position', 'EXECUTE'),
		('reader', 'function', 'test_filter', 'EXECUTE'),
		('reader', 'function', 'to_cloudevent', 'EXECUTE'),
		('reader', 'function', 'export_event', 'EXECUTE'),
		('reader', 'function', 'import_event', 'EXECUTE'),
		('reader', 'function', 'flow', 'EXECUTE'),
		('reader', 'function', 'causes_of', 'EXECUTE'),
		('reader', 'function', 'effects_of', 'EXECUTE'),
		('reader', 'function', 'load_aggregate', 'EXECUTE'),
		('reader', 'function', 'aggregate_at_version', 'EXECUTE'),
		('reader', 'function', 'aggregate_at_time', 'EXECUTE'),
		('reader', 'function', 'check_transitions', 'EXECUTE'),
		('reader', 'function', 'fold', 'EXECUTE'),
		('reader', 'function', 'load_snapshot', 'EXECUTE'),
		('reader', 'view', 'aggregates', 'SELECT'),
		('consumer', 'view', 'projections', 'SELECT'),
		('reader', 'function', 'wait_for_projection', 'EXECUTE'),
		('reader', 'function', 'wait_for_projections', 'EXECUTE'),
		('reader', 'view', 'snapshots', 'SELECT'),
		('reader', 'function', 'validate_saga', 'EXECUTE'),
		('reader', 'view', 'sagas', 'SELECT'),
		('reader', 'view', 'saga_steps', 'SELECT'),
		('reader', 'view', 'saga_definitions', 'SELECT'),
		('reader', 'view', 'saga_timers', 'SELECT'),
		('reader', 'view', 'stuck_sagas', 'SELECT'),
		('reader', 'function', '_saga_wait_reason', 'EXECUTE'),
		('reader', 'function', '_saga_threads', 'EXECUTE'),
		('reader', 'function', 'saga_history', 'EXECUTE'),
		('reader', 'function', 'current_saga_step', 'EXECUTE'),
		('reader', 'function', 'retry_policy', 'EXECUTE'),
		('reader', 'function', 'retry_delay', 'EXECUTE'),
		('writer', 'view', 'events', 'INSERT'),
		('writer', 'function', 'append', 'EXECUTE'),
		('writer', 'function', 'append_one', 'EXECUTE'),
		('writer', 'function', 'start_saga', 'EXECUTE'),
		('writer', 'function', 'publish', 'EXECUTE'),
		('writer', 'function', 'append_events', 'EXECUTE'),
		('writer', 'function', 'append_arrays', 'EXECUTE'),
		('writer', 'function', 'append_streams', 'EXECUTE'),
		('writer', 'function', 'try_append', 'EXECUTE'),
		('writer', 'function', 'append_retry', 'EXECUTE'),
		('writer', 'function', '_append_retry', 'EXECUTE'),
		('writer', 'function', 'append_cloudevent', 'EXECUTE'),
		('writer', 'function', 'ingest', 'EXECUTE'),
		('writer', 'function', 'ingest_bytes', 'EXECUTE'),
		('writer', 'function', 'execute_command', 'EXECUTE'),
		('writer', 'function', 'save_snapshot', 'EXECUTE'),
		('writer', 'function', 'test_given', 'EXECUTE'),
		('writer', 'function', 'test_when', 'EXECUTE'),
		('writer', 'function', 'test_when_append', 'EXECUTE'),
		('writer', 'function', 'test_then', 'EXECUTE'),
		('writer', 'function', 'test_then_error', 'EXECUTE'),
		('writer', 'function', 'test_then_state', 'EXECUTE'),
		('writer', 'function', '_test_record', 'EXECUTE'),
		('writer', 'function', '_test_outcome', 'EXECUTE'),
		('consumer', 'view', 'subscriptions', 'SELECT'),
		('consumer', 'view', 'subscriptions', 'UPDATE'),
		('consumer', 'view', 'subscription_slots', 'SELECT'),
		('consumer', 'view', 'failed_events', 'SELECT'),
		('consumer', 'view', 'parked_events', 'SELECT'),
		('consumer', 'function', 'saga_graph', 'EXECUTE'),
		('consumer', 'function', 'create_subscription', 'EXECUTE'),
		('consumer', 'function', 'alter_subscription', 'EXECUTE'),
		('consumer', 'function', 'drop_subscription', 'EXECUTE'),
		('consumer', 'function', 'pause_subscription', 'EXECUTE'),
		('consumer', 'function', 'resume_subscription', 'EXECUTE'),
		('consumer', 'function', 'seek', 'EXECUTE'),
		('consumer', 'function', 'fetch', 'EXECUTE'),
		('consumer', 'function', 'wait_for_events', 'EXECUTE'),
		('consumer', 'function', 'ack', 'EXECUTE'),
		('consumer', 'function', 'ack_events', 'EXECUTE'),
		('consumer', 'function', 'nack', 'EXECUTE'),
		('consumer', 'function', 'extend', 'EXECUTE'),
		('consumer', 'function', 'release', 'EXECUTE'),
		('consumer', 'function', 'replay_parked', 'EXECUTE'),
		('consumer', 'function', 'discard_parked', 'EXECUTE'),
		('consumer', 'function', 'dedupe_events', 'EXECUTE'),
		('consumer', 'function', 'inbox_begin', 'EXECUTE'),
		('consumer', 'function', 'execute_once', 'EXECUTE'),
		('consumer', 'function', 'fetch_tasks', 'EXECUTE'),
		('consumer', 'function', 'complete_task', 'EXECUTE'),
		('consumer', 'function', 'fail_task', 'EXECUTE'),
		('consumer', 'function', 'heartbeat_task', 'EXECUTE'),
		('consumer', 'function', 'signal_saga', 'EXECUTE'),
		('consumer', 'function', 'signal_saga_by_key', 'EXECUTE'),
		('consumer', 'function', 'saga_barrier', 'EXECUTE'),
		('consumer', 'function', 'fail_step', 'EXECUTE'),
		('admin', 'view', 'events', 'UPDATE'),
		('admin', 'view', 'events', 'DELETE'),
		('admin', 'view', 'partitions', 'SELECT'),
		('admin', 'view', 'in_flight', 'SELECT'),
		('admin', 'view', 'audit_log', 'SELECT'),
		('admin', 'view', 'workers', 'SELECT'),
		('admin', 'view', 'secrets', 'SELECT'),
		('admin', 'function', 'delete_stream', 'EXECUTE'),
		('admin', 'function', 'tombstone_stream', 'EXECUTE'),
		('admin', 'function', 'truncate_stream', 'EXECUTE'),
		('admin', 'function', 'set_stream', 'EXECUTE'),
		('admin', 'function', 'scavenge', 'EXECUTE'),
		('admin', 'function', 'create_partitions', 'EXECUTE'),
		('admin', 'function', 'record_safe_position', 'EXECUTE'),
		('admin', 'function', 'adopt', 'EXECUTE'),
		('admin', 'function', 'start', 'EXECUTE'),
		('admin', 'function', 'stop', 'EXECUTE'),
		('admin', 'function', 'inbox_expire', 'EXECUTE'),
		('admin', 'function', 'health', 'EXECUTE'),
		('admin', 'function', 'verify', 'EXECUTE'),
		('admin', 'function', 'create_aggregate', 'EXECUTE'),
		('admin', 'function', 'alter_aggregate', 'EXECUTE'),
		('admin', 'function', 'drop_aggregate', 'EXECUTE'),
		('admin', 'function', 'prune_snapshots', 'EXECUTE'),
		('admin', 'view', 'relays', 'SELECT'),
		('admin', 'function', 'create_saga', 'EXECUTE'),
		('admin', 'function', 'alter_saga', 'EXECUTE'),
		('admin', 'function', 'drop_saga', 'EXECUTE'),
		('admin', 'function', 'pause_saga', 'EXECUTE'),
		('admin', 'function', 'resume_saga', 'EXECUTE'),
		('admin', 'function', 'run_sagas', 'EXECUTE'),
		('admin', 'function', 'purge_sagas', 'EXECUTE'),
		('admin', 'function', 'create_relay', 'EXECUTE'),
		('admin', 'function', 'alter_relay', 'EXECUTE'),
		('admin', 'function', 'drop_relay', 'EXECUTE'),
		('admin', 'function', 'pause_relay', 'EXECUTE'),
		('admin', 'function', 'resume_relay', 'EXECUTE'),
		('admin', 'function', 'seek_relay', 'EXECUTE'),
		('admin', 'function', 'replay_parked_relay', 'EXECUTE'),
		('admin', 'function', 'run_relay', 'EXECUTE'),
		('admin', 'function', 'test_relay', 'EXECUTE'),
		('admin', 'function', 'create_projection', 'EXECUTE'),
		('admin', 'function', 'alter_projection', 'EXECUTE'),
		('admin', 'function', 'pause_projection', 'EXECUTE'),
		('admin', 'function', 'resume_projection', 'EXECUTE'),
		('admin', 'function', 'reset_projection', 'EXECUTE'),
		('admin', 'function', 'rebuild_projection', 'EXECUTE'),
		('admin', 'function', 'cancel_rebuild', 'EXECUTE'),
		('admin', 'function', 'drop_projection', 'EXECUTE'),
		('admin', 'function', 'run_projection', 'EXECUTE'),
		('consumer', 'view', 'routes', 'SELECT'),
		('consumer', 'view', 'choreography', 'SELECT'),
		('consumer', 'function', 'choreography_cycles', 'EXECUTE'),
		('consumer', 'function', 'choreography_graph', 'EXECUTE'),
		('admin', 'function', 'create_route', 'EXECUTE'),
		('admin', 'function', '_route_create', 'EXECUTE'),
		('admin', 'function', 'drop_route', 'EXECUTE'),
		('admin', 'function', 'cancel_saga', 'EXECUTE'),
		('admin', 'function', 'retry_saga', 'EXECUTE'),
		('admin', 'function', 'resolve_saga', 'EXECUTE'),
		('admin', 'function', 'compensate_saga', 'EXECUTE'),
		('admin', 'function', 'saga_barrier_expire', 'EXECUTE'),
		('admin', 'function', 'create_secret', 'EXECUTE'),
		('admin', 'function', 'alter_secret', 'EXECUTE'),
		('admin', 'function', 'drop_secret', 'EXECUTE'),
		('admin', 'function', 'install_sample', 'EXECUTE'),
		('admin', 'function', 'uninstall_sample', 'EXECUTE'),
		('admin', 'function', '_snapshot_events', 'EXECUTE'),
		('admin', 'function', '_snapshots_due', 'EXECUTE'),
		('admin', 'function', '_projection_problems', 'EXECUTE'),
		('admin', 'function', '_relay_problems', 'EXECUTE'),
		('admin', 'function', '_saga_troubles', 'EXECUTE'),
		('admin', 'function', '_sample_path', 'EXECUTE'),
		('admin', 'function', '_sample_names', 'EXECUTE'),
		('admin', 'function', '_sample_event_types', 'EXECUTE'),
		('admin', 'function', '_sample_orders', 'EXECUTE'),
		('admin', 'function', '_sample_order_commands', 'EXECUTE'),
		('admin', 'function', '_sample_stock', 'EXECUTE'),
		('admin', 'function', '_sample_tables', 'EXECUTE'),
		('admin', 'function', '_sample_handlers', 'EXECUTE'),
		('admin', 'function', '_sample_queries', 'EXECUTE'),
		('admin', 'function', '_sample_projections', 'EXECUTE'),
		('admin', 'function', '_sample_services', 'EXECUTE'),
		('admin', 'function', '_sample_sagas', 'EXECUTE'),
		('admin', 'function', '_sample_object_name', 'EXECUTE'),
		('admin', 'function', 'track_table', 'EXECUTE'),
		('admin', 'function', 'untrack_table', 'EXECUTE'),
		('admin', 'function', '_track_change', 'EXECUTE'),
		('admin', 'function', '_track_truncate', 'EXECUTE')
	) AS a (needs, kind, name, privilege)
	WHERE a.needs = 'reader'
		OR (a.needs = 'writer' AND _access.level IN ('writer', 'admin'))
		OR (a.needs = 'consumer' AND _access.level IN ('consumer', 'admin'))
		OR (a.needs = 'admin' AND _access.level = 'admin')
	UNION
	-- helpers run with the rights of who calls the function that needs them
	SELECT 'function', p.proname::text, 'EXECUTE'
	FROM pg_catalog.pg_proc p
	WHERE p.pronamespace = 'evstore'::regnamespace
		AND p.proname LIKE '\_%'
		AND p.proname <> '_append_retry'
		AND NOT starts_with(p.proname, '_sample_')
		AND p.proname NOT IN ('_snapshot_events', '_route_create')
		AND NOT p.prosecdef
		AND p.prorettype NOT IN ('trigger'::regtype, 'internal'::regtype);
END;
COMMENT ON FUNCTION evstore._access(text) IS 'what grant_access() grants';

/*
 * grant_access(role, level): let a role use evstore.
 *
 * Levels: reader (events and streams), writer (reader, and append), consumer
 * (reader, subscriptions and the inbox), admin (writer, consumer, and everything for
 * operators).
 * Only who owns evstore's objects can call it with effect.  Errors: 22023 for
 * an unknown level.
 */
CREATE OR REPLACE FUNCTION evstore.grant_access(role regrole, level text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
BEGIN
	IF role IS NULL OR level IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
			MESSAGE = format('argument "%s" must not be null',
				CASE WHEN role IS NULL THEN 'role' ELSE 'level' END);
	END IF;
	IF level NOT IN ('reader', 'writer', 'consumer', 'admin') THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('argument "level" must not be "%s"', level),
			HINT = 'Levels are reader, writer, consumer and admin.';
	END IF;
	EXECUTE format('GRANT USAGE ON SCHEMA evstore TO %s', role);
	FOR item IN
		SELECT a.kind, a.privilege,
			CASE a.kind WHEN 'view' THEN c.oid::regclass::text ELSE p.oid::regprocedure::text END AS object
		FROM evstore._access(level) a
			LEFT JOIN pg_class c ON a.kind = 'view' AND c.relname = a.name
				AND c.relnamespace = 'evstore'::regnamespace
			LEFT JOIN pg_proc p ON a.kind = 'function' AND p.proname = a.name
				AND p.pronamespace = 'evstore'::regnamespace
	LOOP
		EXECUTE format('GRANT %s ON %s %s TO %s', item.privilege,
			CASE item.kind WHEN 'view' THEN 'TABLE' ELSE 'ROUTINE' END, item.object, role);
	END LOOP;
	IF level = 'admin' THEN
		EXECUTE format('GRANT SELECT ON evstore.event_log, evstore.stream, evstore.instance TO %s', role);
	END IF;
END
$$;
COMMENT ON FUNCTION evstore.grant_access(regrole, text) IS
	'let a role read, append, consume or administer';

