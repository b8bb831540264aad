-- The contract between the SQL interface, the C code and the documentation.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;

BEGIN;
SELECT plan(42);

-- Types are shown with their schema, and so as in the lists below.
SET LOCAL search_path = pg_catalog, public;
CREATE TEMP VIEW functions AS
SELECT p.oid, p.proname::text AS name, pg_get_function_identity_arguments(p.oid) AS arguments,
	pg_get_function_result(p.oid) AS result, p.provolatile::text AS volatile, p.prosecdef, p.proconfig, p.proacl, p.proowner
FROM pg_proc AS p WHERE p.pronamespace = 'evstore'::regnamespace;

-- ---- functions: names, arguments, results ----

CREATE TEMP TABLE documented (name text, arguments text, result text);
INSERT INTO documented VALUES
	('append', 'stream text, type text, data jsonb, metadata jsonb, expected_version bigint, event_id uuid, correlation_id text, causation_id uuid, schema_version integer, occurred_at timestamp with time zone, source text, tags text[], OUT version bigint, OUT "position" bigint', 'record'),
	('append_one', 'stream text, type text, data jsonb, metadata jsonb, expected_version bigint, event_id uuid, correlation_id text, causation_id uuid, schema_version integer, occurred_at timestamp with time zone, source text, tags text[]', 'bigint'),
	('append_events', 'stream text, events jsonb, expected_version bigint, commutes_with text[], OUT first_version bigint, OUT version bigint, OUT "position" bigint', 'record'),
	('append_arrays', 'stream text, types text[], data jsonb[], metadata jsonb[], event_ids uuid[], expected_version bigint, OUT first_version bigint, OUT version bigint, OUT "position" bigint', 'record'),
	('try_append', 'stream text, events jsonb, expected_version bigint, commutes_with text[], OUT ok boolean, OUT first_version bigint, OUT version bigint, OUT "position" bigint, OUT actual_version bigint', 'record'),
	('append_streams', 'appends jsonb', 'TABLE(stream text, first_version bigint, version bigint, "position" bigint)'),
	('read_stream', 'stream text, from_version bigint, max_count bigint, direction text', 'SETOF evstore.event'),
	('read_all', 'after bigint, max_count bigint, filter jsonb, direction text', 'SETOF evstore.event'),
	('read_category', 'category text, after bigint, max_count bigint', 'SETOF evstore.event'),
	('read_correlation', 'correlation_id text', 'SETOF evstore.event'),
	('get_event', 'event_id uuid', 'SETOF evstore.event'),
	('test_filter', 'filter jsonb, event evstore.event, OUT matches boolean, OUT error text', 'record'),
	('stream_version', 'stream text', 'bigint'),
	('stream_exists', 'stream text', 'boolean'),
	('safe_position', '', 'bigint'),
	('any_version', '', 'bigint'),
	('no_stream', '', 'bigint'),
	('stream_exists_version', '', 'bigint'),
	('delete_stream', 'stream text, expected_version bigint', 'bigint'),
	('tombstone_stream', 'stream text, expected_version bigint, reason text', 'bigint'),
	('truncate_stream', 'stream text, before_version bigint', 'bigint'),
	('set_stream', 'stream text, max_count bigint, max_age interval, metadata jsonb', 'void'),
	('scavenge', '', 'TABLE(stream text, first_version bigint, last_version bigint, events bigint, bytes bigint)'),
	('inbox_begin', 'consumer text, event_id uuid, source text', 'boolean'),
	('ingest', 'payload text, format text, attributes jsonb, stream text, type text, options jsonb', 'TABLE(index integer, status text, source text, id text, type text, stream text, version bigint, "position" bigint, event_id uuid, message_id text, detail jsonb)'),
	('ingest_bytes', 'payload bytea, format text, attributes jsonb, stream text, type text, options jsonb', 'TABLE(index integer, status text, source text, id text, type text, stream text, version bigint, "position" bigint, event_id uuid, message_id text, detail jsonb)'),
	('execute_once', 'scope text, key text, fn regprocedure, args jsonb', 'jsonb'),
	('inbox_expire', '', 'integer'),
	('create_subscription', 'name text, filter jsonb, start text, slots integer, options jsonb, if_not_exists boolean', 'bigint'),
	('alter_subscription', 'name text, filter jsonb, slots integer, options jsonb', 'void'),
	('drop_subscription', 'name text', 'void'),
	('pause_subscription', 'name text', 'void'),
	('resume_subscription', 'name text', 'void'),
	('seek', 'name text, start text', 'bigint'),
	('fetch', 'name text, consumer text, max_count bigint, wait_ms bigint', 'TABLE(slot integer, epoch bigint, attempt integer, "position" bigint, stream text, version bigint, event_id uuid, type text, schema_version integer, data jsonb, metadata jsonb, correlation_id text, causation_id uuid, source text, occurred_at timestamp with time zone, recorded_at timestamp with time zone, tags text[])'),
	('wait_for_events', 'IN name text, IN wait_ms bigint, IN consumer text', NULL),
	('ack', 'name text, slot integer, epoch bigint, up_to bigint', 'bigint'),
	('ack_events', 'name text, slot integer, epoch bigint, positions bigint[]', 'bigint'),
	('nack', 'name text, slot integer, epoch bigint, at_position bigint, error text, action text, delay interval', 'bigint'),
	('extend', 'name text, slot integer, epoch bigint, lease interval', 'timestamp with time zone'),
	('release', 'name text, consumer text', 'integer'),
	('replay_parked', 'name text, at_position bigint, key text, data jsonb, max_count bigint', 'integer'),
	('discard_parked', 'name text, at_position bigint, key text, reason text, max_count bigint', 'integer'),
	('retry_policy', 'policy jsonb', 'jsonb'),
	('retry_delay', 'policy jsonb, attempt integer, random double precision', 'interval'),
	('create_aggregate', 'category text, initial jsonb, transition regprocedure, state_version integer, options jsonb', 'void'),
	('alter_aggregate', 'category text, initial jsonb, transition regprocedure, state_version integer, options jsonb', 'void'),
	('drop_aggregate', 'category text', 'void'),
	('load_aggregate', 'stream text, OUT state jsonb, OUT version bigint, OUT snapshot_version bigint, OUT events_read bigint, OUT state_version integer', 'record'),
	('aggregate_at_version', 'stream text, at_version bigint, OUT state jsonb, OUT version bigint, OUT snapshot_version bigint, OUT events_read bigint, OUT state_version integer', 'record'),
	('aggregate_at_time', 'stream text, at_time timestamp with time zone, OUT state jsonb, OUT version bigint, OUT snapshot_version bigint, OUT events_read bigint, OUT state_version integer', 'record'),
	('fold', 'event evstore.event, transition regprocedure, initial jsonb', 'jsonb'),
	('save_snapshot', 'stream text, version bigint, state jsonb, state_version integer', 'boolean'),
	('load_snapshot', 'stream text, max_version bigint, OUT version bigint, OUT state jsonb, OUT state_version integer, OUT created_at timestamp with time zone', 'record'),
	('prune_snapshots', 'stream text, keep integer', 'bigint'),
	('create_projection', 'name text, handler regprocedure, filter jsonb, start text, options jsonb', 'void'),
	('alter_projection', 'name text, handler regprocedure, options jsonb, owner regrole', 'void'),
	('pause_projection', 'name text', 'void'),
	('resume_projection', 'name text', 'void'),
	('reset_projection', 'name text', 'void'),
	('rebuild_projection', 'name text', 'void'),
	('cancel_rebuild', 'name text', 'boolean'),
	('drop_projection', 'name text', 'void'),
	('run_projection', 'name text, max_count bigint', 'bigint'),
	('create_route', 'name text, filter jsonb, fn regprocedure, emits text[], options jsonb', 'void'),
	('drop_route', 'name text', 'void'),
	('choreography_cycles', '', 'SETOF text[]'),
	('choreography_graph', 'format text', 'text'),
	('wait_for_projection', 'name text, up_to bigint, timeout interval', 'boolean'),
	('wait_for_projections', 'names text[], up_to bigint, timeout interval', 'boolean'),
	('test_given', 'stream text, events jsonb', 'void'),
	('test_when', 'stream text, command regprocedure, args jsonb, search_path text', 'void'),
	('test_when_append', 'stream text, events jsonb', 'void'),
	('test_then', 'stream text, expected jsonb', 'boolean'),
	('test_then_error', 'sqlstate text, message_like text', 'boolean'),
	('test_then_state', 'stream text, expected jsonb', 'boolean'),
	('install_sample', 'schema name, category text', 'void'),
	('uninstall_sample', 'schema name', 'void'),
	('create_saga', 'name text, definition jsonb', 'integer'),
	('alter_saga', 'name text, owner regrole', 'void'),
	('drop_saga', 'name text, force boolean', 'void'),
	('pause_saga', 'name text', 'void'),
	('resume_saga', 'name text', 'void'),
	('start_saga', 'name text, input jsonb, business_key text, priority integer, correlation_id text, causation_id uuid', 'uuid'),
	('run_sagas', 'max bigint, saga text', 'bigint'),
	('purge_sagas', 'older_than interval, saga text', 'bigint'),
	('saga_history', 'saga_id uuid', 'SETOF evstore.event'),
	('current_saga_step', '', 'jsonb'),
	('create_relay', 'name text, sink text, config jsonb, filter jsonb, start text, options jsonb', 'void'),
	('alter_relay', 'name text, config jsonb, filter jsonb, options jsonb, owner regrole', 'void'),
	('pause_relay', 'name text', 'void'),
	('resume_relay', 'name text', 'void'),
	('seek_relay', 'name text, start text', 'bigint'),
	('drop_relay', 'name text', 'void'),
	('replay_parked_relay', 'name text, at_position bigint, key text, data jsonb, max_count bigint', 'integer'),
	('run_relay', 'name text, max_count bigint', 'bigint'),
	('test_relay', 'name text, timeout interval, OUT result text, OUT code integer, OUT detail text, OUT latency_ms double precision', 'record'),
	('publish', 'topic text, data jsonb, key text, headers jsonb, type text, event_id uuid, OUT stream text, OUT version bigint, OUT "position" bigint', 'record'),
	('validate_saga', 'definition json', 'TABLE(path text, severity text, message text)'),
	('saga_graph', 'name text, format text', 'text'),
	('fetch_tasks', 'activity text, worker text, max_count integer, wait_ms integer', 'TABLE(token uuid, saga_id uuid, saga text, step bigint, state text, attempt integer, idempotency_key text, input jsonb, timeout_at timestamp with time zone, heartbeat_seconds double precision)'),
	('complete_task', 'token uuid, output jsonb', 'void'),
	('fail_task', 'token uuid, error text, cause text, no_effect boolean', 'void'),
	('heartbeat_task', 'token uuid', 'timestamp with time zone'),
	('signal_saga', 'saga_id uuid, name text, payload jsonb', 'boolean'),
	('signal_saga_by_key', 'saga text, business_key text, name text, payload jsonb', 'boolean'),
	('cancel_saga', 'saga_id uuid, compensate boolean', 'void'),
	('retry_saga', 'saga_id uuid', 'void'),
	('resolve_saga', 'saga_id uuid, outcome text, reason text', 'void'),
	('compensate_saga', 'saga_id uuid, compensations jsonb', 'void'),
	('saga_barrier', 'saga text, branch text, op text', 'boolean'),
	('saga_barrier_expire', 'older_than interval', 'bigint'),
	('fail_step', 'error text, cause text', 'void'),
	('create_secret', 'name text, value text', 'void'),
	('alter_secret', 'name text, value text', 'void'),
	('drop_secret', 'name text', 'void'),
	('start', '', 'void'),
	('stop', '', 'void'),
	('version', '', 'text'),
	('create_partitions', 'n integer', 'integer'),
	('record_safe_position', '', 'bigint'),
	('adopt', '', 'void'),
	('health', '', 'TABLE(check_name text, ok boolean, detail text)'),
	('verify', 'stream text', 'TABLE(check_name text, ok boolean, detail text)'),
	('grant_access', 'role regrole, level text', 'void');

