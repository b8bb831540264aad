-- An event that cannot be done, and what becomes of it.

\echo
\echo Failures

SELECT evstore.create_subscription('speeds', '{"categories": ["flight"]}', start => 'end',
	options => '{"retry": {"max_attempts": 3, "initial": 0}, "on_failure": "park_key"}') AS start \gset

CREATE TABLE demo.speed_of (stream text NOT NULL, miles bigint NOT NULL, hours numeric NOT NULL, speed numeric NOT NULL);

-- A handler that divides.
CREATE FUNCTION demo.handle_speed(stream text, data jsonb) RETURNS void
LANGUAGE sql AS $$
	INSERT INTO demo.speed_of VALUES (stream, (data ->> 'miles')::bigint, (data ->> 'hours')::numeric,
									  round((data ->> 'miles')::bigint / (data ->> 'hours')::numeric));
$$;

CREATE PROCEDURE demo.consume_speeds()
LANGUAGE plpgsql AS $$
DECLARE
	e		record;
	got		boolean;
	failed	boolean;
BEGIN
	LOOP
		got := false;
		failed := false;
		FOR e IN SELECT * FROM evstore.fetch('speeds', 'worker-3') LOOP
			got := true;
			BEGIN
				PERFORM demo.handle_speed(e.stream, e.data);
			EXCEPTION WHEN OTHERS THEN
				failed := true;
				PERFORM evstore.nack('speeds', e.slot, e.epoch, e.position, SQLERRM);
			END;
			PERFORM evstore.ack('speeds', e.slot, e.epoch, e.position);
			EXIT WHEN failed;
		END LOOP;
		COMMIT;
		EXIT WHEN NOT got;
	END LOOP;
END;
$$;

SELECT count(*) AS appended
FROM (VALUES ('flight-90001', '{"miles": 2475, "hours": 5}'::jsonb), ('flight-90002', '{"miles": 733, "hours": 0}'),
			 ('flight-90002', '{"miles": 733, "hours": 2}'), ('flight-90003', '{"miles": 1846, "hours": 4}')) AS v (stream, data),
	 LATERAL evstore.append(v.stream, 'FlightMeasured', v.data) \gset
CALL demo.consume_speeds();

SELECT demo.check(count(*) = 2 AND array_agg(stream ORDER BY stream) = '{flight-90001,flight-90003}',
				  'one event cannot be done (division by zero): the other flights go on')
FROM demo.speed_of;

SELECT demo.check(count(*) = 2 AND min(stream) = 'flight-90002' AND max(stream) = 'flight-90002'
				  AND array_agg(reason ORDER BY position) = '{max_attempts,behind}'
				  AND array_agg(attempts ORDER BY position) = '{3,0}',
				  'it is parked after 3 attempts, and the next event of its flight behind it')
FROM evstore.parked_events;

SELECT demo.note(format('position %s  %s  %s attempts, %s: %s', position, stream, attempts, reason, error))
FROM evstore.parked_events ORDER BY position;

SELECT position AS bad FROM evstore.parked_events WHERE reason <> 'behind' \gset
SELECT evstore.replay_parked('speeds', at_position => :bad, data => '{"miles": 733, "hours": 2}') AS one \gset
SELECT evstore.replay_parked('speeds', key => 'flight-90002') AS rest \gset
CALL demo.consume_speeds();

SELECT demo.check(count(*) = 2 AND array_agg(speed) = '{367,367}' AND :one = 1 AND :rest = 1
				  AND NOT EXISTS (SELECT FROM evstore.failed_events),
				  'replayed with repaired data, both are done, in order; nothing is left over')
FROM demo.speed_of WHERE stream = 'flight-90002';

SELECT demo.check(e.data ->> 'hours' = '0', 'the event itself is as it was: ' || e.data::text)
FROM evstore.read_all(after => :bad - 1, max_count => 1) AS e;
