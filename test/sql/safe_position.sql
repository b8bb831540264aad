-- The safe position, what holds it back, and the views that speak of it.
-- (Prepared transactions stand in for other sessions.)
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_safe;
CREATE DATABASE evstore_safe;
\c evstore_safe
CREATE EXTENSION evstore;
LOAD 'evstore';
SET evstore.partition_size = 10;
SET application_name = 'tests of evstore';

SELECT evstore.safe_position();
SELECT * FROM evstore.in_flight;
SELECT version, position FROM evstore.append_arrays('s-1', '{A,B,C}');
SELECT evstore.safe_position();

-- ---- an own append ----

BEGIN;
SELECT evstore.safe_position();
SELECT version, position FROM evstore.append('s-1', 'D');
SELECT evstore.safe_position();
SELECT pid = pg_backend_pid() AS me, gid, application_name, username = current_user AS my_name, floor, xact_start = now() AS my_start, state, positions_blocked
FROM evstore.in_flight;
-- more of them change nothing
SELECT version, position FROM evstore.append_arrays('s-2', array_fill('T'::text, '{20}'));
SELECT evstore.safe_position();
SELECT floor, positions_blocked FROM evstore.in_flight;
SELECT count(*) FROM evstore.events;
SELECT count(*) FROM evstore.events_uncapped;
COMMIT;
SELECT evstore.safe_position();
SELECT * FROM evstore.in_flight;
SELECT count(*) FROM evstore.events;

-- Rolled back, its positions are holes, and safe.
BEGIN;
SELECT version, position FROM evstore.append('s-1', 'E');
ROLLBACK;
SELECT evstore.safe_position(), count(*), max(position) FROM evstore.events;

-- ---- what does not hold it ----

BEGIN;
CREATE TABLE other (n int);
SELECT count(*) FROM evstore.read_all();
SELECT version FROM evstore.append_events('s-1', '[]', 3);
SELECT ok FROM evstore.try_append('s-1', '[{"type": "T"}]', 77);
SELECT evstore.set_stream('s-2', metadata => '{}');
SELECT evstore.truncate_stream('s-2', 1);
SELECT count(*) FROM evstore.in_flight;
COMMIT;
SELECT version FROM evstore.append('s-1', 'E', event_id => '00000000-0000-4000-8000-000000000001');
BEGIN;
SELECT version FROM evstore.append('s-1', 'E', event_id => '00000000-0000-4000-8000-000000000001');
SELECT count(*) FROM evstore.in_flight;
COMMIT;
BEGIN;
SELECT pg_advisory_xact_lock(17750), pg_advisory_xact_lock(0, 17750);
SELECT count(*) FROM evstore.in_flight;
COMMIT;

-- ---- savepoints ----

-- One that is rolled back gives its share back ...
SELECT evstore.safe_position() AS safe \gset
BEGIN;
SAVEPOINT a;
SELECT version, position - :safe AS position FROM evstore.append('s-1', 'F');
SELECT evstore.safe_position() - :safe AS safe, (SELECT count(*) FROM evstore.in_flight) AS in_flight;
ROLLBACK TO a;
SELECT evstore.safe_position() - :safe AS safe, (SELECT count(*) FROM evstore.in_flight) AS in_flight;
-- ... and the next append takes a new one, above
SELECT version, position - :safe AS position FROM evstore.append('s-1', 'G');
SELECT evstore.safe_position() - :safe AS safe, floor - :safe AS floor FROM evstore.in_flight;
-- with one before it, that one stays
SAVEPOINT b;
SELECT version, position - :safe AS position FROM evstore.append('s-1', 'H');
ROLLBACK TO b;
SELECT evstore.safe_position() - :safe AS safe, floor - :safe AS floor FROM evstore.in_flight;
-- released, it is the transaction's
SAVEPOINT c;
SAVEPOINT d;
SELECT version, position - :safe AS position FROM evstore.append('s-3', 'A');
RELEASE d;
RELEASE c;
SELECT evstore.safe_position() - :safe AS safe, floor - :safe AS floor FROM evstore.in_flight;
COMMIT;
SELECT evstore.safe_position() - :safe AS safe, (SELECT count(*) FROM evstore.in_flight) AS in_flight;
SELECT version, type FROM evstore.read_stream('s-1', 4);

-- An exception block is a savepoint.
DO $$
BEGIN
	BEGIN
		PERFORM evstore.append('s-1', 'X');
		RAISE EXCEPTION 'no';
	EXCEPTION WHEN raise_exception THEN
		IF EXISTS (SELECT FROM evstore.in_flight) THEN
			RAISE 'still held';
		END IF;
	END;
END $$;

-- pg_advisory_unlock_all() and DISCARD do not give it away.
BEGIN;
SELECT version FROM evstore.append('s-1', 'H');
SELECT pg_advisory_unlock_all();
SELECT count(*) FROM evstore.in_flight;
COMMIT;

-- ---- a prepared transaction ----

