-- What becomes of events that fail: retries, parking, and what waits behind them.
\set main :DBNAME
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_delivery;
CREATE DATABASE evstore_delivery;
\c evstore_delivery
CREATE EXTENSION evstore;
LOAD 'evstore';
SET evstore.now_override = '2030-01-01 12:00+00';

-- What a statement comes to: its value, or SQLSTATE and message.
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE statement INTO result;
	RETURN 'ok ' || COALESCE(result, 'NULL');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
CREATE FUNCTION epoch(sub text, slot int DEFAULT 0) RETURNS bigint LANGUAGE sql AS
$$ SELECT t.epoch FROM evstore.subscription_slots t WHERE t.subscription = sub AND t.slot = epoch.slot $$;
CREATE FUNCTION later(by interval) RETURNS text LANGUAGE sql AS
$$ SELECT to_char(set_config('evstore.now_override', (evstore._now() + by)::text, false)::timestamptz AT TIME ZONE 'UTC', 'DD HH24:MI:SS') $$;
-- What is given; #n: for the nth time.
-- (To the consumer that has the slot.)
CREATE FUNCTION get(sub text, n bigint DEFAULT 100, consumer text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(f.position || CASE WHEN f.attempt > 1 THEN '#' || f.attempt ELSE '' END, ' ' ORDER BY f.n)
	FROM (SELECT *, row_number() OVER () AS n FROM evstore.fetch(sub, coalesce(consumer, (SELECT t.consumer FROM evstore.subscription_slots t WHERE t.subscription = sub AND t.claimed LIMIT 1), 'c'), n)) AS f $$;
-- The consumer that had it is gone; another one comes when its lease is over.
CREATE SEQUENCE consumers;
CREATE FUNCTION crash(sub text, n bigint DEFAULT 100) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM later('5 min');
	RETURN get(sub, n, 'c' || nextval('consumers'));
END $$;
CREATE FUNCTION ack(sub text, up_to bigint) RETURNS bigint LANGUAGE sql AS $$ SELECT evstore.ack(sub, 0, epoch(sub), up_to) $$;
CREATE FUNCTION ack_only(sub text, VARIADIC positions bigint[]) RETURNS bigint LANGUAGE sql AS $$ SELECT evstore.ack_events(sub, 0, epoch(sub), positions) $$;
CREATE FUNCTION nack(sub text, at bigint, action text DEFAULT 'retry', delay interval DEFAULT NULL) RETURNS bigint LANGUAGE sql AS
$$ SELECT evstore.nack(sub, 0, epoch(sub), at, 'no ' || at, action, delay) $$;
-- Where a subscription stands: cursor, checkpoint, and its failed events.
CREATE FUNCTION state(sub text) RETURNS text LANGUAGE sql AS $$
	SELECT format('%s/%s', t.cursor, t.checkpoint) || COALESCE(' ' || (SELECT string_agg(f.position || CASE f.state
			WHEN 'retry' THEN format(' in %s', extract(epoch FROM f.retry_at - evstore._now())::float8)
			WHEN 'waiting' THEN ' waits' ELSE ' ' || f.reason || COALESCE(' ' || f.behind, '') END
			|| CASE WHEN f.attempts > 0 THEN ' #' || f.attempts ELSE '' END, ', ' ORDER BY f.position)
		FROM evstore.failed_events f WHERE f.subscription = sub), '')
	FROM evstore.subscription_slots t WHERE t.subscription = sub $$;
CREATE FUNCTION make(sub text, policy text, retry jsonb DEFAULT '{}', filter jsonb DEFAULT '{"categories": ["key"]}', start text DEFAULT 'beginning') RETURNS bigint LANGUAGE sql AS
$$ SELECT evstore.create_subscription(sub, filter, start, options => jsonb_build_object('on_failure', policy, 'retry', '{"jitter": 0, "initial": 10, "max_attempts": 3}' || retry)) $$;

-- Events 1 to 12, of the keys a, b and c in turn: a has 1 4 7 10.
DO $$ BEGIN FOR i IN 1 .. 12 LOOP PERFORM evstore.append('key-' || substr('cab', i % 3 + 1, 1), 'T', jsonb_build_object('n', i)); END LOOP; END $$;
SELECT stream, string_agg(position::text, ' ' ORDER BY position) AS positions FROM evstore.events GROUP BY stream ORDER BY stream;

-- ---- one event fails, at the head, in the middle, at the end of a batch ----

CREATE TABLE history (sub text, n int GENERATED ALWAYS AS IDENTITY, step text, result text);
-- Until it is parked: three deliveries.
CREATE PROCEDURE fail(sub text, poison bigint) LANGUAGE plpgsql AS $$
DECLARE
	given text;
BEGIN
	FOR i IN 1 .. 3 LOOP
		given := get(sub);
		PERFORM nack(sub, poison);
		INSERT INTO history (sub, step, result) VALUES (sub, 'given', given), (sub, 'nack', state(sub));
		IF i = 1 THEN
			PERFORM ack(sub, 12);
			INSERT INTO history (sub, step, result) VALUES (sub, 'ack 12', state(sub));
		END IF;
		PERFORM later(r.retry_at - evstore._now() - interval '1 ms') FROM evstore.failed_events r WHERE r.subscription = sub AND r.state = 'retry';
		INSERT INTO history (sub, step, result) VALUES (sub, 'too early', get(sub));
		PERFORM later('1 ms');
	END LOOP;
	INSERT INTO history (sub, step, result) VALUES (sub, 'in the end', get(sub));
END $$;
SELECT make(policy || n, policy) FROM unnest('{block_key,park_key,skip}'::text[]) AS policy, unnest('{1,7,12}'::int[]) AS n;
CALL fail('block_key1', 1);
CALL fail('block_key7', 7);
CALL fail('block_key12', 12);
CALL fail('park_key1', 1);
CALL fail('park_key7', 7);
CALL fail('park_key12', 12);
CALL fail('skip1', 1);
CALL fail('skip7', 7);
CALL fail('skip12', 12);
SELECT sub, step, result FROM history ORDER BY n;
-- What comes later, of the keys a and b.
SELECT evstore.append_one('key-a', 'T'), evstore.append_one('key-b', 'T');
SELECT s, get(s), ack(s, 14), state(s), get(s) AS then FROM unnest('{block_key1,park_key1,skip1}'::text[]) AS s;

-- ---- replay, discard ----

-- The first one of the key: what waits, or is parked behind it, comes after it.
SELECT s, evstore.replay_parked(s, 1) AS replayed, state(s) FROM unnest('{block_key1,park_key1,skip1}'::text[]) AS s;
SELECT s, get(s, 2), ack(s, 1), state(s) FROM unnest('{block_key1,park_key1,skip1}'::text[]) AS s;
SELECT s, get(s), ack(s, 13), state(s) FROM unnest('{block_key1,park_key1,skip1}'::text[]) AS s;
-- The rest, in order; by key, and all.
SELECT evstore.replay_parked('park_key1', key => 'key-z') AS none, evstore.replay_parked('park_key1', key => 'key-a') AS some, state('park_key1');
SELECT get('park_key1', 1), nack('park_key1', 4), state('park_key1'), get('park_key1') AS nothing;
SELECT later('10 s'), get('park_key1', 1), ack('park_key1', 4), get('park_key1'), ack('park_key1', 13), state('park_key1');
SELECT evstore.replay_parked('park_key7'), state('park_key7'), get('park_key7', 1), ack('park_key7', 7), get('park_key7'), ack('park_key7', 14), state('park_key7');
-- A checkpoint does not go back for what was parked before it.
SELECT (SELECT checkpoint FROM evstore.subscription_slots WHERE subscription = 'block_key12') AS before, evstore.replay_parked('block_key12'), state('block_key12'), (SELECT replayed FROM evstore.failed_events WHERE subscription = 'block_key12');
-- Given up again, and discarded: what waited goes on.
SELECT get('block_key12'), nack('block_key12', 12, 'park'), state('block_key12');
SELECT evstore.discard_parked('block_key12', 12, reason => 'nobody needs it'), state('block_key12');
SELECT state('block_key7'), evstore.discard_parked('block_key7', key => 'key-a'), state('block_key7'), get('block_key7'), ack('block_key7', 14), state('block_key7');
SELECT evstore.discard_parked('park_key12'), evstore.discard_parked('skip7'), evstore.discard_parked('skip12', 12), state('skip12');
SELECT actor = session_user AS me, action, detail FROM evstore.audit WHERE action IN ('replay_parked', 'discard_parked') ORDER BY id;
SELECT count(evstore.drop_subscription(subscription)) FROM evstore.subscriptions;
SELECT count(*) AS left_behind FROM evstore.failed_event;

-- Edited and replayed: what is delivered is changed, the event is not.
SELECT make('e', 'block_key');
SELECT get('e', 4), nack('e', 4, 'park'), ack('e', 12), state('e');
SELECT evstore.replay_parked('e', 4, data => '{"n": "four"}');
SELECT f.position, f.data, f.attempt, e.data AS event FROM evstore.fetch('e', 'c') AS f JOIN evstore.events AS e USING (position);
SELECT position, state, data, edited FROM evstore.failed_events WHERE subscription = 'e' ORDER BY position;
-- It stays edited while it fails.
SELECT nack('e', 4, 'park');
SELECT position, reason, error, data, edited, stream, version, type, attempts FROM evstore.parked_events;
SELECT evstore.replay_parked('e', 4), (SELECT data FROM evstore.fetch('e', 'c', 1)), ack('e', 4), get('e'), ack('e', 12), state('e');
SELECT try($$SELECT evstore.replay_parked('e', 4, data => '1')$$);
SELECT evstore.drop_subscription('e');

-- Replayed before the checkpoint has come by: it does not pass what is undone.
SELECT make('r', 'skip');
SELECT get('r'), nack('r', 3, 'park'), evstore.replay_parked('r'), ack('r', 12), state('r');
SELECT get('r'), ack('r', 3), state('r');
SELECT evstore.drop_subscription('r');
SELECT make('r', 'park_key');
SELECT get('r'), nack('r', 2, delay => '1 hour'), nack('r', 6, 'park'), ack('r', 12), state('r');
SELECT evstore.replay_parked('r'), state('r');
SELECT get('r', 1), ack('r', 6), state('r');
SELECT later('1 hour'), get('r'), ack('r', 12), state('r'), get('r'), ack('r', 12), state('r');
SELECT evstore.drop_subscription('r');

-- ---- several events of a key fail in one batch ----

SELECT make(policy, policy) FROM unnest('{block_key,park_key,skip}'::text[]) AS policy;
-- The later one has the shorter delay, and waits nevertheless.
SELECT s, get(s), nack(s, 4, delay => '1 min'), nack(s, 7, delay => '1 s'), ack(s, 12), state(s) FROM unnest('{block_key,park_key,skip}'::text[]) AS s;
SELECT later('2 s'), s, get(s), ack(s, 12), state(s) FROM unnest('{block_key,park_key,skip}'::text[]) AS s;
SELECT later('1 min'), s, get(s), ack(s, 12), state(s) FROM unnest('{block_key,park_key,skip}'::text[]) AS s;
SELECT s, get(s), ack(s, 12), state(s) FROM unnest('{block_key,park_key,skip}'::text[]) AS s;
-- Behind one that is parked in the same batch.
SELECT s, evstore.seek(s, 'beginning'), get(s), nack(s, 4, 'park'), nack(s, 7), nack(s, 8), state(s), ack(s, 12), state(s) AS passed FROM unnest('{block_key,park_key,skip}'::text[]) AS s;
SELECT later('10 s'), s, get(s), ack(s, 14), state(s) FROM unnest('{block_key,park_key,skip}'::text[]) AS s;
-- The other way round: first the later one.
SELECT s, evstore.seek(s, 'beginning'), get(s), nack(s, 7), nack(s, 4), state(s), nack(s, 4, 'skip'), state(s) AS skipped, ack(s, 12), state(s) AS passed FROM unnest('{block_key,park_key,skip}'::text[]) AS s;
SELECT later('20 s'), s, get(s), ack(s, 12), state(s), get(s), ack(s, 12), state(s) FROM unnest('{block_key,park_key,skip}'::text[]) AS s;
-- What was passed over because its key waited is not acknowledged with what it waited for.
SELECT s, evstore.seek(s, 'beginning'), get(s, 3), nack(s, 2), ack(s, 3), later('10 s'), get(s), ack(s, 14), state(s), get(s) AS rest FROM unnest('{block_key,park_key,skip}'::text[]) AS s;
-- Nor when that is done, skipped or discarded before.
SELECT s, evstore.seek(s, 'beginning'), get(s, 3), nack(s, 2), ack(s, 3), later('10 s'), get(s, 4), ack(s, 2), state(s), ack(s, 7), state(s) AS passed, get(s, 4) FROM unnest('{block_key,park_key,skip}'::text[]) AS s;
SELECT s, evstore.seek(s, 'beginning'), get(s, 3), nack(s, 2), ack(s, 3), later('10 s'), get(s, 4), nack(s, 2, 'skip'), ack(s, 7), get(s, 4) FROM unnest('{block_key,park_key,skip}'::text[]) AS s;
SELECT s, evstore.seek(s, 'beginning'), get(s, 3), nack(s, 2, 'park'), ack(s, 3), get(s, 4), evstore.discard_parked(s), ack(s, 7), get(s, 4), state(s) FROM unnest('{block_key,park_key,skip}'::text[]) AS s;
SELECT s, evstore.seek(s, 'beginning'), get(s, 3), nack(s, 2, 'park'), ack(s, 3), get(s, 4), evstore.alter_subscription(s, options => '{"on_failure": "skip"}'), ack(s, 7), get(s, 4), state(s), evstore.alter_subscription(s, options => jsonb_build_object('on_failure', s)) FROM unnest('{block_key,park_key,skip}'::text[]) AS s;
-- Those before the one that failed have not failed: they are given again.
SELECT s, evstore.seek(s, 'beginning'), get(s), nack(s, 10), get(s), crash(s), ack(s, 5), state(s), get(s), ack(s, 13), state(s) AS passed FROM unnest('{block_key,park_key,skip}'::text[]) AS s;
-- An event that has a word of its own already: nothing is said twice.
SELECT s, evstore.seek(s, 'beginning'), get(s), nack(s, 4, 'park'), nack(s, 4), nack(s, 5, 'skip'), nack(s, 5), state(s), ack(s, 3), get(s) FROM unnest('{block_key,park_key,skip}'::text[]) AS s;

-- Who waits for events is told of one that is due, though nothing has passed it yet.
SELECT evstore.seek('block_key', 'end'), evstore.append_one('key-d', 'T');
SELECT get('block_key'), nack('block_key', 15), later('10 s');
SELECT clock_timestamp() AS began \gset
CALL evstore.wait_for_events('block_key', 120000);
SELECT get('block_key') AS given, clock_timestamp() - :'began' < interval '100 s' AS at_once;
CALL evstore.wait_for_events('block_key', 120000);
SELECT get('block_key'), ack('block_key', 15), clock_timestamp() - :'began' < interval '100 s' AS at_once;

-- ---- the policy is changed ----

SELECT evstore.seek('block_key', 'beginning'), get('block_key'), nack('block_key', 4, 'park'), nack('block_key', 5), ack('block_key', 12), state('block_key');
SELECT evstore.alter_subscription('block_key', options => '{"on_failure": "park_key"}'), state('block_key');
SELECT state('block_key');
SELECT evstore.alter_subscription('block_key', options => '{"on_failure": "skip"}');
SELECT state('block_key'), get('block_key'), ack('block_key', 12), state('block_key');
SELECT evstore.alter_subscription('block_key', options => '{"on_failure": "block_key"}');
SELECT state('block_key'), get('block_key', 3);
-- From skip: one failed event of a key waits for the other, and new ones for both.
SELECT evstore.seek('skip', 'beginning'), get('skip'), nack('skip', 4, delay => '1 min'), nack('skip', 7, delay => '1 s'), nack('skip', 5, 'park'), nack('skip', 8), ack('skip', 9), state('skip');
SELECT evstore.alter_subscription('skip', options => '{"on_failure": "block_key"}');
SELECT state('skip'), get('skip'), ack('skip', 14), state('skip');
SELECT later('1 min'), get('skip'), ack('skip', 14), get('skip'), ack('skip', 14), state('skip');
SELECT count(evstore.drop_subscription(subscription)) FROM evstore.subscriptions;

-- ---- ack_events ----

SELECT make(policy, policy) FROM unnest('{block_key,park_key,skip}'::text[]) AS policy;
SELECT s, get(s), ack_only(s, 1, 2, 3, 5, 8, 9, 10), state(s), get(s, 2), ack_only(s, 6), state(s) AS then FROM unnest('{block_key,park_key,skip}'::text[]) AS s;
SELECT s, get(s), ack(s, 7), state(s), evstore.ack_events(s, 0, epoch(s), '{}'), state(s) AS same FROM unnest('{block_key,park_key,skip}'::text[]) AS s;
-- With one that failed: it comes when it is due.
SELECT s, evstore.seek(s, 'beginning'), get(s), nack(s, 4), ack_only(s, 1, 2, 3, 5, 6, 4, 8, 9), state(s), get(s) FROM unnest('{block_key,park_key,skip}'::text[]) AS s;
SELECT count(evstore.drop_subscription(subscription)) FROM evstore.subscriptions;

-- ---- D6: 5 of 10 fails, the rest is acknowledged, another session comes ----

SELECT evstore.append_one('one-1', 'T', jsonb_build_object('n', n)) FROM generate_series(1, 10) AS n;
SELECT make('d6 ' || policy, policy, filter => '{"streams": ["one-1"]}') FROM unnest('{block_key,park_key,skip}'::text[]) AS policy;
SELECT policy, get('d6 ' || policy), nack('d6 ' || policy, 20), ack('d6 ' || policy, 25), state('d6 ' || policy) FROM unnest('{block_key,park_key,skip}'::text[]) AS policy;
\c
SET evstore.now_override = '2030-01-02 12:00+00';
SELECT policy, get('d6 ' || policy) FROM unnest('{block_key,park_key,skip}'::text[]) AS policy;
SELECT policy, ack('d6 ' || policy, 25), get('d6 ' || policy), ack('d6 ' || policy, 25), state('d6 ' || policy) FROM unnest('{block_key,park_key,skip}'::text[]) AS policy;
SELECT count(evstore.drop_subscription(subscription)) FROM evstore.subscriptions;

-- ---- back-off, age, attempts ----

SELECT make('b', 'skip', '{"initial": 2, "factor": 3, "max": 40, "max_attempts": 8}');
CREATE TABLE delays (n int GENERATED ALWAYS AS IDENTITY, seconds float8, attempts int);
CREATE PROCEDURE back_off() LANGUAGE plpgsql AS $$
BEGIN
	PERFORM get('b'), nack('b', 3), ack('b', 12);
	WHILE EXISTS (SELECT FROM evstore.failed_events WHERE state = 'retry') LOOP
		INSERT INTO delays (seconds, attempts) SELECT extract(epoch FROM retry_at - evstore._now()), attempts FROM evstore.failed_events;
		PERFORM later((SELECT retry_at - evstore._now() FROM evstore.failed_events));
		PERFORM get('b'), nack('b', 3);
	END LOOP;
END $$;
CALL back_off();
SELECT string_agg(seconds || ' #' || attempts, ', ' ORDER BY n) FROM delays;
SELECT state('b'), (SELECT last_error FROM evstore.subscriptions);
-- Jitter: between nothing and the full delay, repeatable with a seed.
SELECT evstore.alter_subscription('b', options => '{"retry": {"initial": 100, "max_attempts": 1000}}'), evstore.discard_parked('b');
SELECT evstore.seek('b', 'beginning'), get('b');
CREATE FUNCTION jitters() RETURNS float8[] LANGUAGE plpgsql AS $$
DECLARE
	result float8[];
BEGIN
	PERFORM setseed(0.25);
	FOR i IN 1 .. 12 LOOP
		PERFORM nack('b', i);
	END LOOP;
	SELECT array_agg(extract(epoch FROM retry_at - evstore._now()) / (100 * 2 ^ (attempts - 1)) ORDER BY position) INTO result FROM evstore.failed_events;
	RETURN result;
END $$;
SELECT jitters() AS jitters \gset
SELECT count(*), bool_and(j BETWEEN 0 AND 1) AS in_range, count(DISTINCT j) AS differ FROM unnest(:'jitters'::float8[]) AS j;
SELECT evstore.seek('b', 'beginning'), get('b');
SELECT jitters() = :'jitters' AS repeatable;
SELECT evstore.drop_subscription('b');
-- A delay of one's own; nonsense.
SELECT make('a', 'block_key', '{"max_age": "1 hour", "max_attempts": 100}');
SELECT get('a'), nack('a', 1, delay => '59 min'), ack('a', 12), state('a');
SELECT later('59 min'), get('a'), nack('a', 1, delay => '1 min'), state('a');
SELECT later('1 min'), get('a'), nack('a', 1), state('a');
-- Replayed, it has its time again.
SELECT later('1 day'), evstore.replay_parked('a'), get('a'), nack('a', 1), state('a');
SELECT delay, try(format('SELECT nack(''a'', 1, delay => %L)', delay)) FROM unnest('{0,-1 s}'::interval[]) AS delay;
-- One attempt only.
SELECT evstore.alter_subscription('a', options => '{"retry": "none"}'), evstore.seek('a', 'beginning'), get('a', 2), nack('a', 2), state('a');
SELECT evstore.drop_subscription('a');
-- Without an error, and with a long one.
SELECT make('a', 'block_key');
SELECT get('a', 2), evstore.nack('a', 0, epoch('a'), 1, action => 'park'), evstore.nack('a', 0, epoch('a'), 2, repeat('é', 100000), 'park');
SELECT position, length(error), error IS NULL AS none FROM evstore.parked_events ORDER BY position;
SELECT evstore.drop_subscription('a');

-- ---- consumers that end without a word ----

-- The first event of what they had is suspected: half the batch, until it is alone.
SELECT make('k', 'block_key', '{"max_attempts": 5}');
SELECT get('k'), crash('k'), crash('k'), crash('k'), state('k') AS "not yet", crash('k'), crash('k'), state('k') AS parked;
-- The key is blocked, the others go on; one at a time up to where the first batch ended.
SELECT get('k'), ack('k', 2), get('k'), ack('k', 3), get('k'), ack('k', 5), state('k');
SELECT get('k'), ack('k', 12), get('k'), ack('k', 14), get('k'), state('k');
SELECT position, key, attempts, reason, error FROM evstore.parked_events;
SELECT evstore.drop_subscription('k');
-- Getting on is a sign of life, and so is giving back; fetching again is no attempt.
SELECT make('k', 'skip');
SELECT get('k', 4), crash('k', 4), ack('k', 2), crash('k', 4), get('k', 4), get('k', 4), evstore.release('k', 'c' || currval('consumers')), get('k', 4);
SELECT attempts, batch_limit FROM evstore.subscription_slots;
SELECT evstore.drop_subscription('k');
-- A poison event in a hundred, found by crashes: each other one is done once.
DO $$ BEGIN FOR i IN 0 .. 99 LOOP PERFORM evstore.append('hundred-' || i % 7, 'T'); END LOOP; END $$;
CREATE TABLE done (sub text, position bigint);
-- The consumer works through what it gets, in one transaction; with the poison event it ends, or says that the batch failed.
CREATE FUNCTION work(sub text, poison bigint[], how text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	batch bigint[];
	turns int := 0;
	batches int[];
BEGIN
	WHILE turns < 200 LOOP
		turns := turns + 1;
		SELECT array_agg(f.position) INTO batch FROM evstore.fetch(sub, 'w' || CASE how WHEN 'crash' THEN turns ELSE 0 END) AS f;
		EXIT WHEN batch IS NULL;
		batches := batches || cardinality(batch);
		IF batch && poison THEN
			IF how = 'crash' THEN
				PERFORM later('5 min');
			ELSE
				PERFORM evstore.nack(sub, 0, epoch(sub), (SELECT max(p) FROM unnest(batch) AS p), 'batch failed', 'bisect');
			END IF;
		ELSE
			INSERT INTO done SELECT work.sub, p FROM unnest(batch) AS p;
			PERFORM ack(sub, (SELECT max(p) FROM unnest(batch) AS p)), evstore.release(sub, 'w' || turns);
		END IF;
	END LOOP;
	RETURN format('%s turns, first %s', turns, batches[1:9]);
END $$;
SELECT min(position) AS first, max(position) AS last, count(*) FROM evstore.events WHERE stream LIKE 'hundred-%';
SELECT min(position) AS h FROM evstore.events WHERE stream LIKE 'hundred-%' \gset
SELECT policy, how, make(policy || how, policy, '{"max_attempts": 4}', '{"categories": ["hundred"]}') FROM unnest('{block_key,park_key,skip}'::text[]) AS policy, unnest('{crash,bisect}'::text[]) AS how;
SELECT policy, how, work(policy || how, ARRAY[:h + 42], how) FROM unnest('{block_key,park_key,skip}'::text[]) AS policy, unnest('{crash,bisect}'::text[]) AS how ORDER BY how DESC, policy;
-- Bisected, it waits for its next attempts.
SELECT policy, later('1 min'), work(policy || 'bisect', ARRAY[:h + 42], 'bisect') FROM unnest('{block_key,park_key,skip}'::text[]) AS policy, generate_series(1, 3) ORDER BY policy;
SELECT sub, count(*), count(DISTINCT position), count(*) FILTER (WHERE position = :h + 42) AS poison,
	(SELECT string_agg(position - :h || ' ' || reason, ', ' ORDER BY position) FROM evstore.parked_events WHERE subscription = sub) AS parked,
	(SELECT string_agg(position - :h || ' ' || state, ', ' ORDER BY position) FROM evstore.failed_events WHERE subscription = sub AND state <> 'parked') AS pending,
	(SELECT string_agg(n::text, ' ' ORDER BY n) FROM generate_series(0, 99) AS n WHERE NOT EXISTS (SELECT FROM done d WHERE d.sub = done.sub AND d.position = :h + n)) AS not_done
FROM done GROUP BY sub ORDER BY sub;
-- Done with: all the others of its key.
SELECT subscription, evstore.discard_parked(subscription, :h + 42), evstore.replay_parked(subscription), work(subscription, '{}', 'bisect') FROM evstore.subscriptions ORDER BY subscription;
SELECT sub, count(*), count(DISTINCT position), bool_and(position <> :h + 42) AS without FROM done GROUP BY sub ORDER BY sub;
SELECT subscription, retrying, waiting, parked, checkpoint >= :h + 99 AS at_end FROM evstore.subscriptions ORDER BY subscription;
SELECT count(evstore.drop_subscription(subscription)) FROM evstore.subscriptions;
-- Among events that have failed before, the others are not to blame either.
SELECT make('due', 'skip', '{"max_attempts": 4}', '{"categories": ["hundred"]}');
SELECT count(nack('due', position, 'park')) FROM evstore.fetch('due', 'c') WHERE position < :h + 20;
SELECT ack('due', :h + 99) = :h + 99 AS acknowledged, evstore.replay_parked('due'), evstore.release('due', 'c');
DELETE FROM done;
SELECT work('due', ARRAY[:h + 11], 'crash');
SELECT count(*), count(DISTINCT position), (SELECT string_agg(position - :h || ' ' || reason || ' #' || attempts, ', ') FROM evstore.parked_events) AS parked FROM done;
SELECT evstore.drop_subscription('due');
-- Given back, or moved to other slots, they have not been attempted.
SELECT make('due', 'skip', '{"max_attempts": 1}');
SELECT get('due'), nack('due', 3, 'park'), ack('due', evstore.safe_position()) - :h - 99 AS behind, evstore.replay_parked('due'), get('due'), evstore.release('due', 'c'), get('due'), state('due');
SELECT evstore.alter_subscription('due', slots => 2);
SELECT get('due'), get('due');
SELECT position, attempts, state, (SELECT slots FROM evstore.subscriptions) FROM evstore.failed_events;
SELECT evstore.drop_subscription('due');
-- An event beyond the cursor has failed, and its key's head ends the consumer.
SELECT make(policy, policy, '{"max_attempts": 2}') FROM unnest('{block_key,park_key}'::text[]) AS policy;
SELECT s, get(s, 5), nack(s, 4), get(s, 5), crash(s, 1), crash(s, 1), crash(s, 1), state(s), ack(s, 3), state(s) AS then FROM unnest('{block_key,park_key}'::text[]) AS s;
SELECT count(evstore.drop_subscription(subscription)) FROM evstore.subscriptions;

-- ---- events that are gone ----

SELECT evstore.append_one('gone-' || n % 2, 'T') FROM generate_series(0, 5) AS n;
SELECT make('g', 'block_key', filter => '{"categories": ["gone"]}');
SELECT min(position) AS g FROM evstore.events WHERE stream LIKE 'gone-%' \gset
SELECT count(*), nack('g', :g), nack('g', :g + 1, 'park'), ack('g', :g + 5) - :g AS checkpoint FROM evstore.fetch('g', 'c');
SELECT evstore.delete_stream('gone-0');
SELECT later('10 s'), get('g');
SELECT cursor - :g AS cursor, checkpoint - :g AS checkpoint, retrying, waiting, parked FROM evstore.subscription_slots;
SELECT evstore.delete_stream('gone-1'), evstore.replay_parked('g'), get('g'), get('g');
SELECT cursor - :g AS cursor, checkpoint - :g AS checkpoint, retrying, waiting, parked FROM evstore.subscription_slots;
SELECT evstore.drop_subscription('g');

-- ---- seek, pause and other slots with failed events ----

SELECT make('s', 'block_key');
SELECT get('s'), nack('s', 2, 'park'), nack('s', 4), nack('s', 9, 'park'), ack('s', 12), state('s');
-- After the position they come again; what was parked before it stays so.
SELECT evstore.seek('s', '3'), state('s');
SELECT state('s'), get('s'), nack('s', 4), evstore.seek('s', '12'), state('s');
SELECT state('s'), get('s');
SELECT evstore.seek('s', 'beginning'), state('s');
SELECT state('s'), get('s'), nack('s', 1), nack('s', 5, 'park'), ack('s', 12), state('s');
-- Paused: what is due stays so.
SELECT later('10 s'), evstore.pause_subscription('s'), get('s');
SELECT evstore.resume_subscription('s'), get('s'), ack('s', 1), state('s');
-- Failed events go to their new slots.
SELECT evstore.alter_subscription('s', slots => 3), get('s'), ack('s', 14), state('s');
SELECT get('s'), get('s');
SELECT slots FROM evstore.subscriptions;
SELECT sum(parked) AS parked, sum(waiting) AS waiting, min(checkpoint) AS checkpoint, count(*) FROM evstore.subscription_slots;
SELECT evstore.replay_parked('s'), (SELECT string_agg(position::text, ' ' ORDER BY position) FROM evstore.fetch('s', 'c'));
SELECT count(evstore.ack('s', slot, epoch, up_to)) FROM (SELECT slot, epoch, max(position) AS up_to FROM evstore.fetch('s', 'c') GROUP BY slot, epoch) AS f;
SELECT string_agg(position::text, ' ' ORDER BY position) FROM evstore.fetch('s', 'c');
SELECT evstore.drop_subscription('s');
SELECT (SELECT count(*) FROM evstore.failed_event) AS failed, (SELECT count(*) FROM evstore.slot_state) AS states;

\c :main
DROP DATABASE evstore_delivery;
