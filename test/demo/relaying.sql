-- The receiver is away.

SELECT demo.check(state = 'circuit open' AND opened >= 2 AND lag_events > 0,
				  format('the circuit is open: tried now and then, and %s events wait', demo.figure(lag_events)))
FROM evstore.relays WHERE relay = 'partner';
SELECT demo.note(last_error) FROM evstore.relays WHERE relay = 'partner';

SELECT demo.check(state = 'running' AND lag_events = 0 AND sent = (SELECT count(*) FROM evstore.events WHERE stream LIKE 'flight-%'),
				  format('the other relay is not concerned: %s events sent, none behind', demo.figure(sent)))
FROM evstore.relays WHERE relay = 'archive';
