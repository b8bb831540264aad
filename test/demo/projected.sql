-- After the rebuild, and the flights that were appended meanwhile.

SELECT demo.check(evstore.wait_for_projection('delays', timeout => '2 minutes')
				  AND NOT EXISTS (SELECT FROM demo.airport_differs),
				  format('%s airports, with %s flights that came during the rebuild: every figure is that of the plain table',
						 count(*), 500))
FROM demo.airport_by_rows;

SELECT demo.note(format('%s  %s departures, %s minutes late on average', airport, demo.figure(departures),
						round(minutes_out::numeric / departures, 1)))
FROM board.airport ORDER BY departures DESC LIMIT 3;

-- A handler that appends: what has arrived where, a stream for each airport.
CREATE FUNCTION board.record_arrival(e evstore.event) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evstore.append('airport-' || (e.data ->> 'destination'), 'ArrivalRecorded',
						   jsonb_build_object('minutes', e.data -> 'arrival_delay_minutes'));
END;
$$;
CREATE FUNCTION board.airport_state(state jsonb, e evstore.event) RETURNS jsonb
LANGUAGE sql STABLE AS $$
	SELECT jsonb_build_object('arrivals', (state ->> 'arrivals')::bigint + 1,
							  'minutes', (state ->> 'minutes')::bigint + (e.data ->> 'minutes')::bigint);
$$;

SELECT evstore.create_aggregate('airport', '{"arrivals": 0, "minutes": 0}', 'board.airport_state(jsonb,evstore.event)',
								options => '{"snapshot_every": 100}') \g /dev/null
SELECT clock_timestamp() AS started \gset
SELECT evstore.create_projection('arrivals', 'board.record_arrival(evstore.event)',
								 '{"categories": ["flight"], "types": ["FlightArrived"]}') \g /dev/null
SELECT demo.check(evstore.wait_for_projection('arrivals', timeout => '2 minutes'),
				  'a handler that appends a stream for each airport: ' || demo.speed(20500, :'started'));
SELECT demo.check(count(*) = 20500 AND count(DISTINCT r.causation_id) = 20500 AND count(c.event_id) = 20500,
				  'each of its events names the arrival that caused it')
FROM evstore.events AS r
LEFT JOIN evstore.events AS c ON c.event_id = r.causation_id AND c.type = 'FlightArrived'
WHERE r.type = 'ArrivalRecorded';

\echo
\echo Aggregates

SELECT evstore.wait_for_projection('$snapshots-airport', timeout => '2 minutes') \g /dev/null
SELECT 'airport-' || airport AS busiest FROM board.airport ORDER BY arrivals DESC LIMIT 1 \gset
SELECT demo.check(l.events_read < 100 AND l.snapshot_version IS NOT NULL
				  AND (l.state ->> 'arrivals')::bigint = a.arrivals AND (l.state ->> 'minutes')::bigint = a.minutes_in,
				  format('load_aggregate(%L): a snapshot at version %s and %s events after it; the same as the read model',
						 :'busiest', l.snapshot_version, l.events_read))
FROM evstore.load_aggregate(:'busiest') AS l, board.airport AS a
WHERE 'airport-' || a.airport = :'busiest';

-- The middle of the stream, by its version and by its time.
SELECT max(version) / 2 AS middle FROM evstore.read_stream(:'busiest') \gset
SELECT demo.check((v.state ->> 'arrivals')::bigint = :middle + 1
				  AND (v.state ->> 'minutes')::bigint = s.minutes AND t.state = v.state AND t.version = :middle,
				  format('as it was at version %s, and at that time: %s minutes late on average', v.version,
						 round((v.state ->> 'minutes')::numeric / (v.state ->> 'arrivals')::numeric, 2)))
FROM evstore.aggregate_at_version(:'busiest', :middle) AS v,
	 (SELECT sum((e.data ->> 'minutes')::bigint) AS minutes, max(e.recorded_at) AS recorded_at
	  FROM evstore.read_stream(:'busiest') AS e WHERE e.version <= :middle) AS s,
	 evstore.aggregate_at_time(:'busiest', s.recorded_at) AS t;