SELECT is_empty($$ SELECT name, arguments, result FROM documented EXCEPT SELECT name, arguments, result FROM functions $$,
	'functions of streams and operations are as documented');
SELECT is_empty($$ SELECT name FROM functions WHERE name IN (SELECT name FROM documented) GROUP BY name HAVING count(*) > 1 $$,
	'none of them is overloaded: untyped literals resolve');
SELECT is_empty($$ SELECT name FROM functions GROUP BY name HAVING count(*) > 1 $$, 'nor is any other');
-- only what is given in this order before it needs to be named
SELECT results_eq($$ SELECT name::text COLLATE "default", required::int FROM (
		SELECT p.proname AS name, p.pronargs - p.pronargdefaults AS required FROM pg_proc AS p
		WHERE p.pronamespace = 'evstore'::regnamespace AND p.proname IN (SELECT name FROM documented WHERE arguments <> '')) AS f ORDER BY name COLLATE "C" $$,
	$$ VALUES ('ack', 4), ('ack_events', 4), ('aggregate_at_time', 2), ('aggregate_at_version', 2), ('alter_aggregate', 1), ('alter_projection', 1), ('alter_relay', 1),
		('alter_saga', 2), ('alter_secret', 2), ('alter_subscription', 1), ('append', 2), ('append_arrays', 2), ('append_events', 2), ('append_one', 2), ('append_streams', 1),
		('cancel_rebuild', 1), ('cancel_saga', 1), ('choreography_graph', 0), ('compensate_saga', 1), ('complete_task', 1), ('create_aggregate', 3), ('create_partitions', 1),
		('create_projection', 2), ('create_relay', 2), ('create_route', 3), ('create_saga', 2), ('create_secret', 2), ('create_subscription', 1), ('delete_stream', 1),
		('discard_parked', 1), ('drop_aggregate', 1), ('drop_projection', 1), ('drop_relay', 1), ('drop_route', 1), ('drop_saga', 1), ('drop_secret', 1),
		('drop_subscription', 1), ('execute_once', 3), ('extend', 3), ('fail_step', 1), ('fail_task', 2), ('fetch', 2), ('fetch_tasks', 2), ('fold', 3), ('get_event', 1),
		('grant_access', 2), ('heartbeat_task', 1), ('inbox_begin', 2), ('ingest', 1), ('ingest_bytes', 1), ('install_sample', 0), ('load_aggregate', 1), ('load_snapshot', 1), ('nack', 4),
		('pause_projection', 1), ('pause_relay', 1), ('pause_saga', 1), ('pause_subscription', 1), ('prune_snapshots', 1), ('publish', 2), ('purge_sagas', 0), ('read_all', 0),
		('read_category', 1), ('read_correlation', 1), ('read_stream', 1), ('rebuild_projection', 1), ('release', 2), ('replay_parked', 1), ('replay_parked_relay', 1),
		('reset_projection', 1), ('resolve_saga', 3), ('resume_projection', 1), ('resume_relay', 1), ('resume_saga', 1), ('resume_subscription', 1), ('retry_delay', 2),
		('retry_policy', 0), ('retry_saga', 1), ('run_projection', 1), ('run_relay', 1), ('run_sagas', 0), ('saga_barrier', 3), ('saga_barrier_expire', 0), ('saga_graph', 1),
		('saga_history', 1), ('save_snapshot', 3), ('seek', 2), ('seek_relay', 2), ('set_stream', 1), ('signal_saga', 2), ('signal_saga_by_key', 3), ('start_saga', 1),
		('stream_exists', 1), ('stream_version', 1), ('test_filter', 2), ('test_given', 1), ('test_relay', 1), ('test_then', 2), ('test_then_error', 0),
		('test_then_state', 2), ('test_when', 2), ('test_when_append', 2), ('tombstone_stream', 1), ('truncate_stream', 2), ('try_append', 2), ('uninstall_sample', 0),
		('validate_saga', 1), ('verify', 0), ('wait_for_events', 1), ('wait_for_projection', 1), ('wait_for_projections', 1) $$, 'arguments that must be given');
