-- Relays: how they are defined, and what is refused.
\set main :DBNAME
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_relay;
DROP ROLE IF EXISTS regress_relay_owner, regress_relay_other, regress_relay_writer;
CREATE DATABASE evstore_relay;
\c evstore_relay
SET client_min_messages = warning;
CREATE EXTENSION evstore;
CREATE ROLE regress_relay_owner;
CREATE ROLE regress_relay_other;
CREATE ROLE regress_relay_writer;
SELECT evstore.grant_access('regress_relay_owner', 'admin');
SELECT evstore.grant_access('regress_relay_other', 'admin');
SELECT evstore.grant_access('regress_relay_writer', 'writer');

CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO PUBLIC;
CREATE FUNCTION app.same(e evstore.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT e.data $$;
CREATE FUNCTION app.private(e evstore.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT e.data $$;
REVOKE EXECUTE ON FUNCTION app.private FROM PUBLIC;
CREATE FUNCTION app.nothing(e evstore.event) RETURNS void LANGUAGE sql AS $$ $$;
CREATE FUNCTION app.many(e evstore.event) RETURNS SETOF jsonb LANGUAGE sql AS $$ SELECT e.data $$;
CREATE FUNCTION app.number(n int) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(n) $$;
CREATE PROCEDURE app.proc(e evstore.event) LANGUAGE sql AS $$ $$;
CREATE FUNCTION pg_temp.temporary(e evstore.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT e.data $$;

-- the code, the message and the path of an error; names of directories do not belong here
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	result text;
BEGIN
	EXECUTE command INTO result;
	RETURN 'ok ' || COALESCE(result, 'null');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN regexp_replace(format('%s %s%s', SQLSTATE, SQLERRM,
		CASE WHEN detail LIKE '{%' THEN ' ' || (detail::jsonb - 'reason')::text END), '/\S*/', '.../', 'g');
END $$;
CREATE FUNCTION try_options(options text) RETURNS text LANGUAGE sql AS $$
	SELECT try(format('SELECT evstore.create_relay(''x'', ''double'', options => %L)', options))
$$;

-- names
SELECT try($$SELECT evstore.create_relay(NULL, 'double')$$);
SELECT try($$SELECT evstore.create_relay('', 'double')$$);
SELECT try($$SELECT evstore.create_relay('$x', 'double')$$);
SELECT try(format('SELECT evstore.create_relay(%L, ''double'')', repeat('x', 52)));
SELECT try(format('SELECT evstore.create_relay(%L, ''double'')', repeat('ä', 26)));
SELECT try(format('SELECT evstore.create_relay(%L, ''double'')', repeat('x', 51)));
SELECT try(format('SELECT evstore.drop_relay(%L)', repeat('x', 51)));

-- sinks: a name is never a path
SELECT s, try(format('SELECT evstore.create_relay(''x'', %L)', s))
FROM unnest(ARRAY[NULL, '', '../x', 'x/../double', '/tmp/x', 'Double', 'double ', 'x.y', 'no_such_sink', repeat('x', 33)]) s;
SET evstore.sink_path = '/nowhere';
SELECT try($$SELECT evstore.create_relay('x', 'gated')$$);
SET evstore.sink_path = '/nowhere:$libdir';
SELECT try($$SELECT evstore.create_relay('x', 'gated')$$), try($$SELECT evstore.drop_relay('x')$$);
RESET evstore.sink_path;

-- configurations
SELECT c, try(format('SELECT evstore.create_relay(''x'', ''double'', %L)', c))
FROM unnest(ARRAY['[]', '"x"', '1', '{"nope": 1}', '{"delay": "1"}', '{"script": "x"}', '{"script": ["all:ok"]}',
	'{"secret": "plain"}', '{"record": {"secret": "x"}, "nope": {"secret": "x"}}', '{"a": {"b": [1, {"c": true}]}}',
	'{"misbehave": "x"}']) c;
SELECT length(try(format('SELECT evstore.create_relay(''x'', ''double'', %L)', jsonb_build_object(repeat('ä', 1000), 1)))) < 700 AS cut;
-- what cannot be opened is found when it is run
SELECT evstore.create_relay('closed', 'double', '{"fail_open": "not today"}');
SELECT try($$SELECT evstore.run_relay('closed')$$);
SELECT try($$SELECT evstore.test_relay('closed')$$);
SELECT evstore.drop_relay('closed');

-- filters and starts
SELECT try($$SELECT evstore.create_relay('x', 'double', filter => '{"nope": 1}')$$);
SELECT try($$SELECT evstore.create_relay('x', 'double', filter => '[]')$$);
SELECT s, try(format('SELECT evstore.create_relay(''x'', ''double'', start => %L)', s)) FROM unnest(ARRAY[NULL, '', 'now', '-1']) s;

-- options
SELECT o, try_options(o) FROM unnest(ARRAY['[]', '1', '{"nope": 1}',
	'{"key": 1}', '{"key": "$["}', '{"key": null}',
	'{"format": "xml"}', '{"format": 1}',
	'{"topic": 1}', '{"topic": ""}', '{"topic": "a{b"}', '{"topic": "{nope}"}', '{"topic": "a}b"}', '{"source": 1}', '{"source": ""}',
	'{"batch_size": 0}', '{"batch_size": 1.5}', '{"batch_size": "10"}', '{"batch_size": 100001}', '{"batch_size": 1e300}', '{"batch_size": null}',
	'{"batch_bytes": 1023}', '{"batch_wait": -1}', '{"batch_wait": "soon"}', '{"batch_wait": "61 seconds"}',
	'{"in_flight": 0}', '{"in_flight": 100001}', '{"timeout": 0}', '{"timeout": "2 hours"}', '{"timeout": [1]}', '{"timeout": null}',
	'{"metadata": 1}', '{"rate": 0}', '{"rate": "1"}', '{"rate": "x"}', '{"rate": 1e9}', '{"burst": 0}', '{"max_hops": 0}', '{"max_hops": 1001}',
	'{"max_age": 0}', '{"max_age": "2 years"}', '{"max_bytes": 0}', '{"max_bytes": 2e9}',
	'{"circuit": 1}', '{"circuit": {"nope": 1}}', '{"circuit": {"failures": 0}}', '{"circuit": {"open_for": 0}}', '{"circuit": {"max_open_for": "x"}}',
	'{"retry": 1}', '{"retry": "x"}', '{"retry": {"max_attempts": 0}}', '{"on_failure": "stop"}', '{"on_failure": 1}']) o;
SELECT o, try_options(format('{"transform": %s}', o)) FROM unnest(ARRAY['1', '"x"', '""', '"app.none(evstore.event)"', '"app.nothing(evstore.event)"',
	'"app.many(evstore.event)"', '"app.number(int)"', '"app.proc(evstore.event)"', '"pg_temp.temporary(evstore.event)"']) o;

-- all of them, as they are kept
SELECT evstore.create_relay('all', 'double', '{"delay": 0, "script": null}', '{"types": ["T"]}', '5', '{
	"key": "correlation", "format": "raw", "topic": "t.{stream}", "source": "urn:x", "batch_size": 7, "batch_bytes": 2048, "batch_wait": "10 ms",
	"in_flight": 3, "timeout": 2, "metadata": true, "rate": 0.5, "burst": 4, "max_hops": 2, "max_age": "1 day", "max_bytes": 1000,
	"circuit": {"failures": 2, "open_for": "1 s", "max_open_for": 60}, "retry": "none", "on_failure": "skip", "transform": "app.same(evstore.event)"}');
SELECT evstore.create_relay('none', 'gated', options => '{"topic": null, "source": null, "rate": null, "max_age": null, "max_bytes": null, "transform": null, "key": "none"}');
SELECT relay, state, sink, config, filter, key, transform, retry ->> 'max_attempts' AS attempts, on_failure, checkpoint FROM evstore.relays ORDER BY 1;
SELECT relay, o.key, o.value FROM evstore.relays r, jsonb_each(r.options) o ORDER BY 1, 2;
SELECT try($$SELECT evstore.create_relay('all', 'double')$$);
SELECT evstore.create_subscription('sub');
SELECT try($$SELECT evstore.create_relay('sub', 'double')$$);
SELECT try($$SELECT evstore.create_subscription('all')$$);

-- changes
SELECT try($$SELECT evstore.alter_relay(NULL)$$);
SELECT try($$SELECT evstore.alter_relay('nobody')$$);
SELECT try($$SELECT evstore.alter_relay('sub')$$);
SELECT try($$SELECT evstore.alter_relay('all', options => '{"key": "stream"}')$$);
SELECT try($$SELECT evstore.alter_relay('all', options => '{"key": "correlation", "lease": 1}')$$);
SELECT try($$SELECT evstore.alter_relay('all', config => '{"nope": 1}')$$);
SELECT try($$SELECT evstore.alter_relay('all', config => '[]')$$);
SELECT try($$SELECT evstore.alter_relay('all', filter => '1')$$);
SELECT try($$SELECT evstore.alter_relay('all', options => '1')$$);
SELECT try($$SELECT evstore.alter_relay('all', owner => 1)$$);
SELECT evstore.alter_relay('all', '{"delay": 1}', '{}', '{"key": "correlation", "transform": null, "rate": null, "retry": "kafka", "on_failure": "park_key"}');
SELECT config, filter, key, transform, options -> 'rate' AS rate, options ->> 'format' AS format, retry ->> 'max_attempts' AS attempts, on_failure
FROM evstore.relays WHERE relay = 'all';

-- whose relays may be changed, by whom, and what they may call
SET ROLE regress_relay_owner;
SELECT try($$SELECT evstore.create_relay('mine', 'double', options => '{"transform": "app.private(evstore.event)"}')$$);
SELECT evstore.create_relay('mine', 'double', options => '{"transform": "app.same(evstore.event)"}');
SELECT try($$SELECT evstore.alter_relay('all', config => '{}')$$);
SELECT try($$SELECT evstore.alter_relay('mine', owner => 'regress_relay_other')$$);
SET ROLE regress_relay_other;
SELECT try($$SELECT evstore.alter_relay('mine', config => '{}')$$);
SET ROLE regress_relay_writer;
SELECT try(c) FROM unnest(ARRAY[$$SELECT evstore.create_relay('x', 'double')$$, $$SELECT evstore.alter_relay('mine')$$,
	$$SELECT evstore.drop_relay('mine')$$, $$SELECT evstore.pause_relay('mine')$$, $$SELECT evstore.resume_relay('mine')$$,
	$$SELECT evstore.seek_relay('mine', 'end')$$, $$SELECT evstore.run_relay('mine')$$, $$SELECT evstore.test_relay('mine')$$,
	$$SELECT evstore.replay_parked_relay('mine')$$, $$SELECT count(*) FROM evstore.relays$$, $$SELECT count(*) FROM evstore.relay$$]) c;
SELECT try(c) FROM unnest(ARRAY[$$SELECT evstore._relay_note(1, 'x', NULL, 1, '{}', 1, 'x')$$, $$SELECT evstore._relay_fault(1)$$,
	$$SELECT evstore._relay_failed(1, 0, 1, 'x', 'park', NULL, 'x')$$, $$SELECT evstore._relay_create('x', 'y', 'double', '{}', '{}', 'end', '{}')$$,
	$$SELECT evstore._relay_alter('mine', 'postgres', NULL, NULL, NULL)$$, $$SELECT evstore._relay_check_sink('double', '{}', '{}')$$,
	$$SELECT evstore._check_topic('x')$$]) c;
RESET ROLE;
-- with the new owner's right to call the transform
SELECT evstore.alter_relay('mine', options => '{"transform": "app.private(evstore.event)"}', owner => 'postgres');
SELECT try($$SELECT evstore.alter_relay('mine', owner => 'regress_relay_owner')$$);
SELECT relay, owner, transform FROM evstore.relays WHERE relay = 'mine';

-- functions of subscriptions, and of relays
SELECT c, try(c) FROM unnest(ARRAY[$$SELECT evstore.drop_subscription('all')$$, $$SELECT evstore.alter_subscription('all')$$,
	$$SELECT evstore.pause_subscription('all')$$, $$SELECT evstore.resume_subscription('all')$$, $$SELECT evstore.seek('all', 'end')$$,
	$$SELECT count(*) FROM evstore.fetch('all', 'me')$$, $$SELECT evstore.drop_projection('all')$$,
	$$SELECT evstore.drop_relay('sub')$$, $$SELECT evstore.pause_relay('sub')$$, $$SELECT evstore.resume_relay('sub')$$,
	$$SELECT evstore.seek_relay('sub', 'end')$$, $$SELECT evstore.run_relay('sub')$$, $$SELECT evstore.test_relay('sub')$$,
	$$SELECT evstore.replay_parked_relay('sub')$$]) c;

-- running
SELECT c, try(c) FROM unnest(ARRAY[$$SELECT evstore.run_relay(NULL)$$, $$SELECT evstore.run_relay('nobody')$$, $$SELECT evstore.run_relay('all', 0)$$,
	$$SELECT evstore.test_relay(NULL)$$, $$SELECT evstore.test_relay('nobody')$$, $$SELECT evstore.test_relay('all', NULL)$$,
	$$SELECT evstore.test_relay('all', '0')$$, $$SELECT evstore.test_relay('all', '61 minutes')$$,
	$$SELECT evstore.seek_relay('all', NULL)$$, $$SELECT evstore.seek_relay('all', 'x')$$, $$SELECT evstore.seek_relay(NULL, 'end')$$,
	$$SELECT evstore.drop_relay('nobody')$$, $$SELECT evstore.pause_relay(NULL)$$]) c;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT evstore.run_relay('all');
ROLLBACK;
BEGIN READ ONLY;
SELECT evstore.run_relay('all');
ROLLBACK;
BEGIN;
SELECT version FROM evstore.append('a-1', 'T', '{}');
SELECT evstore.run_relay('all');
ROLLBACK;

-- dropped, with everything
SELECT evstore.drop_relay(relay) FROM (SELECT relay FROM evstore.relays ORDER BY 1) r;
SELECT (SELECT count(*) FROM evstore.relay) AS relays, (SELECT count(*) FROM evstore.relay_status) AS statuses,
	(SELECT count(*) FROM evstore.subscription) AS subscriptions, (SELECT count(*) FROM evstore.slot_state) AS slots;
SELECT detail ->> 'relay' AS relay, string_agg(action, ', ' ORDER BY action) AS actions, count(*)
FROM evstore.audit_log WHERE action LIKE '%relay' AND detail ->> 'relay' IN ('all', 'mine') GROUP BY 1 ORDER BY 1;

\c :main
SET client_min_messages = warning;
DROP DATABASE evstore_relay;
DROP ROLE regress_relay_owner, regress_relay_other, regress_relay_writer;
