-- Delivery over random histories.  A model knows which events have been given,
-- acknowledged, parked and discarded; after each step it is compared with what
-- evstore says is done, and with the rules of delivery:
--   done      only what was given and acknowledged, skipped or discarded; all of it
--   parked    only by what parks, and only until replayed or discarded
--   I8        a checkpoint passes nothing that is neither done nor parked, stays
--             behind nothing else, and does not go back
--   order     no event is given while an earlier one of its key is to be done,
--             unless that comes first in the same fetch; nor, with block_key, while
--             an earlier one is parked
-- and in the end everything is done, once what was parked has been discarded.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;
LOAD 'evstore';
-- The views have many small parts, which cost more to compile than to run.
SET jit = off;

CREATE TABLE event (position bigint PRIMARY KEY, slot int, key text, done boolean NOT NULL DEFAULT false, parked boolean NOT NULL DEFAULT false);
-- What has been given with the present claim.  nacked: to be given again before it
-- can be acknowledged; blocked: an earlier one of its key has failed since.
CREATE TABLE given (slot int, epoch bigint, position bigint, nacked boolean NOT NULL DEFAULT false, blocked boolean NOT NULL DEFAULT false, PRIMARY KEY (slot, position));
CREATE TABLE checkpoint (slot int PRIMARY KEY, checkpoint bigint NOT NULL DEFAULT 0);
CREATE TABLE log (n int, step text);
CREATE TABLE broken (run text, n int, step text, what text);
CREATE TABLE tally (run text, what text, n bigint);

CREATE FUNCTION pick(VARIADIC choices text[]) RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT choices[1 + floor(random() * cardinality(choices))::int] $$;
CREATE FUNCTION later(by interval) RETURNS void LANGUAGE sql AS $$ SELECT set_config('evstore.now_override', (evstore._now() + by)::text, false) $$;
CREATE FUNCTION policy() RETURNS text LANGUAGE sql AS $$ SELECT on_failure FROM evstore.subscription $$;
CREATE VIEW slot AS SELECT t.* FROM evstore.subscription_slots AS t;
-- What evstore takes for done.
CREATE VIEW really_done AS
SELECT e.position FROM event AS e JOIN slot AS t USING (slot) LEFT JOIN evstore.failed_event AS f USING (position)
WHERE CASE WHEN f.position IS NULL THEN e.position <= t.cursor ELSE f.state = 'done' END;

