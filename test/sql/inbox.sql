-- The inbox: what has been processed once is not processed again.
\set main :DBNAME
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_inbox;
DROP ROLE IF EXISTS regress_evstore_mailer, regress_evstore_operator;
CREATE DATABASE evstore_inbox;
\c evstore_inbox
CREATE EXTENSION evstore;
LOAD 'evstore';

-- id(7) is 00000000-0000-4000-8000-000000000007.
CREATE FUNCTION id(n int) RETURNS uuid LANGUAGE sql IMMUTABLE AS
$$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
-- All rows, and which tables have some.
CREATE VIEW inbox AS
SELECT i.*, right(i.tableoid::regclass::text, 1)::int AS n FROM (
	SELECT tableoid, * FROM evstore.inbox_0 UNION ALL SELECT tableoid, * FROM evstore.inbox_1
	UNION ALL SELECT tableoid, * FROM evstore.inbox_2 UNION ALL SELECT tableoid, * FROM evstore.inbox_3
	UNION ALL SELECT tableoid, * FROM evstore.inbox_4 UNION ALL SELECT tableoid, * FROM evstore.inbox_5
	UNION ALL SELECT tableoid, * FROM evstore.inbox_6 UNION ALL SELECT tableoid, * FROM evstore.inbox_7
	UNION ALL SELECT tableoid, * FROM evstore.inbox_8) AS i;

-- ---- the first time, and again ----

SELECT evstore.inbox_begin('mail', id(1));
SELECT evstore.inbox_begin('mail', id(1));
-- Another consumer and another source have their own; a source is '' when not given.
SELECT evstore.inbox_begin('stock', id(1)) AS consumer, evstore.inbox_begin('mail', id(1), 'shop') AS source,
	evstore.inbox_begin('mail', id(2)) AS event;
SELECT evstore.inbox_begin('mail', id(1), '') AS no_source, evstore.inbox_begin(event_id => id(1), source => 'shop', consumer => 'mail') AS named;
-- Where one part ends and the next begins is part of the key.
SELECT evstore.inbox_begin('ab', id(1), 'c') AS ab_c, evstore.inbox_begin('a', id(1), 'bc') AS a_bc, evstore.inbox_begin('a', id(1), 'b') AS a_b;
-- However the id is written; letters are not folded, nothing is trimmed.
SELECT evstore.inbox_begin('mail', 'AAAAAAAA-0000-4000-8000-000000000001') AS upper, evstore.inbox_begin('mail', '{aaaaaaaa00004000-8000000000000001}') AS lower;
SELECT evstore.inbox_begin('Mail', id(1)) AS letters, evstore.inbox_begin('mail ', id(1)) AS trailing;
-- Any text: precomposed and combining letters are different ones.
SELECT evstore.inbox_begin(U&'caf\00E9', id(1)) AS precomposed, evstore.inbox_begin(U&'cafe\0301', id(1)) AS combining,
	evstore.inbox_begin('🐘' || E'\n\t', id(1), '送信元') AS others, evstore.inbox_begin('🐘' || E'\n\t', id(1), '送信元') AS again;
SELECT evstore.inbox_begin(repeat('é', 256), id(1), repeat('x', 512)) AS longest, evstore.inbox_begin(repeat('é', 256), id(1), repeat('x', 512)) AS again;

-- ---- transactions ----

BEGIN;
SELECT evstore.inbox_begin('tx', id(1)) AS first, evstore.inbox_begin('tx', id(1)) AS same_statement;
SELECT evstore.inbox_begin('tx', id(1)) AS same_transaction;
ROLLBACK;
SELECT evstore.inbox_begin('tx', id(1)) AS after_rollback;
BEGIN;
SAVEPOINT s;
SELECT evstore.inbox_begin('tx', id(2)) AS in_savepoint;
ROLLBACK TO s;
SELECT evstore.inbox_begin('tx', id(2)) AS given_back;
SAVEPOINT s;
SELECT evstore.inbox_begin('tx', id(2)) AS again, evstore.inbox_begin('tx', id(3)) AS other;
RELEASE s;
SELECT evstore.inbox_begin('tx', id(3)) AS after_release;
COMMIT;
SELECT evstore.inbox_begin('tx', id(2)) AS two, evstore.inbox_begin('tx', id(3)) AS three;
-- What a handler does and the key are one: if it fails, neither is there.
CREATE TABLE effects (n int);
CREATE FUNCTION handle(n int, fail boolean) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF NOT evstore.inbox_begin('handler', id(n)) THEN
		RETURN 'processed before';
	END IF;
	INSERT INTO effects VALUES (n);
	IF fail THEN
		RAISE EXCEPTION 'handler fails';
	END IF;
	RETURN 'processed';
