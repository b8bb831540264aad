-- What is done for passengers who arrive three hours late or more: a saga.

\echo
\echo Sagas

CREATE SCHEMA care;
CREATE TABLE care.rebooking (flight text PRIMARY KEY, cancelled boolean NOT NULL DEFAULT false);
CREATE TABLE care.hotel (airport text PRIMARY KEY, free integer NOT NULL CHECK (free >= 0));
CREATE TABLE care.voucher (key text PRIMARY KEY, flight text NOT NULL, desk text NOT NULL);

-- Two rooms at each airport: not enough at some.
INSERT INTO care.hotel SELECT DISTINCT destination, 2 FROM flight_raw;

CREATE FUNCTION care.rebook(p jsonb) RETURNS jsonb
LANGUAGE sql AS $$
	INSERT INTO care.rebooking VALUES (p ->> 'flight') RETURNING jsonb_build_object('rebooked', true);
$$;

CREATE FUNCTION care.cancel_rebooking(p jsonb) RETURNS void
LANGUAGE sql AS $$
	UPDATE care.rebooking SET cancelled = true WHERE flight = p #>> '{input,flight}';
$$;

CREATE FUNCTION care.book_hotel(p jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
	UPDATE care.hotel SET free = free - 1 WHERE airport = p ->> 'airport' AND free > 0;
	IF NOT FOUND THEN
		PERFORM evstore.fail_step('NoRooms', 'no rooms at ' || (p ->> 'airport'));
	END IF;
	RETURN '{"nights": 1}';
END;
$$;

CREATE FUNCTION care.release_room(p jsonb) RETURNS void
LANGUAGE sql AS $$
	UPDATE care.hotel SET free = free + 1 WHERE airport = p #>> '{input,airport}';
$$;

-- A desk gives out vouchers until everybody has been cared for.
CREATE PROCEDURE care.desk(desk text)
LANGUAGE plpgsql AS $$
DECLARE
	task record;
BEGIN
	LOOP
		FOR task IN SELECT * FROM evstore.fetch_tasks('voucher', desk, 10, 200) LOOP
			-- the key is the same when a task comes again
			INSERT INTO care.voucher VALUES (task.idempotency_key, task.input ->> 'flight', desk) ON CONFLICT DO NOTHING;
			PERFORM evstore.complete_task(task.token, jsonb_build_object('number', left(md5(task.idempotency_key), 8)));
		END LOOP;
		COMMIT;
		EXIT WHEN (SELECT count(*) = 93 AND count(*) = count(s.ended_at) FROM evstore.sagas AS s WHERE s.saga = 'care');
	END LOOP;
END;
$$;

SELECT evstore.create_saga('care', $${
	"asl": {
		"StartAt": "Landed",
		"States": {
			"Landed": {"Type": "Pass", "Parameters": {"flight.$": "$.stream", "airport.$": "$.data.destination"}, "Next": "Rebook"},
			"Rebook": {"Type": "Task", "Resource": "evstore:sql:care.rebook", "ResultPath": null, "Next": "BookHotel"},
			"BookHotel": {"Type": "Task", "Resource": "evstore:sql:care.book_hotel", "ResultPath": "$.hotel", "Next": "Voucher"},
			"Voucher": {"Type": "Task", "Resource": "evstore:activity:voucher", "TimeoutSeconds": 1, "ResultPath": "$.voucher", "Next": "Inform",
				"Retry": [{"ErrorEquals": ["States.Timeout"], "IntervalSeconds": 1, "MaxAttempts": 20, "BackoffRate": 1}]},
			"Inform": {"Type": "Task", "Resource": "evstore:append", "End": true, "Parameters": {
				"stream.$": "States.Format('care-{}', $.flight)", "type": "PassengersInformed",
				"data": {"text.$": "States.Format('Your room is in {}, your voucher has the number {}.', $.airport, $.voucher.number)"}}}
		}},
	"compensation": {"states": {
		"Rebook": {"Resource": "evstore:sql:care.cancel_rebooking"},
		"BookHotel": {"Resource": "evstore:sql:care.release_room"}}},
	"options": {"start_on": [{
		"filter": {"types": ["FlightArrived"], "categories": ["flight"], "pattern": {"detail": {"arrival_delay_minutes": [{"numeric": [">=", 180]}]}}},
		"business_key": "$.stream",
		"input": "$"}]}
}$$) \g /dev/null

-- The flights that were so late come once more, with the same delay.
INSERT INTO flight_raw
SELECT 30000 + row_number() OVER (ORDER BY id), departed, delay, distance, origin, destination
FROM flight_raw WHERE id <= 20000 AND delay >= 180;

CREATE VIEW care.wanted AS
SELECT destination AS airport, count(*) AS flights, least(count(*), 2) AS rooms
FROM flight_raw WHERE id BETWEEN 30001 AND 30093 GROUP BY destination;

SELECT demo.note(format('%s flights are going to be three hours late or more, at %s airports with two rooms each: %s too few',
						sum(flights), count(*), sum(flights - rooms)))
FROM care.wanted;