-- After a step: must be done now, may be done now, may be parked now.
CREATE FUNCTION compare(run text, n int, step text, must bigint[], may bigint[], may_park bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	now_done bigint[] := ARRAY(SELECT position FROM really_done EXCEPT SELECT position FROM event WHERE done ORDER BY 1);
	now_parked bigint[] := ARRAY(SELECT position FROM evstore.parked_events EXCEPT SELECT position FROM event WHERE parked ORDER BY 1);
BEGIN
	INSERT INTO log VALUES (n, step);
	INSERT INTO broken
	SELECT run, n, step, format('done is %s, must be %s, may be %s', now_done, must, may) WHERE NOT (now_done @> must AND must || may @> now_done)
	UNION ALL
	SELECT run, n, step, 'done no longer: ' || position FROM (SELECT position FROM event WHERE done AND slot >= 0 EXCEPT SELECT position FROM really_done) AS d
	UNION ALL
	SELECT run, n, step, format('parked is %s, may be %s', now_parked, may_park) WHERE NOT may_park @> now_parked
	UNION ALL
	SELECT run, n, step, 'parked no longer: ' || position FROM (SELECT position FROM event WHERE parked AND NOT position = ANY (now_done) EXCEPT SELECT position FROM evstore.parked_events) AS d;
	UPDATE event SET done = true, parked = false WHERE position = ANY (now_done);
	UPDATE event SET parked = true WHERE position = ANY (now_parked);
	INSERT INTO broken
	SELECT run, n, step, format('I8: slot %s goes from %s back to %s', slot, c.checkpoint, t.checkpoint) FROM slot AS t JOIN checkpoint AS c USING (slot) WHERE t.checkpoint < c.checkpoint
	UNION ALL
	SELECT run, n, step, format('I8: slot %s passes %s', slot, e.position) FROM slot AS t JOIN checkpoint AS c USING (slot) JOIN event AS e USING (slot)
	WHERE e.position > c.checkpoint AND e.position <= t.checkpoint AND NOT e.done AND NOT e.parked
	UNION ALL
	SELECT run, n, step, format('I8: slot %s stays at %s of %s', slot, t.checkpoint, t.cursor) FROM slot AS t
	WHERE t.checkpoint < LEAST(t.cursor, (SELECT min(e.position) - 1 FROM event AS e LEFT JOIN evstore.failed_event AS f USING (position)
		WHERE e.slot = t.slot AND NOT e.done AND NOT e.parked AND f.replayed IS NOT TRUE));
	UPDATE checkpoint AS c SET checkpoint = t.checkpoint FROM slot AS t WHERE t.slot = c.slot;
	DELETE FROM given AS g USING slot AS t WHERE t.slot = g.slot AND (t.epoch <> g.epoch OR t.consumer IS NULL);
	DELETE FROM given WHERE position IN (SELECT position FROM event WHERE done);
	UPDATE given AS g SET nacked = true FROM evstore.failed_event AS f WHERE f.position = g.position AND (f.state IN ('waiting', 'parked') OR f.retry_at > evstore._now());
END $$;

CREATE FUNCTION do_append() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 1 + floor(random() * 4)::int LOOP
		PERFORM evstore.append('key-' || floor(random() * 6), 'T');
	END LOOP;
END $$;
CREATE FUNCTION learn(sub text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO event (position, slot, key)
	SELECT e.at_position, c.slot, e.key FROM checkpoint AS c, evstore._slot_events(sub, c.slot, COALESCE((SELECT max(position) FROM event), 0), evstore.safe_position()) AS e $$;

CREATE FUNCTION do_fetch(run text, n int, sub text, consumer text, max_count int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	count int;
BEGIN
	CREATE TEMP TABLE IF NOT EXISTS got (ord bigint, slot int, epoch bigint, attempt int, position bigint);
	TRUNCATE got;
	INSERT INTO got SELECT row_number() OVER (), f.slot, f.epoch, f.attempt, f.position FROM evstore.fetch(sub, consumer, max_count) AS f;
	GET DIAGNOSTICS count = ROW_COUNT;
	INSERT INTO tally SELECT run, 'parked poison', 1 FROM evstore.parked_events AS p JOIN event AS e USING (position) WHERE p.reason = 'poison' AND NOT e.parked;
	-- what was parked by this fetch is not in the way
	UPDATE event SET parked = true WHERE position IN (SELECT p.position FROM evstore.parked_events AS p WHERE p.reason = 'poison' OR (p.reason = 'behind' AND policy() = 'park_key'));
	INSERT INTO broken
	SELECT run, n, 'fetch', format('given though %s: %s', CASE WHEN e.done THEN 'done' WHEN e.parked THEN 'parked' ELSE 'of another slot' END, g.position)
	FROM got AS g JOIN event AS e USING (position) WHERE e.done OR e.parked OR e.slot <> g.slot
	UNION ALL
	SELECT run, n, 'fetch', format('order: %s is given before %s', g.position, d.position)
	FROM got AS g JOIN event AS e USING (position) JOIN event AS d ON d.key = e.key AND d.position < e.position
	WHERE policy() <> 'skip' AND NOT d.done AND (NOT d.parked OR policy() = 'block_key') AND NOT EXISTS (SELECT FROM got AS o WHERE o.position = d.position AND o.ord < g.ord)
	UNION ALL
	SELECT run, n, 'fetch', 'given twice: ' || position FROM got GROUP BY position HAVING count(*) > 1
	UNION ALL
	SELECT run, n, 'fetch', format('more than %s', max_count) WHERE count > max_count;
	DELETE FROM given AS g USING slot AS t WHERE t.slot = g.slot AND t.epoch <> g.epoch;
	INSERT INTO given (slot, epoch, position) SELECT g.slot, g.epoch, g.position FROM got AS g
	ON CONFLICT (slot, position) DO UPDATE SET nacked = false, blocked = false;
	PERFORM compare(run, n, format('fetch by %s: %s', consumer, (SELECT string_agg(position::text, ' ' ORDER BY g.ord) FROM got AS g)), '{}', '{}',
		ARRAY(SELECT position FROM evstore.parked_events WHERE reason = 'poison' OR (reason = 'behind' AND policy() = 'park_key')));
	RETURN count;
END $$;

CREATE FUNCTION do_ack(run text, n int, sub text, s int, up_to bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	must bigint[] := ARRAY(SELECT position FROM given WHERE slot = s AND position <= up_to AND NOT nacked AND NOT blocked);
	may bigint[] := ARRAY(SELECT position FROM given WHERE slot = s AND position <= up_to AND NOT nacked);
BEGIN
	PERFORM evstore.ack(sub, s, (SELECT max(epoch) FROM given WHERE slot = s), up_to);
	PERFORM compare(run, n, format('ack %s of slot %s', up_to, s), must, may, ARRAY(SELECT position FROM evstore.parked_events WHERE reason = 'behind' AND policy() = 'park_key'));
END $$;

CREATE FUNCTION do_ack_events(run text, n int, sub text, s int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	chosen bigint[] := ARRAY(SELECT position FROM (SELECT position FROM given WHERE slot = s AND NOT nacked AND NOT blocked ORDER BY position OFFSET 0) AS g WHERE random() < 0.6);
	known bigint[] := ARRAY(SELECT position FROM evstore.failed_event);
BEGIN
	PERFORM evstore.ack_events(sub, s, (SELECT max(epoch) FROM given WHERE slot = s), chosen);
	UPDATE given SET nacked = true WHERE slot = s AND position < (SELECT max(c) FROM unnest(chosen) AS c) AND NOT position = ANY (chosen) AND NOT position = ANY (known);
	UPDATE given AS g SET blocked = true FROM event AS e
	WHERE e.position = g.position AND policy() <> 'skip' AND EXISTS (SELECT FROM given AS f JOIN event AS b USING (position) WHERE f.nacked AND b.key = e.key AND b.position < e.position);
	PERFORM compare(run, n, format('ack_events %s of slot %s', chosen, s), chosen, chosen, ARRAY(SELECT position FROM evstore.parked_events WHERE reason = 'behind' AND policy() = 'park_key'));
END $$;

CREATE FUNCTION do_nack(run text, n int, sub text, p bigint, action text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	g given := (SELECT x FROM given AS x WHERE position = p);
	k text := (SELECT key FROM event WHERE position = p);
BEGIN
	PERFORM evstore.nack(sub, g.slot, g.epoch, p, 'failed', action);
	IF action <> 'skip' AND EXISTS (SELECT FROM evstore.failed_event WHERE position = p) THEN
		UPDATE given SET nacked = true WHERE position = p;
		UPDATE given SET blocked = true FROM event AS e WHERE e.position = given.position AND e.key = k AND e.position > p AND policy() <> 'skip';
	END IF;
	IF action = 'bisect' THEN
		-- what had been given again has to be once more
		UPDATE given SET nacked = true WHERE slot = g.slot AND position <= p AND position IN (SELECT f.position FROM evstore.failed_event AS f);
	END IF;
	PERFORM compare(run, n, format('nack %s %s', p, action), CASE action WHEN 'skip' THEN ARRAY[p] ELSE '{}' END, '{}',
		CASE action WHEN 'skip' THEN '{}' WHEN 'bisect' THEN ARRAY(SELECT position FROM evstore.parked_events WHERE reason IN ('max_attempts', 'behind'))
			ELSE p || ARRAY(SELECT position FROM event WHERE key = k AND position > p AND policy() = 'park_key') END);
END $$;

-- All that is parked, of one key, or the first one of a key.
CREATE FUNCTION do_parked(run text, n int, sub text, how text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	k text := CASE WHEN random() < 0.8 THEN pick(VARIADIC ARRAY(SELECT key FROM event WHERE parked ORDER BY position)) END;
	p bigint := CASE WHEN random() < 0.5 THEN (SELECT min(position) FROM event WHERE parked AND key = k) END;
	chosen bigint[] := ARRAY(SELECT position FROM event WHERE parked AND (k IS NULL OR key = k) AND (p IS NULL OR position = p));
	said int;
BEGIN
	IF how = 'replay' THEN
		said := evstore.replay_parked(sub, p, k);
		UPDATE event SET parked = false WHERE position = ANY (chosen);
		PERFORM compare(run, n, format('replay %s', chosen), '{}', '{}', '{}');
	ELSE
		said := evstore.discard_parked(sub, p, k);
		PERFORM compare(run, n, format('discard %s', chosen), chosen, '{}', '{}');
	END IF;
	INSERT INTO broken SELECT run, n, how, format('says %s, not %s', said, cardinality(chosen)) WHERE said <> cardinality(chosen);
END $$;

-- Fetch and acknowledge until nothing is left that can be given.
CREATE PROCEDURE drain(run text, sub text) LANGUAGE plpgsql AS $$
DECLARE
	idle int := 0;
	n int := 10000;
	s int;
BEGIN
	PERFORM evstore.release(sub, c) FROM unnest('{a,b,c,z}'::text[]) AS c;
	PERFORM compare(run, n, 'release all', '{}', '{}', '{}');
	COMMIT;
	WHILE idle < 4 AND n < 11000 LOOP
		n := n + 1;
		PERFORM later('10 min');
		IF do_fetch(run, n, sub, 'z', 50) = 0 THEN
			idle := idle + 1;
		ELSE
			idle := 0;
			FOR s IN SELECT slot FROM checkpoint LOOP
				IF EXISTS (SELECT FROM given WHERE slot = s) THEN
					PERFORM do_ack(run, n, sub, s, (SELECT max(position) FROM given WHERE slot = s));
				END IF;
			END LOOP;
		END IF;
		COMMIT;
	END LOOP;
	INSERT INTO broken SELECT run, n, 'drain', 'does not end' WHERE n >= 11000;
END $$;

CREATE PROCEDURE history(run text, seed float8, steps int, slots int, policy text, attempts int) LANGUAGE plpgsql AS $$
DECLARE
	sub text := 'sub ' || run;
	s int;
	p bigint;
	r float8;
	action text;
BEGIN
	TRUNCATE event, given, checkpoint, log;
	PERFORM setseed(seed);
	PERFORM evstore.create_subscription(sub, slots => slots, start => 'end',
		options => jsonb_build_object('on_failure', policy, 'lease', 30, 'retry', jsonb_build_object('max_attempts', attempts, 'initial', 5, 'max', 60)));
	INSERT INTO checkpoint SELECT t.slot, t.checkpoint FROM slot AS t;
	INSERT INTO event (position, slot, done) SELECT evstore.safe_position(), -1, true;
	COMMIT;
	FOR i IN 1 .. steps LOOP
		r := random();
		p := pick(VARIADIC ARRAY(SELECT position::text FROM given WHERE NOT nacked AND NOT blocked ORDER BY position));
		s := (SELECT slot FROM given WHERE position = p);
		IF r < 0.18 THEN
			PERFORM do_append();
			COMMIT;
			PERFORM learn(sub);
		ELSIF r < 0.45 THEN
			PERFORM do_fetch(run, i, sub, pick('a', 'a', 'b', 'c'), 1 + floor(random() * CASE attempts WHEN 1 THEN 2 ELSE 12 END)::int);
		ELSIF r < 0.63 AND s IS NOT NULL THEN
			PERFORM do_ack(run, i, sub, s, p);
		ELSIF r < 0.68 AND s IS NOT NULL THEN
			PERFORM do_ack_events(run, i, sub, s);
		ELSIF r < 0.83 AND s IS NOT NULL THEN
			action := pick('retry', 'retry', 'retry', 'park', 'skip', 'bisect');
			IF action = 'bisect' THEN
				p := (SELECT max(position) FROM given WHERE slot = s);
			END IF;
			PERFORM do_nack(run, i, sub, p, action);
		ELSIF r < 0.86 THEN
			PERFORM later(make_interval(secs => 1 + floor(random() * 10)));
		ELSIF r < 0.93 THEN
			PERFORM later('40 s');
		ELSIF r < 0.955 THEN
			PERFORM do_parked(run, i, sub, 'replay');
		ELSIF r < 0.975 THEN
			PERFORM do_parked(run, i, sub, 'discard');
		ELSIF r < 0.985 THEN
			PERFORM evstore.release(sub, pick('a', 'b', 'c'));
			PERFORM compare(run, i, 'release', '{}', '{}', '{}');
		END IF;
		COMMIT;
	END LOOP;
	INSERT INTO tally SELECT run, left(step, 6), count(*) FROM log GROUP BY 1, 2;
	INSERT INTO tally SELECT run, 'parked ' || reason, count(*) FROM evstore.parked_events GROUP BY 2;
	INSERT INTO tally SELECT run, 'events', count(*) FROM event;

	CALL drain(run, sub);
	INSERT INTO broken SELECT run, 20000, 'drained', format('%s is left', e.position) FROM event AS e
	WHERE NOT e.done AND NOT e.parked AND NOT (policy = 'block_key' AND EXISTS (SELECT FROM event AS b WHERE b.key = e.key AND b.position < e.position AND b.parked));
	PERFORM evstore.discard_parked(sub);
	PERFORM compare(run, 20001, 'discard all', ARRAY(SELECT position FROM event WHERE parked), '{}', '{}');
	COMMIT;
	CALL drain(run, sub);
	INSERT INTO broken SELECT run, 20002, 'in the end', format('%s is left', position) FROM event WHERE NOT done
	UNION ALL SELECT run, 20002, 'in the end', format('slot %s is at %s', t.slot, t.checkpoint) FROM slot AS t WHERE t.checkpoint < (SELECT max(position) FROM event AS e WHERE e.slot = t.slot)
	UNION ALL SELECT run, 20002, 'in the end', format('a row for %s', position) FROM evstore.failed_event
	UNION ALL SELECT run, 20002, 'in the end', format('a lag of %s', lag_events) FROM evstore.subscriptions WHERE lag_events <> 0;
	PERFORM evstore.drop_subscription(sub);
	COMMIT;
END $$;

SET evstore.now_override = '2030-01-01 00:00+00';
SELECT evstore.append('first-1', 'T') \g /dev/null
SELECT plan(15);

CALL history('block 1', 0.11, 200, 1, 'block_key', 3);
CALL history('block 2', 0.12, 200, 2, 'block_key', 4);
CALL history('block 4', 0.13, 250, 4, 'block_key', 1);
CALL history('park 1', 0.21, 200, 1, 'park_key', 3);
CALL history('park 3', 0.22, 200, 3, 'park_key', 4);
CALL history('park 4', 0.23, 250, 4, 'park_key', 2);
CALL history('skip 1', 0.31, 200, 1, 'skip', 3);
CALL history('skip 2', 0.32, 200, 2, 'skip', 4);
CALL history('skip 4', 0.33, 250, 4, 'skip', 1);
SELECT is_empty(format('SELECT n, step, what FROM broken WHERE run = %L ORDER BY n LIMIT 20', run), run) FROM unnest('{block 1,block 2,block 4,park 1,park 3,park 4,skip 1,skip 2,skip 4}'::text[]) AS run;

-- The histories were worth it.
SELECT cmp_ok((SELECT sum(n) FROM tally WHERE what = 'events'), '>', 300::numeric, 'events');
SELECT cmp_ok((SELECT count(*) FROM tally WHERE what = 'parked poison'), '>', 0::bigint, 'events that ended their consumers');
SELECT cmp_ok((SELECT count(*) FROM tally WHERE what = 'parked behind'), '>', 0::bigint, 'events parked behind others');
SELECT cmp_ok((SELECT count(*) FROM tally WHERE what = 'parked max_attempts'), '>', 0::bigint, 'events that failed too often');
SELECT cmp_ok((SELECT min(n) FROM tally WHERE what IN ('fetch ', 'nack 1', 'replay')), '>', 0::bigint, 'steps of all kinds');
SELECT is_empty('SELECT * FROM evstore.slot_state UNION ALL SELECT * FROM evstore.slot_state', 'nothing is left of dropped subscriptions');

SELECT finish();