SELECT evstore.safe_position() AS safe \gset
BEGIN;
SELECT version, position - :safe AS position FROM evstore.append_arrays('prepared-1', '{A,B}');
PREPARE TRANSACTION 'evstore_test_1';
SELECT pid, gid, application_name, username = current_user AS my_name, floor - :safe AS floor, positions_blocked FROM evstore.in_flight;
-- others go on, but nobody reads past it
SELECT version, position - :safe AS position FROM evstore.append('s-1', 'I');
SELECT version, position - :safe AS position FROM evstore.append_arrays('s-4', array_fill('T'::text, '{25}'));
SELECT evstore.safe_position() - :safe AS safe, (SELECT positions_blocked FROM evstore.in_flight) AS blocked;
SELECT position - :safe AS position, stream FROM evstore.read_all(:safe);
SELECT count(*) FROM evstore.read_category('s', :safe);
SELECT count(*) FROM evstore.events WHERE position > :safe;
-- (a stream can be read to its end, and so can the other view: not for followers)
SELECT count(*) FROM evstore.read_stream('s-4');
SELECT count(*) FROM evstore.events_uncapped WHERE position > :safe;
SELECT count(*) FROM evstore.read_all(NULL, 5, NULL, 'backward') WHERE position > :safe;
-- two of them: the lower one counts
BEGIN;
SELECT version, position - :safe AS position FROM evstore.append('prepared-2', 'A');
PREPARE TRANSACTION 'evstore_test_2';
SELECT gid, floor - :safe AS floor, positions_blocked FROM evstore.in_flight;
COMMIT PREPARED 'evstore_test_1';
SELECT evstore.safe_position() - :safe AS safe, (SELECT count(*) FROM evstore.in_flight) AS in_flight;
SELECT count(*), max(position) - :safe AS last FROM evstore.read_all(:safe);
SELECT stream, version FROM evstore.read_all(:safe, 3);
ROLLBACK PREPARED 'evstore_test_2';
SELECT evstore.safe_position() - :safe AS safe, (SELECT count(*) FROM evstore.in_flight) AS in_flight;
SELECT count(*), max(position) - :safe AS last FROM evstore.read_all(:safe);
SELECT evstore.stream_exists('prepared-1'), evstore.stream_exists('prepared-2');
SELECT version FROM evstore.append('prepared-2', 'A', expected_version => -1);

-- ---- it never decreases ----

DO $$
DECLARE
	previous bigint := 0;
	safe bigint;
BEGIN
	FOR n IN 1 .. 200 LOOP
		safe := evstore.safe_position();
		IF safe < previous THEN
			RAISE 'it went from % back to %', previous, safe;
		END IF;
		previous := safe;
		BEGIN
			PERFORM evstore.append('down-' || n % 7, 'T');
			safe := evstore.safe_position();
			IF safe < previous THEN
				RAISE 'it went from % back to %', previous, safe;
			END IF;
			previous := safe;
			IF n % 3 = 0 THEN
				RAISE EXCEPTION USING ERRCODE = 'ZZ999';
			END IF;
		EXCEPTION WHEN SQLSTATE 'ZZ999' THEN
			NULL;
		END;
		IF n % 5 = 0 THEN
			COMMIT;
		END IF;
	END LOOP;
END $$;
SELECT evstore.safe_position() = evstore._last_position() AS all_safe;

-- ---- for standbys it is written down ----

SELECT evstore.record_safe_position() = evstore.safe_position() AS same;
SELECT version FROM evstore.append('s-1', 'J');
SELECT evstore.record_safe_position() = evstore.safe_position() AS same;
SELECT count(*), max(position) = evstore.safe_position() AS newest FROM evstore.safe_point;
-- not beyond what is in flight
SELECT evstore.safe_position() AS safe \gset
BEGIN;
SELECT version FROM evstore.append('s-1', 'K');
SELECT evstore.record_safe_position() - :safe AS recorded;
COMMIT;

-- ---- the columns of the views ----

SELECT c.relname, string_agg(a.attname, ' ' ORDER BY a.attnum) AS columns
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'evstore'::regnamespace AND c.relname IN ('events', 'events_uncapped', 'streams', 'partitions', 'in_flight', 'audit_log')
GROUP BY 1 ORDER BY 1;
SELECT stream, category, version, first_position, deleted, tombstoned, truncate_before, max_count, max_age, metadata, created_at <= clock_timestamp() AS created
FROM evstore.streams WHERE stream IN ('s-1', 's-2') ORDER BY 1;
-- followers can use the view as they use the function
SELECT bool_and(to_jsonb(e) = to_jsonb(r)) AS same, count(*) = (SELECT count(*) FROM evstore.event_log) - 1 AS all_but_the_hidden FROM evstore.events AS e JOIN evstore.read_all(NULL, NULL) AS r USING (position);
SELECT count(*) FROM (SELECT * FROM evstore.events WHERE position > 10 ORDER BY position LIMIT 5) AS e;

SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;
\c :main
DROP DATABASE evstore_safe WITH (FORCE);