EXCEPTION WHEN raise_exception THEN
	RETURN 'failed';
END $$;
SELECT handle(1, true), handle(1, false), handle(1, true);
SELECT * FROM effects;
-- All isolation levels.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT evstore.inbox_begin('rr', id(1)) AS first, evstore.inbox_begin('rr', id(1)) AS again, evstore.inbox_begin('tx', id(1)) AS known;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT evstore.inbox_begin('sr', id(1)) AS first, evstore.inbox_begin('sr', id(1)) AS again, evstore.inbox_begin('tx', id(1)) AS known;
COMMIT;

-- A prepared transaction has its keys until it is decided on.
BEGIN;
SELECT evstore.inbox_begin('prepared', id(1)) AS one, evstore.inbox_begin('prepared', id(2)) AS two;
PREPARE TRANSACTION 'regress_inbox_1';
SET lock_timeout = 100;
\set VERBOSITY sqlstate
SELECT evstore.inbox_begin('prepared', id(1));
\set VERBOSITY default
RESET lock_timeout;
SELECT evstore.inbox_begin('prepared', id(3)) AS three;
COMMIT PREPARED 'regress_inbox_1';
SELECT evstore.inbox_begin('prepared', id(1)) AS one;
BEGIN;
SELECT evstore.inbox_begin('prepared', id(4)) AS four;
PREPARE TRANSACTION 'regress_inbox_2';
ROLLBACK PREPARED 'regress_inbox_2';
SELECT evstore.inbox_begin('prepared', id(4)) AS four;

-- Many in a transaction, and in a statement: locks do not add up.
BEGIN;
SELECT count(*) FILTER (WHERE evstore.inbox_begin('bulk', id(n))) AS first FROM generate_series(1, 10000) AS n;
SELECT count(*) FILTER (WHERE evstore.inbox_begin('bulk', id(n % 20000))) AS first FROM generate_series(5001, 15000) AS n;
SELECT count(*) FILTER (WHERE locktype = 'advisory') AS keys, count(*) < 50 AS few FROM pg_locks WHERE pid = pg_backend_pid();
COMMIT;
SELECT count(*) FILTER (WHERE evstore.inbox_begin('bulk', id(n))) AS first FROM generate_series(1, 15000) AS n;

-- ---- arguments ----

