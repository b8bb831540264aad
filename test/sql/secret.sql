-- Secrets: what is kept of them, who may do what, and what is never said.
\set main :DBNAME
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_secret;
DROP DATABASE IF EXISTS evstore_secret_ascii;
DROP ROLE IF EXISTS regress_evstore_admin, regress_evstore_writer;
CREATE DATABASE evstore_secret;
\c evstore_secret
CREATE EXTENSION evstore;

SELECT evstore.create_secret('broker', 'hunter2');
SELECT evstore.create_secret('empty', '');
SELECT evstore.create_secret('Ünicode ☃', 'pässwörd');
SELECT evstore.create_secret('large', repeat('x', 65536));
SELECT evstore.create_secret('too large', repeat('x', 65537));
SELECT evstore.create_secret('too large', repeat('ä', 32769));
SELECT evstore.create_secret('', 'value');
SELECT evstore.create_secret(repeat('n', 52), 'value');
SELECT evstore.create_secret(NULL, 'value');
SELECT evstore.create_secret('name', NULL);
SELECT evstore.create_secret('broker', 'another');
SELECT evstore.alter_secret('nobody', 'value');
SELECT evstore.alter_secret('broker', '');
SELECT evstore.alter_secret(NULL, 'value');
SELECT name, changed_at = created_at AS unchanged FROM evstore.secrets ORDER BY name COLLATE "C";

-- sealed: version, nonce, as many bytes as the value has, tag; never twice the same
SELECT name, octet_length(sealed) - 1 - 16 - 32 AS bytes, get_byte(sealed, 0) AS version FROM evstore.secret ORDER BY name;
SELECT count(*) FROM evstore.secret WHERE position('hunter2'::bytea IN sealed) > 0 OR position('xxxxxxxx'::bytea IN sealed) > 0;
CREATE TEMP TABLE before AS SELECT * FROM evstore.secret;
SELECT evstore.alter_secret('broker', 'hunter2');
SELECT b.sealed <> s.sealed AS other_bytes, b.created_at = s.created_at AS made_then, s.changed_at > b.changed_at AS changed
FROM evstore.secret AS s JOIN before AS b USING (name) WHERE name = 'broker';
-- of 65536 equal bytes no block is as another
SELECT count(DISTINCT substr(sealed, 18 + 32 * i, 32)) FROM evstore.secret, generate_series(0, 2047) AS i WHERE name = 'large';


-- ---- opening ----

SELECT evstore._secret_is('broker', 'hunter2') AS broker, evstore._secret_is('broker', 'hunter') AS shorter, evstore._secret_is('Ünicode ☃', 'pässwörd') AS unicode,
	evstore._secret_is('large', repeat('x', 65536)) AS large;
SELECT evstore._secret_is('nobody', 'value');
-- what is not as it was sealed: of another secret, changed, cut, of an unknown version
BEGIN;
INSERT INTO evstore.secret SELECT v.name, v.sealed, now(), now()
FROM evstore.secret AS s, LATERAL (VALUES ('moved', s.sealed), ('copied', s.sealed), ('text', set_byte(s.sealed, 20, get_byte(s.sealed, 20) # 1)), ('cut', substr(s.sealed, 1, 48)), ('nothing', ''),
	('version', set_byte(s.sealed, 0, 2))) AS v (name, sealed)
WHERE s.name = 'broker';
UPDATE evstore.secret AS s SET sealed = set_byte(s.sealed, n, get_byte(s.sealed, n) # 128) FROM (VALUES ('broker', 55), ('large', 1)) AS v (name, n) WHERE s.name = v.name;
CREATE FUNCTION error_of(name text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN evstore._secret_is(name, 'hunter2');
EXCEPTION WHEN object_not_in_prerequisite_state THEN
	RETURN SQLERRM;
END
$$;
SELECT name, error_of(name) FROM evstore.secret ORDER BY name;
SELECT evstore._secret_is('moved', 'hunter2');
ROLLBACK;

-- ---- dropping ----

SELECT evstore.drop_secret('nobody');
SELECT evstore.drop_secret(NULL);
SELECT evstore.drop_secret('large');
BEGIN;
INSERT INTO evstore.relay (id, owner, sink, options, trust_from, created_at, config) VALUES (1, 'owner', 'sink', '{}', 0, now(), '{"url": "broker", "auth": {"password": {"secret": "broker"}, "tokens": ["a", {"secret": "token"}]}, "name": "Ünicode ☃"}');
SELECT n AS name, evstore._secret_is_used(n) AS used FROM unnest('{broker,token,a,Ünicode ☃}'::text[]) AS n;
SELECT evstore.drop_secret('broker');
ROLLBACK;

-- ---- what is written down ----

SELECT action, detail FROM evstore.audit_log ORDER BY at;
SELECT attname FROM pg_attribute WHERE attrelid = 'evstore.secrets'::regclass AND attnum > 0 ORDER BY attnum;

-- ---- rights ----

CREATE ROLE regress_evstore_admin;
CREATE ROLE regress_evstore_writer;
SELECT evstore.grant_access('regress_evstore_admin', 'admin');
SELECT evstore.grant_access('regress_evstore_writer', 'writer');
SET ROLE regress_evstore_writer;
SELECT evstore.create_secret('mine', 'value');
SELECT evstore.alter_secret('broker', 'value');
SELECT evstore.drop_secret('broker');
SELECT * FROM evstore.secrets;
SELECT * FROM evstore.secret;
SET ROLE regress_evstore_admin;
SELECT evstore.create_secret('mine', 'value');
SELECT evstore.alter_secret('mine', 'other');
SELECT name FROM evstore.secrets ORDER BY name COLLATE "C";
SELECT * FROM evstore.secret;
SELECT evstore._secret_is('mine', 'other');
SELECT evstore._secret_version();
UPDATE evstore.secret SET name = 'x';
UPDATE evstore.secrets SET name = 'x';
SELECT evstore.drop_secret('mine');
RESET ROLE;

-- ---- transactions ----

BEGIN;
SELECT evstore.create_secret('gone', 'value');
ROLLBACK;
SELECT count(*) FROM evstore.secrets WHERE name = 'gone';
BEGIN READ ONLY;
SELECT evstore.create_secret('gone', 'value');
ROLLBACK;

-- ---- a value that cannot be UTF-8 is not told ----

\c :main
CREATE DATABASE evstore_secret_ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0;
\c evstore_secret_ascii
CREATE EXTENSION evstore;
SELECT evstore.create_secret('a', E'secr\344t');

\c :main
DROP DATABASE evstore_secret;
DROP DATABASE evstore_secret_ascii;
DROP ROLE regress_evstore_admin, regress_evstore_writer;
