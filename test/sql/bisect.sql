-- nack() with action bisect: half of the batch next time, until one event is alone.
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_bisect;
CREATE DATABASE evstore_bisect;
\c evstore_bisect
CREATE EXTENSION evstore;
SELECT evstore.create_subscription('bisect', '{"categories": ["bisect_a", "bisect_b"]}',
	options => '{"retry": {"max_attempts": 2, "initial": 1000, "max": 1000, "jitter": 0}}') IS NOT NULL AS made;
SELECT version FROM evstore.append_events('bisect_a-1', '[{"type": "A"}, {"type": "A"}, {"type": "A"}, {"type": "A"}]');

CREATE TEMP VIEW batch AS SELECT * FROM evstore.fetch('bisect', 'c');
SELECT attempt, stream, version FROM batch;
SELECT slot, epoch, max(position) AS last FROM batch GROUP BY slot, epoch \gset
SELECT evstore.nack('bisect', :slot, :epoch, :last, 'boom', 'bisect') IS NOT NULL AS ok;
SELECT attempt, stream, version FROM batch;
SELECT max(position) AS last FROM batch \gset
SELECT evstore.nack('bisect', :slot, :epoch, :last, 'boom', 'bisect') IS NOT NULL AS ok;
SELECT attempt, stream, version FROM batch;
SELECT max(position) AS last FROM batch \gset
-- alone: now it is that event that failed
SELECT evstore.nack('bisect', :slot, :epoch, :last, 'boom', 'bisect') IS NOT NULL AS ok;
SELECT stream, version, state, attempts, error FROM evstore.failed_events WHERE subscription = 'bisect';

-- Events that wait for it have not been given, and do not count as part of a batch.
SELECT version FROM evstore.append('bisect_b-1', 'B');
SELECT attempt, stream, version FROM batch;
SELECT max(position) AS last FROM batch \gset
SELECT evstore.nack('bisect', :slot, :epoch, :last, 'bang', 'bisect') IS NOT NULL AS ok;
SELECT stream, version, state, attempts, error FROM evstore.failed_events WHERE subscription = 'bisect'
ORDER BY stream, version;
SELECT count(*) FROM batch;

-- An event that is given back has not failed once more.
SELECT evstore.create_subscription('back', '{"categories": ["bisect_a"]}') = 0 AS made;
SELECT slot, epoch, min(position) AS first FROM evstore.fetch('back', 'c', 1) GROUP BY slot, epoch \gset
SELECT evstore.nack('back', :slot, :epoch, :first, 'boom', delay => '0') IS NOT NULL AS ok;
SELECT evstore.ack('back', :slot, :epoch, :first) IS NOT NULL AS ok;
SELECT attempt, version FROM evstore.fetch('back', 'c', 1);
SELECT evstore.release('back', 'c');
SELECT count(*) FROM evstore.fetch('back', 'd', 0);
SELECT attempt, version FROM evstore.fetch('back', 'd', 1);

-- Events that are given again are bisected, too: one of twenty is the reason.
SELECT evstore.create_subscription('again', '{"stream_prefix": "bisect_again"}', options =>
	'{"on_failure": "skip", "retry": {"jitter": 0, "initial": 0, "max_attempts": 3}}');
SELECT count(evstore.append_one('bisect_again-' || i, 'T')) FROM generate_series(1, 20) AS i;
SELECT count(evstore.nack('again', f.slot, f.epoch, f.position, 'by hand', 'park')) AS parked FROM evstore.fetch('again', 'c') AS f;
SELECT evstore.ack('again', f.slot, f.epoch, evstore.safe_position()) > 0 AS passed
FROM (SELECT 0 AS slot, t.epoch FROM evstore.subscription_slots AS t WHERE t.subscription = 'again') AS f;
SELECT evstore.replay_parked('again');
CREATE TABLE batch_done (stream text);
DO $$
DECLARE
	b record;
	calls int := 0;
BEGIN
	LOOP
		SELECT max(f.slot) AS slot, max(f.epoch) AS epoch, max(f.position) AS last,
			bool_or(f.stream = 'bisect_again-7') AS fails, array_agg(f.stream) AS streams INTO b
		FROM evstore.fetch('again', 'c') AS f;
		EXIT WHEN b.last IS NULL;
		calls := calls + 1;
		ASSERT calls < 50;
		IF b.fails THEN
			PERFORM evstore.nack('again', b.slot, b.epoch, b.last, 'no', 'bisect');
		ELSE
			PERFORM evstore.ack('again', b.slot, b.epoch, b.last);
			INSERT INTO batch_done SELECT unnest(b.streams);
		END IF;
	END LOOP;
END
$$;
SELECT count(*) AS done, count(DISTINCT stream) AS streams FROM batch_done;
SELECT stream, reason, attempts FROM evstore.parked_events WHERE subscription = 'again';
SELECT evstore.drop_subscription('again');
DROP TABLE batch_done;

\c :main
DROP DATABASE evstore_bisect;
