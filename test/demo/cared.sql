-- How the sagas ended.  Variable: took, the seconds.

SELECT demo.check(count(*) = 93 AND count(DISTINCT business_key) = 93,
				  format('each of %s late flights has started one saga; all have ended %s s later', count(*), :'took'))
FROM evstore.sagas WHERE saga = 'care';

SELECT demo.check(count(*) FILTER (WHERE status = 'succeeded') = w.rooms AND count(*) FILTER (WHERE status = 'compensated') = w.flights - w.rooms,
				  format('%s have succeeded, %s were undone: %s', count(*) FILTER (WHERE status = 'succeeded'), count(*) FILTER (WHERE status = 'compensated'),
						 max(error || ', ' || cause)))
FROM evstore.sagas AS s, (SELECT sum(flights) AS flights, sum(rooms) AS rooms FROM care.wanted) AS w
WHERE s.saga = 'care' GROUP BY w.flights, w.rooms;

SELECT demo.check(NOT EXISTS (SELECT FROM care.hotel AS h LEFT JOIN care.wanted AS w USING (airport) WHERE h.free <> 2 - coalesce(w.rooms, 0)),
				  'every room is taken that should be, and no other');

SELECT demo.check(bool_and(s.status = CASE WHEN r.cancelled THEN 'compensated' ELSE 'succeeded' END) AND count(*) = 93,
				  'who has no room has no new flight either')
FROM evstore.sagas AS s LEFT JOIN care.rebooking AS r ON r.flight = s.business_key WHERE s.saga = 'care';

SELECT demo.check(count(*) = count(DISTINCT v.flight) AND count(*) = count(s.saga_id)
				  AND count(*) = (SELECT sum(rooms) FROM care.wanted),
				  format('one voucher for each who stays: what the killed desk had in its hands came again after a second'))
FROM care.voucher AS v LEFT JOIN evstore.sagas AS s ON s.saga = 'care' AND s.business_key = v.flight AND s.status = 'succeeded';

SELECT demo.check(max(attempts) > 1, format('%s steps were tried again after a time-out', count(*) FILTER (WHERE attempts > 1)))
FROM (SELECT max(t.attempt) AS attempts FROM evstore.saga_steps AS t WHERE t.saga = 'care' AND t.state = 'Voucher' GROUP BY t.saga_id) AS v;

SELECT demo.check(count(*) = (SELECT sum(rooms) FROM care.wanted) AND count(*) = count(DISTINCT stream),
				  format('%s passengers were told, by an event each: %s', count(*), min(data ->> 'text')))
FROM evstore.events WHERE stream LIKE 'care-flight-%';

-- The history of two of them.
SELECT demo.note(format('%s: %s', max(s.status), string_agg(concat_ws(' ', h.type, h.data ->> 'state'), ', ' ORDER BY h.version)))
FROM (SELECT DISTINCT ON (status) * FROM evstore.sagas WHERE saga = 'care' ORDER BY status, started_at) AS s,
	 evstore.saga_history(s.saga_id) AS h
WHERE h.type NOT IN ('StepStarted')
GROUP BY s.saga_id ORDER BY max(s.status);

SELECT demo.note(line) FROM regexp_split_to_table(rtrim(evstore.saga_graph('care'), E'\n'), E'\n') AS line;
