-- A subscription that two consumers share, and what they do.

\echo
\echo Consume

SELECT evstore.start() AS nothing \gset
SELECT evstore.create_subscription('flights', '{"categories": ["flight"]}', slots => 4) = 0 AS made \gset

-- What the consumers produce.  Nothing here would stop an event from being done
-- twice: that is what is checked.
CREATE TABLE demo.done (
	number		bigint GENERATED ALWAYS AS IDENTITY,
	consumer	text NOT NULL,
	slot		integer NOT NULL,
	position	bigint NOT NULL,
	stream		text NOT NULL,
	version		bigint NOT NULL,
	miles		bigint
);

-- What a consumer had in its hands when it was killed.
CREATE TABLE demo.held (position bigint NOT NULL);

-- The work of a batch, and its acknowledgement, slot by slot.
CREATE FUNCTION demo.work(subscription text, who text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
	n	bigint;
BEGIN
	INSERT INTO demo.done (consumer, slot, position, stream, version, miles)
	SELECT who, b.slot, b.position, b.stream, b.version, (b.data ->> 'distance_miles')::bigint
	FROM batch AS b ORDER BY b.nth;
	GET DIAGNOSTICS n = ROW_COUNT;
	PERFORM evstore.ack(subscription, b.slot, b.epoch, max(b.position))
	FROM batch AS b GROUP BY b.slot, b.epoch ORDER BY b.slot;
	RETURN n;
END;
$$;

-- The next batch, into a table of the session.
CREATE FUNCTION demo.take(subscription text, who text, wait_ms bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
	n	bigint;
BEGIN
	CREATE TEMP TABLE IF NOT EXISTS batch (nth bigint, slot integer, epoch bigint, position bigint,
										   stream text, version bigint, data jsonb);
	TRUNCATE batch;
	INSERT INTO batch
	SELECT f.nth, f.slot, f.epoch, f.position, f.stream, f.version, f.data
	FROM evstore.fetch(subscription, who, 500, wait_ms) WITH ORDINALITY AS
		 f (slot, epoch, attempt, position, stream, version, event_id, type, schema_version, data, metadata,
			correlation_id, causation_id, source, occurred_at, recorded_at, tags, nth);
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END;
$$;

-- A consumer as a procedure: until so many events are done, by whomever.
CREATE PROCEDURE demo.consume(subscription text, who text, until bigint)
LANGUAGE plpgsql AS $$
BEGIN
	LOOP
		PERFORM demo.take(subscription, who, 1000);
		COMMIT;
		PERFORM demo.work(subscription, who);
		COMMIT;
		EXIT WHEN (SELECT count(*) FROM demo.done) >= until;
	END LOOP;
	PERFORM evstore.release(subscription, who);
END;
$$;
