-- A read model by a projection, and streams that another one writes.

\echo
\echo Projections

CREATE SCHEMA board;
CREATE TABLE board.route (flight text PRIMARY KEY, origin text NOT NULL);
CREATE TABLE board.airport (
	airport		text PRIMARY KEY,
	departures	bigint NOT NULL DEFAULT 0,
	minutes_out	bigint NOT NULL DEFAULT 0,
	arrivals	bigint NOT NULL DEFAULT 0,
	minutes_in	bigint NOT NULL DEFAULT 0
);

-- Tables are named without a schema: a rebuild has them found elsewhere.  This
-- first version forgets flights that come too early.
CREATE FUNCTION board.count_delay(e evstore.event) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	delay bigint := greatest((e.data ->> 'arrival_delay_minutes')::bigint, 0);
BEGIN
	IF e.type = 'FlightScheduled' THEN
		INSERT INTO route VALUES (e.stream, e.data ->> 'origin');
		RETURN;
	END IF;
	INSERT INTO airport (airport, departures, minutes_out)
	SELECT r.origin, 1, delay FROM route r WHERE r.flight = e.stream
	ON CONFLICT (airport) DO UPDATE
	SET departures = airport.departures + 1, minutes_out = airport.minutes_out + delay;
	INSERT INTO airport (airport, arrivals, minutes_in) VALUES (e.data ->> 'destination', 1, delay)
	ON CONFLICT (airport) DO UPDATE
	SET arrivals = airport.arrivals + 1, minutes_in = airport.minutes_in + delay;
END;
$$;

SELECT clock_timestamp() AS started \gset
SELECT evstore.create_projection('delays', 'board.count_delay(evstore.event)',
								 '{"categories": ["flight"], "types": ["FlightScheduled", "FlightArrived"]}',
								 options => '{"tables": ["route", "airport"]}') \g /dev/null
SELECT demo.check(evstore.wait_for_projection('delays', timeout => '2 minutes'),
				  'a worker has handled ' || demo.speed(40000, :'started'));

CREATE VIEW demo.airport_differs AS
SELECT FROM board.airport b
FULL JOIN demo.airport_by_rows r USING (airport)
WHERE (b.departures, b.minutes_out, b.arrivals, b.minutes_in) IS DISTINCT FROM
	(coalesce(r.departures, 0), coalesce(r.minutes_out, 0), coalesce(r.arrivals, 0), coalesce(r.minutes_in, 0));

SELECT demo.check((SELECT count(*) FROM demo.airport_differs) > 0
				  AND (SELECT sum(departures) = 20000 AND sum(arrivals) = 20000 FROM board.airport),
				  'every flight is counted once, but the handler forgets early arrivals')
FROM demo.airport_differs LIMIT 1;

-- More flights, for the time of the rebuild.
INSERT INTO flight_raw SELECT id + 20000, departed, delay, distance, origin, destination FROM flight_raw WHERE id <= 500;
