-- What waits behind a failed event of its key is given in the end, in order,
-- however the events around it are acknowledged.

CREATE EXTENSION evstore;
CREATE FUNCTION append(VARIADIC streams text[]) RETURNS bigint LANGUAGE sql AS
$$ SELECT count(evstore.append(s, 't')) FROM unnest(streams) s $$;
-- A consumer: "position/attempt stream" of what it is given, and its claim.
CREATE FUNCTION given(name text, max_count bigint DEFAULT 10) RETURNS text LANGUAGE sql AS
$$ SELECT string_agg(format('%s/%s %s', position, attempt, stream), ', ') FROM evstore.fetch(name, 'c', max_count) $$;
CREATE FUNCTION epoch(name text) RETURNS bigint LANGUAGE sql AS
$$ SELECT epoch FROM evstore.subscription_slots WHERE subscription = name $$;
CREATE FUNCTION failed(name text) RETURNS text LANGUAGE sql AS
$$ SELECT string_agg(format('%s %s', position, state), ', ' ORDER BY position) FROM evstore.failed_events WHERE subscription = name $$;

SELECT append('k', 'k', 'y', 'z', 'k');

-- the first of a key is done together with others, which were given with it
SELECT evstore.create_subscription('together');
SELECT given('together', 1);
SELECT evstore.nack('together', 0, epoch('together'), 1, delay => '0');
SELECT evstore.ack('together', 0, epoch('together'), 1);
SELECT given('together'), failed('together');
SELECT evstore.ack('together', 0, epoch('together'), 4), failed('together');
SELECT given('together');
SELECT evstore.ack('together', 0, epoch('together'), 4), failed('together');
SELECT given('together');
SELECT evstore.ack('together', 0, epoch('together'), 5), failed('together'), given('together');

-- one after the other
SELECT evstore.create_subscription('singly', options => '{"on_failure": "park_key"}');
SELECT given('singly', 1);
SELECT evstore.nack('singly', 0, epoch('singly'), 1, delay => '0');
SELECT evstore.ack('singly', 0, epoch('singly'), 1);
SELECT given('singly'), failed('singly');
SELECT evstore.ack('singly', 0, epoch('singly'), 1), failed('singly');
SELECT evstore.ack('singly', 0, epoch('singly'), 4), failed('singly');
SELECT given('singly');
SELECT evstore.ack('singly', 0, epoch('singly'), 4), given('singly');

-- the first is skipped before the cursor has passed it
SELECT evstore.create_subscription('skipped');
SELECT given('skipped', 1);
SELECT evstore.nack('skipped', 0, epoch('skipped'), 1);
SELECT given('skipped'), failed('skipped');
SELECT evstore.nack('skipped', 0, epoch('skipped'), 1, action => 'skip'), failed('skipped');
SELECT evstore.ack('skipped', 0, epoch('skipped'), 4), failed('skipped');
SELECT given('skipped');

-- two of a key fail, and the later one would be due first
SELECT evstore.create_subscription('later');
SELECT given('later');
SELECT evstore.nack('later', 0, epoch('later'), 1, delay => '1 hour');
SELECT evstore.nack('later', 0, epoch('later'), 2, delay => '0');
SELECT evstore.ack('later', 0, epoch('later'), 2), failed('later');
SELECT given('later');

-- a batch of failed events fails as one
SELECT evstore.create_subscription('batch', options => '{"retry": {"initial": 3600, "jitter": 0}}');
SELECT given('batch');
SELECT evstore.ack_events('batch', 0, epoch('batch'), '{3,4,5}'), failed('batch');
SELECT given('batch');
SELECT evstore.nack('batch', 0, epoch('batch'), 2, action => 'bisect'), failed('batch');

DROP FUNCTION append, given, epoch, failed;
DROP EXTENSION evstore CASCADE;
