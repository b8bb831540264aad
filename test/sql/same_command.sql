-- The same stream several times in one command, and reading one's own appends.
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_command;
CREATE DATABASE evstore_command;
\c evstore_command
CREATE EXTENSION evstore;
LOAD 'evstore';
SET evstore.partition_size = 10;

-- ---- one command, one stream ----

-- Each call sees what the calls before it in the same command have done.
SELECT evstore.append_one('s', 'T', to_jsonb(n)) FROM generate_series(0, 4) AS n;
SELECT n, evstore.append_one('s', 'T', to_jsonb(n), expected_version => n - 1) FROM generate_series(5, 7) AS n;
SELECT n, a.* FROM generate_series(8, 9) AS n, evstore.append('s', 'T', to_jsonb(n)) AS a;
-- a stream that this command makes, with no stream expected for the first only
SELECT n, evstore.append_one('new', 'T', to_jsonb(n), expected_version => n - 1) FROM generate_series(0, 2) AS n;
-- several of them, in turns
SELECT evstore.append_one('turn-' || n % 3, 'T', to_jsonb(n)) FROM generate_series(0, 8) AS n;
-- 35 in one command, in several partitions
SELECT count(*), min(v), max(v) FROM (SELECT evstore.append_one('long', 'T', to_jsonb(n)) AS v FROM generate_series(0, 34) AS n) AS a;
SELECT bool_and(data = to_jsonb(version)), count(*) FROM evstore.read_stream('long');
SELECT bool_and(data = to_jsonb(version)), count(*) FROM evstore.read_stream('s');

-- A conflict in the middle takes all of the command back.
SELECT evstore.append_one('s', 'T', to_jsonb(n), expected_version => least(n, 11)) FROM generate_series(9, 12) AS n;
\echo :SQLSTATE
SELECT evstore.stream_version('s');

-- try_append in one command: the second sees the first.
SELECT n, t.ok, t.version, t.actual_version
FROM generate_series(1, 3) AS n, evstore.try_append('try', jsonb_build_array(jsonb_build_object('type', 'T' || n)), -1) AS t;

-- ---- WITH ----

WITH a AS (SELECT evstore.append_one('with', 'A') AS v),
	b AS (SELECT evstore.append_one('with', 'B') AS w FROM a WHERE v >= 0)
SELECT v, w FROM a, b;
-- next to a data-modifying part
CREATE TABLE orders (id int PRIMARY KEY, version bigint);
WITH o AS (INSERT INTO orders VALUES (1, -1), (2, -1), (3, -1) RETURNING id)
SELECT id, evstore.append_one('orders', 'Placed', jsonb_build_object('id', id)) FROM o ORDER BY id;
INSERT INTO orders SELECT n, evstore.append_one('orders', 'Placed', jsonb_build_object('id', n)) FROM generate_series(4, 6) AS n;
UPDATE orders SET version = evstore.append_one('orders', 'Changed', jsonb_build_object('id', id)) WHERE id >= 5;
SELECT id, version FROM orders ORDER BY id;
SELECT version, type, data FROM evstore.read_stream('orders');
-- in a trigger, for each row
CREATE FUNCTION record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evstore.append('orders', 'Recorded', jsonb_build_object('id', NEW.id));
	RETURN NEW;
END $$;
CREATE TRIGGER record AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION record();
INSERT INTO orders SELECT n FROM generate_series(11, 13) AS n;
SELECT version, type, data FROM evstore.read_stream('orders', 8);

-- ---- PL/pgSQL ----

DO $$
DECLARE
	v bigint := -1;
BEGIN
	FOR n IN 1 .. 25 LOOP
		v := evstore.append_one('loop', 'T', to_jsonb(n), expected_version => v);
		IF evstore.stream_version('loop') <> v OR (SELECT count(*) FROM evstore.read_stream('loop')) <> n THEN
			RAISE EXCEPTION 'event % is not seen', n;
		END IF;
	END LOOP;
	-- a conflict is caught, and its subtransaction taken back with what it did
	BEGIN
		PERFORM evstore.append_one('loop', 'T', '26', expected_version => v);
		PERFORM evstore.append_one('loop', 'T', '27', expected_version => v);
		RAISE EXCEPTION 'no conflict';
	EXCEPTION WHEN SQLSTATE 'VS001' THEN
		v := evstore.append_one('loop', 'T', '26', expected_version => v);
	END;
END $$;
SELECT count(*), max(version), bool_and(data = to_jsonb(version + 1)) FROM evstore.read_stream('loop');

-- A decider in a function: read, decide, append.
CREATE FUNCTION withdraw(account text, amount numeric) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	balance numeric;
	seen bigint;
BEGIN
	SELECT coalesce(sum((data->>'amount')::numeric), 0), coalesce(max(version), -1)
	INTO balance, seen
	FROM evstore.read_stream('account-' || account);
	IF balance < amount THEN
		RETURN -1;
	END IF;
	PERFORM evstore.append('account-' || account, 'Withdrawn', jsonb_build_object('amount', -amount), expected_version => seen);
	RETURN balance - amount;
END $$;
SELECT version FROM evstore.append('account-1', 'Deposited', '{"amount": 10.00}');
-- four in one command: each sees what the others have left
SELECT withdraw('1', 3.30) FROM generate_series(1, 4);

-- ---- reading in the same statement ----

-- A read that is made after the append in the same statement sees it.
SELECT v, (SELECT count(*) FROM evstore.read_stream('same', v - v)) AS events
FROM (SELECT evstore.append_one('same', 'T') AS v FROM generate_series(1, 3) OFFSET 0) AS a;

-- In the same transaction: the stream has them, the log (up to the safe
-- position) does not yet, nor has the view events.
SELECT evstore.safe_position() AS safe \gset
BEGIN;
SELECT version FROM evstore.append_arrays('mine', '{A,B}');
SELECT version, type FROM evstore.read_stream('mine');
SELECT version, type FROM evstore.read_stream('mine', NULL, 1, 'backward');
SELECT evstore.stream_version('mine'), evstore.stream_exists('mine'), evstore.safe_position() = :safe AS safe_is_held;
SELECT count(*) AS read_all FROM evstore.read_all(:safe);
SELECT count(*) AS read_category FROM evstore.read_category('mine');
SELECT count(*) AS events FROM evstore.events WHERE stream = 'mine';
SELECT count(*) AS events_uncapped FROM evstore.events_uncapped WHERE stream = 'mine';
SELECT stream, version FROM evstore.streams WHERE stream = 'mine';
SELECT g.version, g.type FROM evstore.read_stream('mine') AS r, evstore.get_event(r.event_id) AS g;
COMMIT;
SELECT stream, version FROM evstore.read_all(:safe);
SELECT count(*) AS read_category FROM evstore.read_category('mine');
SELECT count(*) AS events FROM evstore.events WHERE stream = 'mine';

-- A query over the log that appends as it goes ends: it reads what there was.
SELECT count(*) AS events FROM evstore.events \gset
SELECT count(*) = :events AS all_of_them FROM (SELECT evstore.append_one('copy', type, data) FROM evstore.read_all(NULL, NULL)) AS c;
SELECT count(*) = :events AS all_copied FROM evstore.read_stream('copy');
SELECT count(*) = 2 * :events AS all_copied_again
FROM (SELECT evstore.append_one('copy', type, data) FROM evstore.events) AS c;

SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;
\c :main
DROP DATABASE evstore_command WITH (FORCE);