SELECT is_empty($$ SELECT name FROM functions WHERE volatile <> 'v'
		AND (name ~ '^(append|try_append|read_|get_event|load_|aggregate_at_|save_|prune_|stream_version|safe_position|delete_|tombstone_|truncate_|set_|scavenge|create_|alter_|drop_|pause_|resume_|record_|adopt|inbox_|execute_|fetch|ack|nack|extend|release|seek|replay_|discard_|reset_|rebuild_|cancel_|run_|wait_|_failed_|_slot_|_slots_)'
			OR name IN ('stream_exists', '_last_version', '_visible_position', '_last_position', '_now')) $$,
	'what writes, or looks at the log, is VOLATILE: a STABLE function would see an old snapshot');
SELECT is_empty($$ SELECT p.proname FROM pg_proc AS p WHERE p.pronamespace = 'evstore'::regnamespace AND p.provolatile = 'v' AND p.proparallel <> 'u' $$,
	'no VOLATILE function runs in parallel workers');
SELECT results_eq($$ SELECT evstore.any_version(), evstore.no_stream(), evstore.stream_exists_version() $$, 'VALUES (-2::bigint, -1::bigint, -4::bigint)',
	'expected versions have their numbers');
SELECT is_empty($$ SELECT p.proname, a.argument FROM pg_proc AS p, unnest(p.proargnames) WITH ORDINALITY AS a (argument, n)
		WHERE p.pronamespace = 'evstore'::regnamespace AND p.proname !~ '^_' AND coalesce(p.proargmodes[a.n], 'i') IN ('i', 'b', 'v')
			AND (a.argument = '' OR a.argument IN (SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'C'))) $$,
	'every argument can be named in a call');
