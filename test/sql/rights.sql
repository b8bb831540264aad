-- Who may do what: nobody anything, until grant_access() says so.
\set main :DBNAME
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_rights;
DROP ROLE IF EXISTS regress_evstore_none, regress_evstore_reader, regress_evstore_writer, regress_evstore_consumer,
	regress_evstore_admin, regress_evstore_app;
CREATE DATABASE evstore_rights;
\c evstore_rights
CREATE EXTENSION evstore;
LOAD 'evstore';
SET evstore.partition_size = 10;
SELECT version FROM evstore.append_arrays('order-1', array_fill('T'::text, '{25}'), NULL, NULL,
	ARRAY['00000000-0000-4000-8000-000000000001'::uuid] || array_fill(NULL::uuid, '{24}'));

CREATE ROLE regress_evstore_none;
CREATE ROLE regress_evstore_reader;
CREATE ROLE regress_evstore_writer;
CREATE ROLE regress_evstore_consumer;
CREATE ROLE regress_evstore_admin;
CREATE ROLE regress_evstore_app;
SELECT evstore.grant_access('regress_evstore_reader', 'reader');
SELECT evstore.grant_access('regress_evstore_writer', 'writer');
SELECT evstore.grant_access('regress_evstore_consumer', 'consumer');
SELECT evstore.grant_access('regress_evstore_admin', 'admin');

-- ---- what each level may call ----

