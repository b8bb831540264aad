-- Appends within transactions: isolation levels, savepoints, many of them.
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_transactions;
CREATE DATABASE evstore_transactions;
\c evstore_transactions
CREATE EXTENSION evstore;
LOAD 'evstore';
SET evstore.partition_size = 10;

-- ---- every isolation level ----

CREATE TABLE levels (level text, result text);
-- a transaction at a level that appends, reads, meets a conflict, goes on
CREATE FUNCTION run() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	level CONSTANT text := current_setting('transaction_isolation');
	v bigint;
	conflict text := 'none';
	seen text;
	logged bigint;
BEGIN
	v := evstore.append_one('iso-' || level, 'A', expected_version => -1);
	SELECT version INTO v FROM evstore.append_arrays('iso-' || level, array_fill('B'::text, '{15}'), expected_version => v);
	BEGIN
		PERFORM evstore.append('iso-' || level, 'C', expected_version => 3);
	EXCEPTION WHEN OTHERS THEN
		conflict := SQLSTATE;
	END;
	IF (SELECT ok FROM evstore.try_append('iso-' || level, '[{"type": "C"}]', -1)) THEN
		RAISE 'no conflict';
	END IF;
	v := evstore.append_one('iso-' || level, 'D', expected_version => v);
	SELECT count(*) || ' to ' || max(version) INTO seen FROM evstore.read_stream('iso-' || level);
	SELECT count(*) INTO logged FROM evstore.read_all() WHERE stream = 'iso-' || level;
	INSERT INTO levels VALUES (level, format('version %s, conflict %s, stream %s, log %s', v, conflict, seen, logged));
END $$;
BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT run();
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT run();
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT run();
COMMIT;
SELECT * FROM levels;

-- Events of before the snapshot, of after it, and own ones.  (What other
-- sessions commit meanwhile is for the isolation tests.)
SELECT version FROM evstore.append_arrays('old-1', '{A,B}');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM evstore.read_stream('old-1');
SELECT version FROM evstore.append('old-1', 'C', expected_version => 1);
SELECT version, type FROM evstore.read_stream('old-1');
SELECT count(*) AS logged FROM evstore.events WHERE stream = 'old-1';
COMMIT;
SELECT count(*) AS logged FROM evstore.events WHERE stream = 'old-1';

-- Readers that write nothing.
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT count(*) FROM evstore.read_stream('old-1');
SELECT count(*) = (SELECT count(*) FROM evstore.events) AS same FROM evstore.read_all(NULL, NULL);
SELECT evstore.stream_version('old-1');
COMMIT;

-- ---- savepoints ----

-- An append that is rolled back to a savepoint burns positions, but no version.
SELECT evstore.safe_position() AS safe \gset
BEGIN;
SELECT version, position - :safe AS position FROM evstore.append('save-1', 'A');
SAVEPOINT a;
SELECT version, position - :safe AS position FROM evstore.append_arrays('save-1', '{X,X,X}', expected_version => 0);
SELECT version, position - :safe AS position FROM evstore.append('save-2', 'X');
ROLLBACK TO a;
SELECT evstore.stream_version('save-1'), evstore.stream_exists('save-2');
SELECT version, position - :safe AS position FROM evstore.append('save-1', 'B', expected_version => 0);
SAVEPOINT b;
SELECT version, position - :safe AS position FROM evstore.append('save-1', 'C', expected_version => 1);
RELEASE b;
-- after an error, too
SAVEPOINT c;
SELECT evstore.append('save-1', 'X', expected_version => 0);
ROLLBACK TO c;
SELECT version, position - :safe AS position FROM evstore.append('save-1', 'D', expected_version => 2);
-- back to before what was released
ROLLBACK TO a;
SELECT version, position - :safe AS position FROM evstore.append('save-1', 'E', expected_version => 0);
COMMIT;
SELECT version, type, position - :safe AS position FROM evstore.read_stream('save-1');
SELECT evstore.stream_exists('save-2');