SELECT is_empty($$ SELECT p.proname FROM pg_proc AS p WHERE p.pronamespace = 'evstore'::regnamespace AND p.pronargs > 0 AND p.proargnames IS NULL
		AND NOT 'internal'::regtype = ANY (p.proargtypes::oid[]) $$, 'every argument has a name');

-- ---- comments ----

SELECT is_empty($$ SELECT name FROM functions WHERE coalesce(obj_description(oid, 'pg_proc'), '') = '' $$, 'every function has a comment');
SELECT is_empty($$ SELECT relname FROM pg_class WHERE relnamespace = 'evstore'::regnamespace AND relkind IN ('r', 'v', 'p', 'm', 'f')
		AND relname !~ '^event_log_\d+$' AND coalesce(obj_description(oid, 'pg_class'), '') = '' $$, 'every table and view has a comment');
SELECT is_empty($$ SELECT t.typname FROM pg_type AS t JOIN pg_class AS c ON c.oid = t.typrelid
		WHERE t.typnamespace = 'evstore'::regnamespace AND c.relkind = 'c' AND coalesce(obj_description(t.oid, 'pg_type'), '') = '' $$, 'every type has a comment');
SELECT isnt(obj_description('evstore'::regnamespace, 'pg_namespace'), NULL, 'the schema has a comment');
SELECT is_empty($$ SELECT name FROM pg_settings WHERE name LIKE 'evstore.%' AND coalesce(short_desc, '') = '' $$, 'every setting has a description');

