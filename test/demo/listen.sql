-- Somebody waits for events, and somebody listens.

\echo
\echo Wake-ups

SELECT evstore.create_subscription('news', '{"categories": ["news"]}', start => 'end', options => '{"notify": true}') AS start \gset

SELECT demo.check(count(*) = 1, 'a dispatcher runs in this database, and says so in the view workers')
FROM evstore.workers WHERE kind = 'dispatcher' AND state = 'running';

-- How many seconds after it was recorded a waiting consumer has the event.
CREATE FUNCTION demo.wait_for_news() RETURNS numeric
LANGUAGE plpgsql AS $$
DECLARE
	e	record;
BEGIN
	LOOP
		SELECT f.*, clock_timestamp() - f.recorded_at AS after INTO e
		FROM evstore.fetch('news', 'reader', 1, 20000) AS f;
		IF FOUND THEN
			PERFORM evstore.ack('news', e.slot, e.epoch, e.position);
			RETURN extract(epoch FROM e.after);
		END IF;
	END LOOP;
END;
$$;