CREATE TABLE calls (n int GENERATED ALWAYS AS IDENTITY, args jsonb, role name DEFAULT current_user);
CREATE FUNCTION charge(args jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO calls (args) VALUES (args);
	IF args ? 'error' THEN
		RAISE EXCEPTION '%', args ->> 'error';
	END IF;
	RETURN jsonb_build_object('call', (SELECT max(n) FROM calls), 'args', args);
END $$;
SELECT evstore.inbox_begin(NULL, id(1));
\echo :SQLSTATE
SELECT evstore.inbox_begin('mail', NULL);
\echo :SQLSTATE
SELECT evstore.inbox_begin('mail', id(1), NULL);
\echo :SQLSTATE
SELECT evstore.inbox_begin('', id(1));
\echo :SQLSTATE
SELECT evstore.inbox_begin(repeat('x', 513), id(1));
\echo :SQLSTATE
SELECT evstore.inbox_begin('mail', id(1), repeat('é', 257));
\echo :SQLSTATE
\set VERBOSITY sqlstate
SELECT evstore.inbox_begin('mail', 'no id');
BEGIN READ ONLY;
SELECT evstore.inbox_begin('mail', id(99999));
ROLLBACK;
BEGIN READ ONLY;
SELECT evstore.execute_once('scope', 'read only', 'charge(jsonb)');
ROLLBACK;
BEGIN READ ONLY;
SELECT evstore.inbox_expire();
ROLLBACK;
\set VERBOSITY default
SELECT count(*) AS left_behind FROM inbox WHERE key = id(99999)::text OR key = 'read only';

-- ---- execute_once ----

SELECT evstore.execute_once('charge', 'order-1', 'charge(jsonb)', '{"amount": 10}');
-- what is passed later does not matter
SELECT evstore.execute_once('charge', 'order-1', 'charge(jsonb)', '{"amount": 20}');
SELECT evstore.execute_once('charge', 'order-1', 'charge(jsonb)', '{"error": "never called"}');
SELECT evstore.execute_once('charge', 'order-2', 'charge(jsonb)') AS other_key, evstore.execute_once('refund', 'order-1', 'charge(jsonb)') AS other_scope;
-- the keys of inbox_begin() are others
SELECT evstore.execute_once('charge', id(1)::text, 'charge(jsonb)') AS executed, evstore.inbox_begin('charge', id(1)) AS begun;
SELECT evstore.inbox_begin('refund', id(2)) AS begun, evstore.execute_once('refund', id(2)::text, 'charge(jsonb)') AS executed;

-- NULL, and JSON null.
CREATE FUNCTION nothing(args jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO calls (args) VALUES ('"nothing"'); RETURN NULL; END $$;
SELECT evstore.execute_once('null', 'k', 'nothing(jsonb)') IS NULL AS first, evstore.execute_once('null', 'k', 'nothing(jsonb)') IS NULL AS again;
SELECT count(*) AS calls FROM calls WHERE args = '"nothing"';
CREATE FUNCTION echo(args jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT args';
SELECT evstore.execute_once('json null', 'k', 'echo(jsonb)', 'null') AS first, evstore.execute_once('json null', 'k', 'echo(jsonb)', '1') AS again;
-- A large result, which is stored out of line; its own row is not kept twice.
SELECT length(evstore.execute_once('large', 'k', 'echo(jsonb)', (SELECT jsonb_agg(md5(n::text)) FROM generate_series(1, 10000) AS n))::text) AS first;
SELECT length(evstore.execute_once('large', 'k', 'echo(jsonb)', '1')::text) AS again;
SELECT count(*) FROM inbox WHERE source = 'large';
-- 300 results in one transaction, so that some rows have no place for a new version in their page
SELECT count(DISTINCT evstore.execute_once('many', n::text, 'echo(jsonb)', to_jsonb(repeat('x', 1000) || n))) FROM generate_series(1, 300) AS n;
SELECT count(DISTINCT evstore.execute_once('many', n::text, 'echo(jsonb)', '0')) FROM generate_series(1, 300) AS n;

-- An error leaves nothing behind.
SELECT evstore.execute_once('charge', 'fails', 'charge(jsonb)', '{"error": "card refused"}');
\echo :SQLSTATE
SELECT count(*) AS records FROM inbox WHERE key = 'fails';
SELECT evstore.execute_once('charge', 'fails', 'charge(jsonb)', '{"amount": 30}') -> 'args' AS later;
-- rolled back to a savepoint too
BEGIN;
SAVEPOINT s;
SELECT evstore.execute_once('savepoint', 'k', 'echo(jsonb)', '1');
ROLLBACK TO s;
SELECT evstore.execute_once('savepoint', 'k', 'echo(jsonb)', '2');
COMMIT;
SELECT evstore.execute_once('savepoint', 'k', 'echo(jsonb)', '3');
-- All isolation levels.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT evstore.execute_once('rr', 'k', 'echo(jsonb)', '1') AS first, evstore.execute_once('rr', 'k', 'echo(jsonb)', '2') AS again;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT evstore.execute_once('sr', 'k', 'echo(jsonb)', '1') AS first, evstore.execute_once('rr', 'k', 'echo(jsonb)', '2') AS known;
COMMIT;

-- A function may use others, but not wait for itself; after that error all is as before.
CREATE FUNCTION nested(args jsonb) RETURNS jsonb LANGUAGE sql AS
$$ SELECT evstore.execute_once('nested', args ->> 'key', 'echo(jsonb)', args) $$;
SELECT evstore.execute_once('nested', 'outer', 'nested(jsonb)', '{"key": "inner"}') AS outer, evstore.execute_once('nested', 'inner', 'echo(jsonb)', '0') AS inner;
SELECT evstore.execute_once('nested', 'self', 'nested(jsonb)', '{"key": "self"}');
\echo :SQLSTATE
SELECT evstore.execute_once('nested', 'self', 'echo(jsonb)', '1');
CREATE FUNCTION saved(args jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	RETURN nested(args);
EXCEPTION WHEN object_in_use THEN
	RETURN '"refused"';
END $$;
SELECT evstore.execute_once('nested', 'saved', 'saved(jsonb)', '{"key": "saved"}'), evstore.execute_once('nested', 'saved', 'saved(jsonb)', '{"key": "saved"}');
-- What it reads is as of now, also in a STABLE function and within a statement.
CREATE FUNCTION count_calls(args jsonb) RETURNS jsonb LANGUAGE sql STABLE AS 'SELECT to_jsonb(count(*)) FROM calls';
WITH one AS MATERIALIZED (SELECT evstore.execute_once('charge', 'before count', 'charge(jsonb)') -> 'call' AS call)
SELECT evstore.execute_once('count', 'k', 'count_calls(jsonb)') = to_jsonb((SELECT count(*) FROM calls) + 1) AS sees_it FROM one WHERE call IS NOT NULL;
-- A row that is deleted meanwhile.
CREATE FUNCTION forget(args jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	i int;
BEGIN
	FOR i IN 0 .. 8 LOOP EXECUTE format('DELETE FROM evstore.inbox_%s WHERE source = %L', i, 'forget'); END LOOP;
	RETURN '1';
END $$;
SELECT evstore.execute_once('forget', 'k', 'forget(jsonb)');
\echo :SQLSTATE

-- ---- its arguments ----

SELECT evstore.execute_once(NULL, 'k', 'echo(jsonb)');
SELECT evstore.execute_once('s', NULL, 'echo(jsonb)');
SELECT evstore.execute_once('s', 'k', NULL);
SELECT evstore.execute_once('s', 'k', 'echo(jsonb)', NULL);
\echo :SQLSTATE
SELECT evstore.execute_once('', 'k', 'echo(jsonb)');
SELECT evstore.execute_once('s', '', 'echo(jsonb)');
SELECT evstore.execute_once(repeat('x', 513), 'k', 'echo(jsonb)');
SELECT evstore.execute_once('s', repeat('x', 513), 'echo(jsonb)');
\echo :SQLSTATE
CREATE FUNCTION f_json(json) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
CREATE FUNCTION f_result(jsonb) RETURNS json LANGUAGE sql AS 'SELECT NULL::json';
CREATE FUNCTION f_set(jsonb) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION f_two(jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION f_variadic(VARIADIC jsonb[]) RETURNS jsonb LANGUAGE sql AS 'SELECT $1[1]';
CREATE FUNCTION f_any(anyelement) RETURNS anyelement LANGUAGE sql AS 'SELECT $1';
CREATE AGGREGATE f_aggregate(jsonb) (SFUNC = jsonb_concat, STYPE = jsonb);
CREATE PROCEDURE f_procedure(INOUT jsonb) LANGUAGE sql AS 'SELECT $1';
\set VERBOSITY sqlstate
SELECT evstore.execute_once('s', 'k', 'f_json(json)');
SELECT evstore.execute_once('s', 'k', 'f_result(jsonb)');
SELECT evstore.execute_once('s', 'k', 'f_set(jsonb)');
SELECT evstore.execute_once('s', 'k', 'f_two(jsonb, jsonb)');
SELECT evstore.execute_once('s', 'k', 'f_variadic(jsonb[])');
SELECT evstore.execute_once('s', 'k', 'f_any(anyelement)');
SELECT evstore.execute_once('s', 'k', 'f_aggregate(jsonb)');
SELECT evstore.execute_once('s', 'k', 'f_procedure(jsonb)');
SELECT evstore.execute_once('s', 'k', 0::regprocedure);
SELECT evstore.execute_once('s', 'k', 'f_none(jsonb)');
\set VERBOSITY default
SELECT evstore.execute_once('s', 'k', 'f_two(jsonb, jsonb)');
SELECT count(*) AS records FROM inbox WHERE source = 's';
-- a function with a result argument and one with settings
CREATE FUNCTION f_out(IN a jsonb, OUT b jsonb) LANGUAGE sql AS 'SELECT a';
CREATE FUNCTION f_set_path(jsonb) RETURNS jsonb LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$ SELECT to_jsonb(current_setting('search_path')) $$;
SELECT evstore.execute_once('s', 'out', 'f_out(jsonb)', '1'), evstore.execute_once('s', 'path', 'f_set_path(jsonb)');

-- ---- rights ----

CREATE ROLE regress_evstore_mailer;
CREATE ROLE regress_evstore_operator;
SELECT evstore.grant_access('regress_evstore_mailer', 'consumer'), evstore.grant_access('regress_evstore_operator', 'admin');
GRANT INSERT, SELECT ON calls, effects TO regress_evstore_mailer;
CREATE FUNCTION owner_only(args jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT args';
REVOKE ALL ON FUNCTION owner_only FROM PUBLIC;
CREATE FUNCTION as_owner(args jsonb) RETURNS jsonb LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$ SELECT evstore.execute_once('definer', 'k', 'public.owner_only(jsonb)', args) $$;
SET ROLE regress_evstore_mailer;
SELECT evstore.inbox_begin('mailer', id(1));
-- the function runs as who calls, and must be callable
SELECT evstore.execute_once('rights', 'role', 'charge(jsonb)') IS NOT NULL AS executed;
SELECT role FROM calls ORDER BY n DESC LIMIT 1;
SELECT evstore.execute_once('rights', 'owner only', 'owner_only(jsonb)');
\echo :SQLSTATE
SELECT as_owner('{"by": "the owner of as_owner"}'), evstore.execute_once('definer', 'k', 'charge(jsonb)') AS known;
\set VERBOSITY sqlstate
SELECT evstore.inbox_expire();
SELECT * FROM evstore.inbox_0;
\set VERBOSITY default
RESET ROLE;
REVOKE SELECT ON evstore.events FROM regress_evstore_mailer;
SET ROLE regress_evstore_mailer;
SELECT evstore.inbox_begin('mailer', id(2));
SELECT evstore.execute_once('rights', 'k', 'charge(jsonb)');
RESET ROLE;
SET ROLE regress_evstore_operator;
SELECT evstore.inbox_begin('operator', id(1)), evstore.inbox_expire();
RESET ROLE;

-- ---- periods and expiry ----

TRUNCATE evstore.inbox_0, evstore.inbox_1, evstore.inbox_2, evstore.inbox_3, evstore.inbox_4, evstore.inbox_5, evstore.inbox_6, evstore.inbox_7, evstore.inbox_8;
-- It is d days after the first of January, at noon.
CREATE FUNCTION day(d numeric) RETURNS void LANGUAGE sql AS
$$ SELECT FROM set_config('evstore.now_override', (timestamptz '2020-01-01 12:00+00' + d * interval '1 day')::text, false) $$;
SHOW evstore.inbox_retention;
CREATE FUNCTION begin_at(d numeric, n int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM day(d); RETURN evstore.inbox_begin('days', id(n)); END $$;
-- one table a day, and the tenth day is the first one's again
SELECT d, begin_at(d, d) AS first FROM generate_series(0, 9) AS d;
SELECT array_agg(right(key, 1) ORDER BY key) AS days FROM inbox GROUP BY n ORDER BY 1;
-- whatever the day, each is known
SELECT d, (SELECT count(*) FILTER (WHERE begin_at(d, n)) FROM generate_series(0, 9) AS n) AS first FROM generate_series(0, 12) AS d;
SELECT count(*) FROM inbox;
-- a duplicate leaves no row behind, dead or alive
SELECT sum(pg_relation_size(tableoid)) AS before FROM (SELECT DISTINCT tableoid FROM inbox) AS t \gset
SELECT count(*) FILTER (WHERE begin_at(5, n % 10)) AS first FROM generate_series(0, 2000) AS n;
SELECT sum(pg_relation_size(tableoid)) - :before AS grown FROM (SELECT DISTINCT tableoid FROM inbox) AS t;

-- Nothing goes that is younger than seven days, or shares a table with it:
-- day 2 is exactly seven days ago now, and the table of day 0 has day 9 as well.
SELECT day(9);
SELECT evstore.inbox_expire();
SELECT array_agg(substr(key, 36) ORDER BY key) AS left FROM inbox;
SELECT day(9.6);
SELECT evstore.inbox_expire();
SELECT array_agg(substr(key, 36) ORDER BY key) AS left FROM inbox;
SELECT evstore.inbox_expire();
SELECT begin_at(9.6, 0) AS old_but_there, begin_at(9.6, 1) AS forgotten, begin_at(9.6, 3) AS young;
-- day 3
SELECT day(10);
SELECT evstore.inbox_expire();
SELECT day(10.00001);
SELECT evstore.inbox_expire();
SELECT day(100);
SELECT evstore.inbox_expire();
SELECT count(*) FROM inbox;
-- all is as it was before: empty tables are used again
SELECT begin_at(100, 1), begin_at(100, 1);

-- A rolled-back expiry brings everything back.
SELECT day(200);
BEGIN;
SELECT evstore.inbox_expire();
SELECT evstore.inbox_begin('days', id(1));
ROLLBACK;
SELECT evstore.inbox_begin('days', id(1));
-- What this transaction has just begun is not old.
BEGIN;
SELECT evstore.inbox_begin('days', id(2)) AS first, evstore.inbox_expire() AS emptied, evstore.inbox_begin('days', id(2)) AS again;
COMMIT;
SELECT evstore.inbox_begin('days', id(2));
-- A table of rows that were rolled back only is emptied too.
SELECT day(300);
SELECT evstore.inbox_expire();
BEGIN;
SELECT evstore.inbox_begin('days', id(3));
ROLLBACK;
SELECT evstore.inbox_expire();

-- ---- another retention ----

-- What is younger than the smaller one is known, whichever came first.
SELECT day(400);
SET evstore.inbox_retention = '1min';
SELECT evstore.inbox_begin('short', id(n)) FROM generate_series(1, 2) AS n;
SET evstore.inbox_retention = '30d';
SELECT evstore.inbox_begin('short', id(1)) AS known, evstore.inbox_begin('long', id(1)) AS first;
SET evstore.inbox_retention = '1d';
SELECT evstore.inbox_begin('short', id(2)) AS known, evstore.inbox_begin('long', id(1)) AS known;
SELECT day(400.9);
SELECT evstore.inbox_expire();
SELECT evstore.inbox_begin('short', id(2)) AS known, evstore.inbox_begin('long', id(1)) AS known;
-- the larger one lets old rows live longer, from now on
SET evstore.inbox_retention = '30d';
SELECT day(420);
SELECT evstore.inbox_expire();
SELECT evstore.inbox_begin('short', id(2)) AS known, evstore.inbox_begin('long', id(1)) AS known;
SET evstore.inbox_retention = '1min';
SELECT evstore.inbox_expire() > 0 AS emptied;
SELECT evstore.inbox_begin('short', id(2)) AS first, evstore.inbox_begin('long', id(1)) AS first;
-- minutes, and a day long before the epoch of PostgreSQL
SET evstore.now_override = '1969-07-20 20:17:40+00';
SELECT evstore.inbox_begin('moon', id(1)), evstore.inbox_begin('moon', id(1));
\set VERBOSITY sqlstate
SET evstore.inbox_retention = 0;
RESET evstore.inbox_retention;
RESET evstore.now_override;

\c :main
DROP DATABASE evstore_inbox WITH (FORCE);
DROP ROLE regress_evstore_mailer, regress_evstore_operator;