-- ---- columns that C code names ----

\set columns `sed -n 's/^\tAnum_stream_\([a-z_]*\).*/\1/p' ../../src/stream/stream.h | tr '\n' ' '`
SELECT is((SELECT string_agg(attname, ' ' ORDER BY attnum) || ' ' FROM pg_attribute WHERE attrelid = 'evstore.stream'::regclass AND attnum > 0 AND NOT attisdropped),
	:'columns', 'columns of evstore.stream in stream.h');
\set columns `sed -n 's/^\tEVS_LOG_\([A-Z_]*\),$/\1/p' ../../src/stream/leaf.h | tr 'A-Z\n' 'a-z '`
SELECT is((SELECT string_agg(attname, ' ' ORDER BY attnum) || ' ' FROM pg_attribute WHERE attrelid = 'evstore.event_log'::regclass AND attnum > 0 AND NOT attisdropped),
	:'columns', 'columns of evstore.event_log in leaf.h');
\set columns `sed -n 's/^\t\[EVS_LOG_[A-Z_]*\] = "\([a-z_]*\)",$/\1/p' ../../src/stream/leaf.c | tr '\n' ' '`
SELECT is((SELECT string_agg(attname, ' ' ORDER BY attnum) || ' ' FROM pg_attribute WHERE attrelid = 'evstore.event_log'::regclass AND attnum > 0 AND NOT attisdropped),
	:'columns', '... and their names in leaf.c');
