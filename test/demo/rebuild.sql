-- The handler is mended, and everything is handled again, while the old table serves.

CREATE OR REPLACE FUNCTION board.count_delay(e evstore.event) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	delay bigint := (e.data ->> 'arrival_delay_minutes')::bigint;
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
SELECT evstore.rebuild_projection('delays') \g /dev/null

-- How often the table was read until the rebuild had ended, and whether it was ever
-- less than it had been.  A transaction each time: what reads the table for long
-- keeps it from being replaced.
CREATE PROCEDURE demo.watch(INOUT reads bigint, INOUT lost bigint)
LANGUAGE plpgsql AS $$
DECLARE
	before bigint := 0;
	flights bigint;
BEGIN
	LOOP
		SELECT sum(a.arrivals) INTO flights FROM board.airport a;
		reads := reads + 1;
		lost := lost + CASE WHEN flights < before THEN 1 ELSE 0 END;
		before := flights;
		COMMIT;
		EXIT WHEN NOT EXISTS (SELECT FROM evstore.projections p WHERE p.projection = 'delays' AND p.rebuild_state IS NOT NULL);
		COMMIT;
	END LOOP;
END;
$$;

SELECT clock_timestamp() AS started \gset
CALL demo.watch(0, 0) \gset
SELECT demo.check(:reads > 1 AND :lost = 0,
				  format('the handler is mended, and the table rebuilt in %s s: read %s times meanwhile, no flight was missing',
						 demo.seconds_since(:'started'), demo.figure(:reads)));
