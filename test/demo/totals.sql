-- The figures of every airport, once from the events alone and once with plain
-- SQL from the raw table.  One different number or one missing row fails.

\echo
\echo Totals

CREATE VIEW demo.airport_by_events AS
WITH scheduled AS (
	SELECT stream, data ->> 'origin' AS origin, data ->> 'destination' AS destination,
		   (data ->> 'distance_miles')::bigint AS miles
	FROM evstore.events WHERE type = 'FlightScheduled'
), departed AS (
	SELECT stream, data ->> 'origin' AS origin
	FROM evstore.events WHERE type = 'FlightDeparted'
), arrived AS (
	SELECT stream, data ->> 'destination' AS destination,
		   (data ->> 'arrival_delay_minutes')::bigint AS delay
	FROM evstore.events WHERE type = 'FlightArrived'
), outbound AS (
	SELECT origin AS airport, count(*) AS departures, sum(a.delay) AS minutes, sum(s.miles) AS miles
	FROM departed
	LEFT JOIN scheduled AS s USING (stream, origin)
	LEFT JOIN arrived AS a USING (stream)
	GROUP BY origin
), inbound AS (
	SELECT destination AS airport, count(*) AS arrivals, sum(a.delay) AS minutes, sum(s.miles) AS miles
	FROM arrived AS a
	LEFT JOIN scheduled AS s USING (stream, destination)
	GROUP BY destination
)
SELECT airport, departures, outbound.minutes AS minutes_out, outbound.miles AS miles_out,
	   arrivals, inbound.minutes AS minutes_in, inbound.miles AS miles_in
FROM outbound FULL JOIN inbound USING (airport);

CREATE VIEW demo.airport_by_rows AS
WITH outbound AS (
	SELECT origin AS airport, count(*) AS departures, sum(delay) AS minutes, sum(distance) AS miles
	FROM flight_raw GROUP BY origin
), inbound AS (
	SELECT destination AS airport, count(*) AS arrivals, sum(delay) AS minutes, sum(distance) AS miles
	FROM flight_raw GROUP BY destination
)
SELECT airport, departures, outbound.minutes AS minutes_out, outbound.miles AS miles_out,
	   arrivals, inbound.minutes AS minutes_in, inbound.miles AS miles_in
FROM outbound FULL JOIN inbound USING (airport);

SELECT clock_timestamp() AS started \gset

CREATE TEMP TABLE by_events AS TABLE demo.airport_by_events;
CREATE TEMP TABLE by_rows AS TABLE demo.airport_by_rows;

CREATE TEMP VIEW difference AS
(SELECT 'events' AS from_the, * FROM (TABLE by_events EXCEPT ALL TABLE by_rows) AS e)
UNION ALL
(SELECT 'table', * FROM (TABLE by_rows EXCEPT ALL TABLE by_events) AS r);

SELECT demo.check((SELECT count(*) FROM by_events) = 224 AND (SELECT count(*) FROM by_rows) = 224
				  AND NOT EXISTS (SELECT FROM difference),
				  format('%s airports: departures, arrivals, delays and miles are the same (%s s)',
						 (SELECT count(*) FROM by_events), demo.seconds_since(:'started')));

SELECT demo.note('differs: ' || d::text)
FROM difference AS d ORDER BY d.airport, d.from_the;

SELECT demo.check(sum(departures) = 20000 AND sum(arrivals) = 20000
				  AND sum(minutes_out) = 154078 AND sum(minutes_in) = 154078
				  AND sum(miles_out) = 14476934 AND sum(miles_in) = 14476934,
				  format('together: %s departures, %s arrivals, %s minutes late, %s miles',
						 demo.figure(sum(departures)::bigint), demo.figure(sum(arrivals)::bigint),
						 demo.figure(sum(minutes_in)::bigint), demo.figure(sum(miles_in)::bigint)))
FROM by_events;

SELECT demo.note(format('%s  %s departures, %s arrivals, %s minutes late on average', airport,
						demo.figure(departures), demo.figure(arrivals), round(minutes_in / arrivals::numeric, 1)))
FROM by_events ORDER BY departures DESC NULLS LAST, airport LIMIT 3;

-- The other direction: the raw table, made again from the events.
CREATE TEMP TABLE rebuilt AS
SELECT (s.data ->> 'flight')::integer AS id,
	   (d.data ->> 'departed_local')::timestamp AS departed,
	   (a.data ->> 'arrival_delay_minutes')::integer AS delay,
	   (s.data ->> 'distance_miles')::integer AS distance,
	   d.data ->> 'origin' AS origin,
	   a.data ->> 'destination' AS destination
FROM evstore.events AS s
JOIN evstore.events AS d ON d.stream = s.stream AND d.type = 'FlightDeparted'
JOIN evstore.events AS a ON a.stream = s.stream AND a.type = 'FlightArrived'
WHERE s.type = 'FlightScheduled' AND s.stream = 'flight-' || (s.data ->> 'flight');

SELECT demo.check(NOT EXISTS (TABLE rebuilt EXCEPT ALL TABLE flight_raw)
				  AND NOT EXISTS (TABLE flight_raw EXCEPT ALL TABLE rebuilt),
				  format('the raw table made again from the events: all %s rows are equal',
						 demo.figure(count(*))))
FROM rebuilt;