\set columns `sed -n 's/^\tEVS_EVENT_\([A-Z_]*\),$/\1/p' ../../src/filter/document.h | tr 'A-Z\n' 'a-z '`
SELECT is((SELECT string_agg(attname, ' ' ORDER BY attnum) || ' ' FROM pg_attribute WHERE attrelid = 'evstore.event'::regclass AND attnum > 0 AND NOT attisdropped),
	:'columns', 'columns of type evstore.event in document.h');
\set columns `sed -n 's/^\tAnum_inbox_\([a-z_]*\).*/\1/p' ../../src/subscription/inbox.c | tr '\n' ' '`
SELECT is((SELECT string_agg(attname, ' ' ORDER BY attnum) || ' ' FROM pg_attribute WHERE attrelid = 'evstore.inbox_0'::regclass AND attnum > 0 AND NOT attisdropped),
	:'columns', 'columns of evstore.inbox_0 in inbox.c');
\set columns `sed -n 's/^\tAnum_slot_state_\([a-z_]*\).*/\1/p' ../../src/subscription/slot.h | tr '\n' ' '`
SELECT is((SELECT string_agg(attname, ' ' ORDER BY attnum) || ' ' FROM pg_attribute WHERE attrelid = 'evstore.slot_state'::regclass AND attnum > 0 AND NOT attisdropped),
	:'columns', 'columns of evstore.slot_state in slot.h');
\set columns `sed -n 's/^\tAnum_member_\([a-z_]*\).*/\1/p' ../../src/subscription/member.c | tr '\n' ' '`
SELECT is((SELECT string_agg(attname, ' ' ORDER BY attnum) || ' ' FROM pg_attribute WHERE attrelid = 'evstore.subscription_member'::regclass AND attnum > 0 AND NOT attisdropped),
	:'columns', 'columns of evstore.subscription_member in member.c');
\set columns `sed -n 's/^\tAnum_snapshot_\([a-z_]*\).*/\1/p' ../../src/aggregate/snapshot.h | tr '\n' ' '`
SELECT is((SELECT string_agg(attname, ' ' ORDER BY attnum) || ' ' FROM pg_attribute WHERE attrelid = 'evstore.snapshot'::regclass AND attnum > 0 AND NOT attisdropped),
	:'columns', 'columns of evstore.snapshot in snapshot.h');
-- those after the last that C code reads are not in the list
\set columns `sed -n 's/^\tAnum_subscription_\([a-z_]*\).*/\1/p' ../../src/subscription/definition.h | tr '\n' ' '`
SELECT alike((SELECT string_agg(attname, ' ' ORDER BY attnum) || ' ' FROM pg_attribute WHERE attrelid = 'evstore.subscription'::regclass AND attnum > 0 AND NOT attisdropped),
	:'columns' || '%', 'columns of evstore.subscription in definition.h');
\set columns `sed -n 's/^\tAnum_saga_instance_\([a-z_]*\).*/\1/p' ../../src/saga/rows.h | tr '\n' ' '`
SELECT is((SELECT string_agg(attname, ' ' ORDER BY attnum) || ' ' FROM pg_attribute WHERE attrelid = 'evstore.saga_instance'::regclass AND attnum > 0 AND NOT attisdropped),
	:'columns', 'columns of evstore.saga_instance in rows.h');
\set columns `sed -n 's/^\tAnum_saga_step_\([a-z_]*\).*/\1/p' ../../src/saga/rows.h | tr '\n' ' '`
SELECT alike((SELECT string_agg(attname, ' ' ORDER BY attnum) || ' ' FROM pg_attribute WHERE attrelid = 'evstore.saga_step'::regclass AND attnum > 0 AND NOT attisdropped),
	:'columns' || '%', 'columns of evstore.saga_step in rows.h');
