-- What the store refuses, and what it lets a client repeat.

\echo
\echo Promises

SELECT concat_ws(E'\n',
	demo.check(code = 'VS001'
			   AND detail::jsonb ->> 'stream' = 'flight-1'
			   AND (detail::jsonb ->> 'expected')::bigint = 1
			   AND (detail::jsonb ->> 'actual')::bigint = 2,
			   'a writer with a stale version is refused, SQLSTATE ' || code),
	demo.note(message),
	demo.note(detail))
FROM demo.attempt($$
	SELECT * FROM evstore.append(stream => 'flight-1', type => 'FlightDiverted', data => '{}', expected_version => 1)
$$);

SELECT demo.check(code = 'VS001' AND (detail::jsonb ->> 'expected')::bigint = -1,
				  'a stream that exists is not created again, SQLSTATE ' || code)
FROM demo.attempt($$
	SELECT * FROM evstore.append(stream => 'flight-1', type => 'FlightScheduled', data => '{}',
								 expected_version => evstore.no_stream())
$$);

SELECT demo.check(evstore.stream_version('flight-1') = 2 AND count(*) = 60000,
				  'neither of them wrote anything')
FROM evstore.events;

-- A client that never saw the answer sends the same append again.
SELECT demo.check(again.version = 2 AND again.position = e.position,
				  format('append again with the same event id: the first result, version %s at position %s',
						 again.version, again.position))
FROM evstore.get_event(demo.event_id(20000, 2)) AS e,
	 flight_raw AS f,
	 evstore.append(
		stream => 'flight-20000',
		type => 'FlightArrived',
		data => demo.arrived(f),
		expected_version => 1,
		event_id => demo.event_id(20000, 2),
		correlation_id => demo.correlation(f),
		causation_id => demo.event_id(20000, 1),
		source => '/bts/on-time',
		tags => ARRAY['to:' || f.destination]) AS again
WHERE f.id = 20000;

SELECT clock_timestamp() AS started \gset
CALL demo.load_arrays(1, 2000, 0, 1);
SELECT demo.check(count(*) = 60000 AND max(e.position) = (SELECT f.position FROM evstore.get_event(demo.event_id(20000, 2)) AS f),
				  format('2,000 flights imported a second time: nothing is written (%s s)',
						 demo.seconds_since(:'started')))
FROM evstore.events AS e;

SELECT concat_ws(E'\n',
	demo.check(code = 'VS003', 'the same event id with other content is refused, SQLSTATE ' || code),
	demo.note(message))
FROM demo.attempt($$
	SELECT * FROM evstore.append(stream => 'flight-20000', type => 'FlightArrived',
								 data => '{"destination": "XXX", "arrival_delay_minutes": 0}',
								 event_id => demo.event_id(20000, 2))
$$);