CREATE FUNCTION mine(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
CREATE TABLE calls (n int GENERATED ALWAYS AS IDENTITY, needs text, call text);
INSERT INTO calls (needs, call) VALUES
	('reader', $$SELECT evstore.version()$$),
	('reader', $$SELECT evstore.any_version(), evstore.no_stream(), evstore.stream_exists_version()$$),
	('reader', $$SELECT * FROM evstore.events$$),
	('reader', $$SELECT * FROM evstore.events_uncapped$$),
	('reader', $$SELECT * FROM evstore.streams$$),
	('reader', $$SELECT * FROM evstore.read_stream('order-1')$$),
	('reader', $$SELECT * FROM evstore.read_stream('order-1', 0, 0)$$),
	('reader', $$SELECT * FROM evstore.read_all()$$),
	('reader', $$SELECT * FROM evstore.read_category('order')$$),
	('reader', $$SELECT * FROM evstore.read_correlation('c')$$),
	('reader', $$SELECT * FROM evstore.get_event('00000000-0000-4000-8000-000000000001')$$),
	('reader', $$SELECT evstore.stream_version('order-1')$$),
	('reader', $$SELECT evstore.stream_exists('order-1')$$),
	('reader', $$SELECT evstore.safe_position()$$),
	('writer', $$SELECT evstore.append('order-1', 'T')$$),
	('writer', $$SELECT evstore.append_one('order-1', 'T')$$),
	('writer', $$SELECT evstore.append_events('order-1', '[]')$$),
	('writer', $$SELECT evstore.append_arrays('order-1', '{T}')$$),
	('writer', $$SELECT evstore.try_append('order-1', '[]', 99)$$),
	('writer', $$SELECT evstore.append_streams('[{"stream": "order-2", "events": [{"type": "T"}]}]')$$),
	('writer', $$SELECT evstore.append('order-1', 'T', event_id => '00000000-0000-4000-8000-000000000001')$$),
	('writer', $$SELECT evstore.append_arrays('order-3', array_fill('T'::text, '{35}'))$$),
	('consumer', $$SELECT evstore.inbox_begin('mail', '00000000-0000-4000-8000-000000000001')$$),
	('consumer', $$SELECT evstore.execute_once('mail', 'k', 'mine(jsonb)')$$),
	('admin', $$SELECT evstore.inbox_expire()$$),
	('admin', $$SELECT evstore.delete_stream('order-1')$$),
	('admin', $$SELECT evstore.tombstone_stream('order-1')$$),
	('admin', $$SELECT evstore.truncate_stream('order-1', 1)$$),
	('admin', $$SELECT evstore.set_stream('order-1', 5)$$),
	('admin', $$SELECT evstore.scavenge()$$),
	('admin', $$SELECT evstore.create_partitions(1)$$),
	('admin', $$SELECT evstore.record_safe_position()$$),
	('admin', $$SELECT evstore.adopt()$$),
	('admin', $$SELECT * FROM evstore.health()$$),
	('admin', $$SELECT * FROM evstore.verify()$$),
	('admin', $$SELECT * FROM evstore.partitions$$),
	('admin', $$SELECT * FROM evstore.in_flight$$),
	('admin', $$SELECT * FROM evstore.audit_log$$),
	('owner', $$INSERT INTO evstore.stream SELECT * FROM evstore.stream$$),
	('owner', $$INSERT INTO evstore.event_log SELECT * FROM evstore.event_log WHERE false$$),
	('owner', $$INSERT INTO evstore.event_log_1 SELECT * FROM evstore.event_log_1 WHERE false$$),
	('owner', $$UPDATE evstore.event_log SET type = 'x'$$),
	('owner', $$DELETE FROM evstore.stream$$),
	('owner', $$TRUNCATE evstore.event_log$$),
	('owner', $$DELETE FROM evstore.audit$$),
	('owner', $$SELECT nextval('evstore.position_seq')$$),
	('owner', $$SELECT setval('evstore.position_seq', 1)$$),
	('owner', $$SELECT nextval('evstore.stream_id_seq')$$),
	('owner', $$SELECT last_value FROM evstore.position_seq$$),
	('owner', $$SELECT * FROM evstore.event_log_1$$),
	('owner', $$SELECT * FROM evstore.sealed$$),
	('owner', $$SELECT * FROM evstore.safe_point$$),
	('owner', $$SELECT * FROM evstore.inbox_0$$),
	('owner', $$DELETE FROM evstore.inbox_0$$),
	('owner', $$SELECT evstore.grant_access('regress_evstore_none', 'admin')$$),
	('owner', $$CREATE TABLE evstore.mine ()$$),
	('owner', $$CREATE TRIGGER t AFTER INSERT ON evstore.event_log FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()$$),
	('owner', $$ALTER TABLE evstore.event_log DISABLE TRIGGER ALL$$),
	('owner', $$SET evstore.now_override = '2020-01-01'$$),
	('owner', $$SET evstore.partition_size = 100$$),
	('owner', $$SET evstore.max_batch = 1$$),
	('owner', $$SET evstore.max_event_size = 2048$$),
	('owner', $$SET evstore.id_window = 1$$),
	('owner', $$SET evstore.inbox_retention = '1h'$$),
	('owner', $$SET evstore.capture_context = on$$),
	('none', $$SET evstore.correlation_id = 'mine'$$),
	('none', $$SET evstore.actor = 'me'$$);
GRANT SELECT ON calls TO PUBLIC;

-- As a role, run a call and take it back: is it allowed?
CREATE FUNCTION allowed(role text, call text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		EXECUTE format('SET LOCAL ROLE %I', role);
		EXECUTE call;
		RAISE EXCEPTION USING ERRCODE = 'ZZ999';
	EXCEPTION
		WHEN SQLSTATE 'ZZ999' THEN RETURN 'yes';
		WHEN insufficient_privilege THEN RETURN 'no';
		WHEN OTHERS THEN RETURN SQLSTATE;
	END;
END $$;
CREATE VIEW matrix AS
SELECT n, needs, call,
	allowed('regress_evstore_none', call) AS none,
	allowed('regress_evstore_reader', call) AS reader,
	allowed('regress_evstore_writer', call) AS writer,
	allowed('regress_evstore_consumer', call) AS consumer,
	allowed('regress_evstore_admin', call) AS admin
FROM calls;
SELECT needs, count(*) AS calls, string_agg(DISTINCT none, ' ') AS none, string_agg(DISTINCT reader, ' ') AS reader,
	string_agg(DISTINCT writer, ' ') AS writer, string_agg(DISTINCT consumer, ' ') AS consumer, string_agg(DISTINCT admin, ' ') AS admin
FROM matrix GROUP BY needs ORDER BY min(n);
-- the exceptions to the table above, if any
SELECT needs, call, none, reader, writer, consumer, admin FROM matrix
WHERE (none = 'yes', reader = 'yes', writer = 'yes', consumer = 'yes', admin = 'yes')
	<> (needs = 'none', needs IN ('none', 'reader'), needs IN ('none', 'reader', 'writer'), needs IN ('none', 'reader', 'consumer'), needs <> 'owner')
ORDER BY n;

-- A call in earnest, with a partition that has to be made for it.
SET ROLE regress_evstore_writer;
SELECT first_version, version FROM evstore.append_arrays('order-1', array_fill('T'::text, '{35}'), expected_version => 24);
SELECT count(*), count(DISTINCT stream) FROM evstore.read_all(NULL, NULL);
RESET ROLE;
SELECT count(DISTINCT relowner) AS owners FROM pg_class WHERE relnamespace = 'evstore'::regnamespace;
SET ROLE regress_evstore_admin;
SELECT evstore.create_partitions(1);
SELECT evstore.truncate_stream('order-1', 3);
SELECT stream, events FROM evstore.scavenge();
SELECT actor, action FROM evstore.audit_log ORDER BY at;
SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;
RESET ROLE;

-- ---- the functions check for themselves ----

-- EXECUTE alone is not enough: the right is that on the view events.
GRANT USAGE ON SCHEMA evstore TO regress_evstore_app;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA evstore TO regress_evstore_app;
SELECT needs, string_agg(DISTINCT allowed('regress_evstore_app', call), ' ') AS allowed
FROM calls WHERE call ~ 'evstore\.(append|read|get|try|stream_|safe|delete|tomb|trunc|set_|scav|create_|record|adopt|inbox_[a-z]|execute)' AND call !~ 'stream_exists_version|position_seq|stream_id'
	AND needs <> 'owner'
GROUP BY needs ORDER BY needs;
SET ROLE regress_evstore_app;
SELECT evstore.append('order-1', 'T');
SELECT * FROM evstore.read_all();
SELECT evstore.append_events('order-1', '[]');
RESET ROLE;
-- and the right without EXECUTE is not either
SELECT evstore.grant_access('regress_evstore_app', 'writer');
REVOKE EXECUTE ON FUNCTION evstore.append_one FROM regress_evstore_app;
SELECT allowed('regress_evstore_app', $$SELECT evstore.append('order-1', 'T')$$) AS append,
	allowed('regress_evstore_app', $$SELECT evstore.append_one('order-1', 'T')$$) AS append_one;
-- SELECT on the view is all that reading takes; it can be given by hand
REVOKE INSERT ON evstore.events FROM regress_evstore_app;
SELECT allowed('regress_evstore_app', $$SELECT evstore.append('order-1', 'T')$$) AS append,
	allowed('regress_evstore_app', $$SELECT * FROM evstore.read_stream('order-1')$$) AS read;

-- Taken away again.
REVOKE ALL ON ALL TABLES IN SCHEMA evstore FROM regress_evstore_writer;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA evstore FROM regress_evstore_writer;
REVOKE ALL ON SCHEMA evstore FROM regress_evstore_writer;
SELECT string_agg(DISTINCT writer, ' ') AS writer FROM matrix WHERE needs <> 'none';

-- ---- through others ----

-- A member of a role has its rights.
GRANT regress_evstore_reader TO regress_evstore_none;
SELECT allowed('regress_evstore_none', $$SELECT * FROM evstore.read_all()$$) AS read,
	allowed('regress_evstore_none', $$SELECT evstore.append('order-1', 'T')$$) AS append;
REVOKE regress_evstore_reader FROM regress_evstore_none;
-- A SECURITY DEFINER function has its owner's, and the caller needs none.
CREATE FUNCTION place_order(id int) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT evstore.append_one('order-' || id, 'Placed') $$;
SET ROLE regress_evstore_none;
SELECT place_order(7);
SELECT evstore.append_one('order-7', 'Placed');
RESET ROLE;
ALTER FUNCTION place_order OWNER TO regress_evstore_reader;
SET ROLE regress_evstore_none;
SELECT place_order(7);
RESET ROLE;
SELECT version FROM evstore.read_stream('order-7');
-- A view of the application's runs with its owner's rights, functions in it with the caller's.
CREATE VIEW orders AS SELECT stream, version FROM evstore.events WHERE stream LIKE 'order-7%';
GRANT SELECT ON orders TO regress_evstore_none, regress_evstore_reader;
SET ROLE regress_evstore_reader;
SELECT * FROM orders;
SET ROLE regress_evstore_none;
\set VERBOSITY sqlstate
SELECT * FROM orders;
\set VERBOSITY default
RESET ROLE;

-- ---- grant_access itself ----

SELECT evstore.grant_access('regress_evstore_app', 'owner');
\echo :SQLSTATE
\set VERBOSITY sqlstate
SELECT evstore.grant_access('regress_evstore_app', NULL);
SELECT evstore.grant_access(NULL, 'reader');
SELECT evstore.grant_access('regress_evstore_nobody', 'reader');
\set VERBOSITY default
-- a name that needs quotes
CREATE ROLE "regress evstore ""odd""";
SELECT evstore.grant_access('"regress evstore ""odd"""', 'reader');
SELECT allowed('regress evstore "odd"', $$SELECT * FROM evstore.read_all()$$);
-- levels include each other
SELECT count(*) AS not_included
FROM (VALUES ('reader', 'writer'), ('reader', 'consumer'), ('writer', 'admin'), ('consumer', 'admin')) AS l (low, high),
	LATERAL (SELECT * FROM evstore._access(low) EXCEPT SELECT * FROM evstore._access(high)) AS missing;

\c :main
DROP DATABASE evstore_rights WITH (FORCE);
DROP ROLE regress_evstore_none, regress_evstore_reader, regress_evstore_writer, regress_evstore_consumer,
	regress_evstore_admin, regress_evstore_app, "regress evstore ""odd""";