\set columns `sed -n 's/^\tAnum_saga_mail_\([a-z_]*\).*/\1/p' ../../src/saga/rows.h | tr '\n' ' '`
SELECT is((SELECT string_agg(attname, ' ' ORDER BY attnum) || ' ' FROM pg_attribute WHERE attrelid = 'evstore.saga_mail'::regclass AND attnum > 0 AND NOT attisdropped),
	:'columns', 'columns of evstore.saga_mail in rows.h');
\set column `sed -n 's/^#define ANUM_PROJECTION_MODE //p' ../../src/projection/definition.h`
SELECT is((SELECT attname::text FROM pg_attribute WHERE attrelid = 'evstore.projection'::regclass AND attnum = :column), 'mode', 'a column of evstore.projection in definition.h');
SELECT results_eq($$ SELECT count(*), count(DISTINCT shape) FROM (
		SELECT string_agg(concat_ws(' ', a.attname, a.atttypid, a.attcollation, a.attnotnull, a.attnum = ANY (k.conkey)), ',' ORDER BY a.attnum) AS shape
		FROM generate_series(0, 8) AS i
			JOIN pg_attribute AS a ON a.attrelid = ('evstore.inbox_' || i)::regclass AND a.attnum > 0
			JOIN pg_constraint AS k ON k.conrelid = a.attrelid AND k.contype = 'p'
		GROUP BY i) AS t $$, 'VALUES (9::bigint, 1::bigint)', 'the tables of the inbox are nine, and alike');
SELECT results_eq(
	$$ SELECT attname::text, atttypid::regtype::text FROM pg_attribute WHERE attrelid = 'evstore.events'::regclass AND attnum > 0 ORDER BY attnum $$,
	$$ SELECT attname::text, atttypid::regtype::text FROM pg_attribute WHERE attrelid = 'evstore.event'::regclass AND attnum > 0 ORDER BY attnum $$,
	'the view events has the columns of the type');
SELECT is_empty($$ SELECT attname FROM pg_attribute AS e WHERE e.attrelid = 'evstore.events_uncapped'::regclass AND attnum > 0
		AND NOT EXISTS (SELECT FROM pg_attribute AS t WHERE t.attrelid = 'evstore.event'::regclass AND t.attnum = e.attnum AND t.attname = e.attname) $$,
	'and so has events_uncapped');

-- ---- tables ----

SELECT is_empty($$ SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'evstore.event_log'::regclass $$,
	'the partitioned parent has no index: pg_dump could not restore it');
SELECT is_empty($$ SELECT conname FROM pg_constraint WHERE contype = 'f' AND (conrelid IN ('evstore.stream'::regclass, 'evstore.event_log'::regclass) OR confrelid = 'evstore.stream'::regclass) $$,
	'no foreign key: it would lock the rows of streams');
SELECT results_eq($$ SELECT c.relname::text COLLATE "default" FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
		WHERE t.tgfoid = 'evstore._guard'::regproc AND t.tgenabled = 'A' AND t.tgtype = 62 ORDER BY 1 $$,
	ARRAY['early_id', 'event_log', 'sealed', 'stream'], 'guards are there, ENABLE ALWAYS, for INSERT, UPDATE, DELETE and TRUNCATE');
SELECT set_eq($$ SELECT unnest(extconfig)::regclass::text FROM pg_extension WHERE extname = 'evstore' $$,
	ARRAY['evstore.aggregate', 'evstore.audit', 'evstore.audit_id_seq', 'evstore.early_id', 'evstore.epoch_seq', 'evstore.failed_event', 'evstore.position_seq', 'evstore.projection', 'evstore.projection_error', 'evstore.relay', 'evstore.route', 'evstore.route_observed', 'evstore.saga', 'evstore.saga_arrival', 'evstore.saga_barrier',
		'evstore.saga_id_seq', 'evstore.saga_instance', 'evstore.saga_mail', 'evstore.saga_mail_id_seq', 'evstore.saga_signal', 'evstore.saga_step', 'evstore.saga_taken', 'evstore.saga_trigger', 'evstore.saga_version', 'evstore.saga_wait', 'evstore.secret',
		'evstore.slot_state', 'evstore.snapshot', 'evstore.stream', 'evstore.stream_id_seq', 'evstore.subscription', 'evstore.subscription_id_seq']
		|| ARRAY(SELECT 'evstore.inbox_' || i FROM generate_series(0, 8) AS i), 'what pg_dump takes along');
