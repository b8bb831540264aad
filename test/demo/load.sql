-- How a flight becomes three events, and three ways to append them.

-- The totals of the file, as test/data/README.md has them.
SELECT demo.check(count(*) = 20000 AND sum(delay) = 154078 AND sum(distance) = 14476934,
				  format('%s real flights are in a plain table, from %s to %s',
						 demo.figure(count(*)), min(departed)::date, max(departed)::date))
FROM flight_raw;

CREATE FUNCTION demo.scheduled(f flight_raw) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_build_object('flight', f.id, 'origin', f.origin, 'destination', f.destination,
							  'distance_miles', f.distance);
$$;

CREATE FUNCTION demo.departed(f flight_raw) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_build_object('origin', f.origin, 'departed_local', f.departed);
$$;

CREATE FUNCTION demo.arrived(f flight_raw) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_build_object('destination', f.destination, 'arrival_delay_minutes', f.delay);
$$;

-- What happened on the same day belongs together.
CREATE FUNCTION demo.correlation(f flight_raw) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
	SELECT 'departures-' || f.departed::date;
$$;

-- Ids that follow from the flight make every load repeatable: see promises.sql.
-- Such a hash can look like a UUID of any version, or of none.
CREATE FUNCTION demo.event_id(flight integer, version integer) RETURNS uuid
LANGUAGE sql IMMUTABLE AS $$
	SELECT md5(format('flight-%s/%s', flight, version))::uuid;
$$;

-- The fast path: arrays, one call a flight.  Several sessions may share the
-- work: this one takes each parts-th flight.
CREATE PROCEDURE demo.load_arrays(first integer, last integer, part integer, parts integer)
LANGUAGE plpgsql AS $$
DECLARE
	f		flight_raw;
	calls	integer := 0;
BEGIN
	FOR f IN
		SELECT * FROM flight_raw r
		WHERE r.id BETWEEN first AND last AND r.id % parts = part
		ORDER BY r.id
	LOOP
		PERFORM set_config('evstore.correlation_id', demo.correlation(f), true);
		PERFORM * FROM evstore.append_arrays(
			stream => 'flight-' || f.id,
			types => ARRAY['FlightScheduled', 'FlightDeparted', 'FlightArrived'],
			data => ARRAY[demo.scheduled(f), demo.departed(f), demo.arrived(f)],
			event_ids => ARRAY[demo.event_id(f.id, 0), demo.event_id(f.id, 1), demo.event_id(f.id, 2)],
			expected_version => evstore.no_stream());

		calls := calls + 1;
		IF calls % 100 = 0 THEN
			COMMIT;
		END IF;
	END LOOP;
END;
$$;

-- Objects: each event has keys of its own, here the time of the departure.
CREATE PROCEDURE demo.load_objects(first integer, last integer)
LANGUAGE plpgsql AS $$
DECLARE
	f		flight_raw;
BEGIN
	FOR f IN SELECT * FROM flight_raw r WHERE r.id BETWEEN first AND last ORDER BY r.id LOOP
		PERFORM * FROM evstore.append_events(
			stream => 'flight-' || f.id,
			events => jsonb_build_array(
				jsonb_build_object(
					'type', 'FlightScheduled',
					'data', demo.scheduled(f),
					'event_id', demo.event_id(f.id, 0),
					'correlation_id', demo.correlation(f)),
				jsonb_build_object(
					'type', 'FlightDeparted',
					'data', demo.departed(f),
					'event_id', demo.event_id(f.id, 1),
					'correlation_id', demo.correlation(f),
					'causation_id', demo.event_id(f.id, 0),
					'occurred_at', f.departed AT TIME ZONE 'UTC'),
				jsonb_build_object(
					'type', 'FlightArrived',
					'data', demo.arrived(f),
					'event_id', demo.event_id(f.id, 2),
					'correlation_id', demo.correlation(f),
					'causation_id', demo.event_id(f.id, 1))),
			expected_version => evstore.no_stream());
		COMMIT;
	END LOOP;
END;
$$;

-- One event at a time, as an application does while it happens: each append is
-- a transaction and names the version that it continues.
CREATE PROCEDURE demo.load_single(first integer, last integer)
LANGUAGE plpgsql AS $$
DECLARE
	f		flight_raw;
	done	record;
BEGIN
	FOR f IN SELECT * FROM flight_raw r WHERE r.id BETWEEN first AND last ORDER BY r.id LOOP
		SELECT * INTO done FROM evstore.append(
			stream => 'flight-' || f.id,
			type => 'FlightScheduled',
			data => demo.scheduled(f),
			expected_version => evstore.no_stream(),
			event_id => demo.event_id(f.id, 0),
			correlation_id => demo.correlation(f),
			source => '/bts/on-time');
		COMMIT;
		SELECT * INTO done FROM evstore.append(
			stream => 'flight-' || f.id,
			type => 'FlightDeparted',
			data => demo.departed(f),
			expected_version => done.version,
			event_id => demo.event_id(f.id, 1),
			correlation_id => demo.correlation(f),
			causation_id => demo.event_id(f.id, 0),
			occurred_at => f.departed AT TIME ZONE 'UTC',
			source => '/bts/on-time',
			tags => ARRAY['from:' || f.origin]);
		COMMIT;
		SELECT * INTO done FROM evstore.append(
			stream => 'flight-' || f.id,
			type => 'FlightArrived',
			data => demo.arrived(f),
			expected_version => done.version,
			event_id => demo.event_id(f.id, 2),
			correlation_id => demo.correlation(f),
			causation_id => demo.event_id(f.id, 1),
			source => '/bts/on-time',
			tags => ARRAY['to:' || f.destination]);
		COMMIT;
	END LOOP;
END;
$$;

\echo
\echo Load
