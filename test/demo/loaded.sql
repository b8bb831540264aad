-- After the sessions that share the bulk have ended: its figures, then the
-- other two ways of appending.  Variables: started, writers.

SELECT demo.check(count(*) = 54000,
				  format('append_arrays, %s sessions at once: %s', :'writers',
						 demo.speed(count(*), :'started')))
FROM evstore.events;

SELECT clock_timestamp() AS started \gset
CALL demo.load_objects(18001, 19500);
SELECT demo.check(count(*) = 58500,
				  'append_events, a call a flight: ' || demo.speed(count(*) - 54000, :'started'))
FROM evstore.events;

SELECT clock_timestamp() AS started \gset
CALL demo.load_single(19501, 20000);
SELECT demo.check(count(*) = 60000,
				  'append, a transaction an event: ' || demo.speed(count(*) - 58500, :'started'))
FROM evstore.events;
