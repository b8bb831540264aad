-- Every way to read.

\echo
\echo Read

SELECT demo.check(array_agg(e.version) = '{0,1,2}'
				  AND array_agg(e.type) = '{FlightScheduled,FlightDeparted,FlightArrived}',
				  'read_stream: the story of flight-1')
FROM evstore.read_stream('flight-1') AS e;

SELECT demo.note(format('%s  %s  %s', e.version, rpad(e.type, 15), e.data))
FROM evstore.read_stream('flight-1') AS e;

SELECT demo.check(array_agg(e.version) = '{2,1,0}', 'read_stream backward: versions 2, 1, 0')
FROM evstore.read_stream('flight-1', from_version => NULL, direction => 'backward') AS e;

SELECT demo.check(array_agg(e.version) = '{1,2}', 'read_stream from a version on: from_version is inclusive')
FROM evstore.read_stream('flight-1', from_version => 1) AS e;

SELECT demo.check(count(*) = 0 AND evstore.stream_version('flight-20001') = -1,
				  'a stream that does not exist reads empty, its version is -1')
FROM evstore.read_stream('flight-20001') AS e;

-- The order in which rows come, not one made by sorting them.
SELECT clock_timestamp() AS started \gset
SELECT demo.check(count(*) = 60000 AND bool_and(c.growing),
				  'read_category, in position order: ' || demo.speed(count(*), :'started'))
FROM (SELECT e.position > lag(e.position, 1, 0::bigint) OVER (ROWS UNBOUNDED PRECEDING) AS growing
	  FROM evstore.read_category('flight', 0, NULL) AS e) AS c;

-- What a consumer does: remember the last position, ask for what comes after
-- it, stop at an empty answer.
CREATE FUNCTION demo.follow(page integer, OUT events bigint, OUT pages bigint, OUT last bigint, OUT ordered boolean)
LANGUAGE plpgsql AS $$
DECLARE
	positions bigint[];
BEGIN
	events := 0;
	pages := 0;
	last := 0;
	ordered := true;
	LOOP
		SELECT array_agg(e.position) INTO positions
		FROM evstore.read_all(after => last, max_count => page) AS e;
		EXIT WHEN positions IS NULL;

		ordered := ordered AND positions[1] > last
			AND positions = ARRAY(SELECT DISTINCT p FROM unnest(positions) AS p ORDER BY p);
		events := events + cardinality(positions);
		pages := pages + 1;
		last := positions[cardinality(positions)];
	END LOOP;
END;
$$;

SELECT clock_timestamp() AS started \gset
SELECT demo.check(f.events = 60000 AND f.ordered AND f.pages = 60
				  AND f.last <= evstore.safe_position()
				  AND f.last = (SELECT max(e.position) FROM evstore.events AS e),
				  format('read_all, following a cursor through %s pages: %s',
						 f.pages, demo.speed(f.events, :'started')))
FROM demo.follow(1000) AS f;

SELECT demo.check(count(*) = 3 * (SELECT count(*) FROM flight_raw WHERE departed::date = '2001-01-01'),
				  format('read_correlation: %s events belong to the departures of 2001-01-01',
						 demo.figure(count(*))))
FROM evstore.read_correlation('departures-2001-01-01') AS e
WHERE e.correlation_id = 'departures-2001-01-01';

SELECT demo.check(count(*) = 2000,
				  format('%s departures have the time they occurred at, not the time of the import',
						 demo.figure(count(*))))
FROM flight_raw AS f
JOIN evstore.events AS e
  ON e.event_id = demo.event_id(f.id, 1) AND e.occurred_at = f.departed AT TIME ZONE 'UTC'
WHERE f.id > 18000;

SELECT demo.check(c.event ->> 'specversion' = '1.0'
				  AND c.event ->> 'id' = demo.event_id(20000, 1)::text
				  AND c.event ->> 'source' = '/bts/on-time'
				  AND c.event ->> 'subject' = 'flight-20000'
				  AND c.event ->> 'time' = '2001-03-31T22:27:00Z'
				  AND c.event -> 'data' = e.data,
				  'to_cloudevent: the same event for the world outside')
FROM evstore.get_event(demo.event_id(20000, 1)) AS e,
	 LATERAL (SELECT evstore.to_cloudevent(e)) AS c (event);

SELECT demo.note(evstore.to_cloudevent(e)::text)
FROM evstore.get_event(demo.event_id(20000, 1)) AS e;

\echo
\echo Views

SELECT demo.check(count(*) = 20000 AND count(*) FILTER (WHERE s.version = 2 AND s.category = 'flight') = 20000,
				  format('streams: %s, all of category flight and at version 2', demo.figure(count(*))))
FROM evstore.streams AS s;

SELECT demo.check(count(*) = 60000 AND count(DISTINCT e.event_id) = 60000
				  AND count(*) FILTER (WHERE e.version <> e.nth - 1) = 0,
				  'events: in every stream, versions are 0, 1, 2 in position order')
FROM (SELECT v.event_id, v.version, row_number() OVER (PARTITION BY v.stream ORDER BY v.position) AS nth
	  FROM evstore.events AS v) AS e;

SELECT demo.check(count(*) >= 3 AND bool_and(p.guarded),
				  format('partitions: the log has %s, all guarded against UPDATE and DELETE', count(*)))
FROM evstore.partitions AS p;

SELECT demo.note(format('%s  positions %s to %s, %s', rpad(p.partition::text, 15), p.first_position,
						p.last_position, pg_size_pretty(p.bytes)))
FROM evstore.partitions AS p
ORDER BY p.first_position;