SELECT results_eq($$ SELECT seqcache, seqincrement, seqcycle, seqmin, seqmax FROM pg_sequence WHERE seqrelid = 'evstore.position_seq'::regclass $$,
	'VALUES (1::bigint, 1::bigint, false, 1::bigint, 9223372036854775807::bigint)', 'the sequence of positions');

-- ---- rights ----

SELECT is_empty($$ SELECT name FROM functions WHERE prosecdef
		AND NOT coalesce(proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false) $$, 'SECURITY DEFINER only with a safe search_path');
SELECT is_empty($$ SELECT p.proname FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
		WHERE p.pronamespace = 'evstore'::regnamespace AND l.lanname = 'plpgsql' AND NOT coalesce(p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false) $$,
	'every PL/pgSQL function has its own search_path');
SELECT is_empty($$
	SELECT 'schema', 'evstore' FROM pg_namespace AS n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a WHERE n.nspname = 'evstore' AND a.grantee = 0
	UNION ALL
	SELECT 'function', f.name FROM functions AS f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) AS a WHERE a.grantee = 0
	UNION ALL
	SELECT 'relation', c.relname FROM pg_class AS c, aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r'::"char" END, c.relowner))) AS a
	WHERE c.relnamespace = 'evstore'::regnamespace AND c.relkind IN ('r', 'v', 'p', 'S', 'm', 'f') AND a.grantee = 0 $$, 'PUBLIC has no right on anything');

-- Every function is granted by some level, or one of these: triggers, what the
-- planner and owners call.
CREATE TEMP TABLE not_granted (name text);
INSERT INTO not_granted VALUES ('_fold_step'), ('_guard'), ('_saga_relay_again'), ('_subscription_changed'), ('_test_must_roll_back'), ('_visible_position_support'), ('grant_access');
SELECT is_empty($$ SELECT name FROM functions EXCEPT (SELECT name FROM evstore._access('admin') WHERE kind = 'function' UNION SELECT name FROM evstore._access('consumer') WHERE kind = 'function')
	EXCEPT SELECT name FROM not_granted $$, 'every function is granted by a level, or for the owner only');
SELECT is_empty($$ SELECT name FROM not_granted INTERSECT SELECT a.name FROM unnest('{reader,writer,consumer,admin}'::text[]) AS l, evstore._access(l) AS a $$,
	'what is for the owner only is granted by none');
SELECT is_empty($$
	SELECT a.kind, a.name, a.privilege FROM unnest('{reader,writer,consumer,admin}'::text[]) AS l, evstore._access(l) AS a
	WHERE NOT (a.kind = 'function' AND a.privilege = 'EXECUTE' AND EXISTS (SELECT FROM functions AS f WHERE f.name = a.name)
		OR a.kind = 'view' AND a.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
			AND EXISTS (SELECT FROM pg_class AS c WHERE c.relname = a.name AND c.relnamespace = 'evstore'::regnamespace AND c.relkind = 'v')) $$,
	'levels name nothing that does not exist');
-- A level must hold all that it calls: functions of the views, and those that
-- functions in SQL and PL/pgSQL name.
SELECT is_empty($$
	SELECT l.level, a.name, f.name FROM unnest('{reader,writer,consumer,admin}'::text[]) AS l (level), evstore._access(l.level) AS a
		JOIN pg_proc AS p ON a.kind = 'function' AND p.proname = a.name AND p.pronamespace = 'evstore'::regnamespace
		JOIN functions AS f ON f.name <> a.name AND f.result <> 'trigger' AND coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) ~ ('evstore\.' || f.name || '\(')
	WHERE p.prolang NOT IN (SELECT oid FROM pg_language WHERE lanname IN ('c', 'internal'))
		AND NOT EXISTS (SELECT FROM evstore._access(l.level) AS g WHERE g.kind = 'function' AND g.name = f.name) $$,
	'who may call a function may call what it calls');

SELECT finish();
ROLLBACK;