-- A deletion, a truncation and limits go back as well.
BEGIN;
SAVEPOINT a;
SELECT evstore.delete_stream('save-1');
SELECT version FROM evstore.append('save-1', 'Again', expected_version => -1);
ROLLBACK TO a;
SELECT version FROM evstore.append('save-1', 'F', expected_version => 1);
COMMIT;
SELECT version, type FROM evstore.read_stream('save-1');

-- Into a new partition, and back out of it: the stream knows its newest place.
SELECT version FROM evstore.append('leaf-1', 'A');
BEGIN;
SAVEPOINT a;
SELECT version FROM evstore.append_arrays('leaf-1', array_fill('X'::text, '{40}'));
ROLLBACK TO a;
SELECT evstore.stream_version('leaf-1');
SELECT version FROM evstore.append('leaf-1', 'B', expected_version => 0);
ROLLBACK TO a;
COMMIT;
SELECT evstore.stream_version('leaf-1');
SELECT version FROM evstore.append('leaf-1', 'C', expected_version => 0);
SELECT version, type FROM evstore.read_stream('leaf-1');
SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;

-- ---- 2,000 of them ----

SET evstore.partition_size = 500;

-- one inside the other, an append in each; the inner half is rolled back
BEGIN;
\set ECHO none
\o /dev/null
SELECT format('SAVEPOINT s%s', n), format('SELECT evstore.append_one(''deep-1'', ''T'', to_jsonb(%s), expected_version => %s)', n, n - 1)
FROM generate_series(0, 1999) AS n \gexec
\o
\set ECHO all
SELECT evstore.stream_version('deep-1');
SELECT count(*) AS in_flight FROM evstore.in_flight;
SELECT count(*) < 500 AS few_locks FROM pg_locks WHERE pid = pg_backend_pid() AND locktype IN ('advisory', 'tuple');
ROLLBACK TO s1000;
SELECT evstore.stream_version('deep-1');
SELECT version FROM evstore.append('deep-1', 'T', '1000', expected_version => 999);
COMMIT;
SELECT count(*), max(version), bool_and(data = to_jsonb(version)) FROM evstore.read_stream('deep-1');

-- one after the other, every second rolled back
DO $$
BEGIN
	FOR n IN 0 .. 1999 LOOP
		BEGIN
			PERFORM evstore.append('wide-1', 'T', to_jsonb(n), expected_version => (n + 1) / 2 - 1);
			IF n % 2 = 1 THEN
				RAISE EXCEPTION USING ERRCODE = 'ZZ999';
			END IF;
		EXCEPTION WHEN SQLSTATE 'ZZ999' THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT count(*), max(version), bool_and(data = to_jsonb(2 * version)) FROM evstore.read_stream('wide-1');
SELECT evstore.safe_position() = evstore._last_position() AS all_safe;

-- ---- COMMIT and ROLLBACK inside a procedure ----

CREATE PROCEDURE work() LANGUAGE plpgsql AS $$
BEGIN
	FOR n IN 0 .. 29 LOOP
		PERFORM evstore.append('proc-1', 'T', to_jsonb(n));
		IF n % 3 = 2 THEN
			ROLLBACK;
		ELSIF n % 3 = 0 THEN
			COMMIT;
		END IF;
	END LOOP;
END $$;
CALL work();
SELECT string_agg(data::text, ' ') AS data, max(version) FROM evstore.read_stream('proc-1');

-- ---- temporary tables and DDL next to it ----

BEGIN;
CREATE TEMP TABLE t (n int) ON COMMIT DROP;
INSERT INTO t SELECT evstore.append_one('temp-1', 'T') FROM generate_series(1, 12);
SELECT count(*), max(n) FROM t;
COMMIT;

SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;
\c :main
DROP DATABASE evstore_transactions WITH (FORCE);
