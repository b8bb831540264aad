-- After two consumers, one of which was killed.  Variables: started, killed.

SELECT demo.check(count(*) = 60000 AND count(DISTINCT position) = 60000,
				  format('both together: %s events, nothing lost and nothing repeated (%s s)',
						 demo.figure(count(*)), demo.seconds_since(:'started')))
FROM demo.done;

SELECT demo.check(count(*) = 2 AND min(s.events) >= 5000,
				  string_agg(format('%s did %s', s.consumer, demo.figure(s.events)), ', ' ORDER BY s.consumer))
FROM (SELECT consumer, count(*) AS events FROM demo.done GROUP BY consumer) AS s;

SELECT demo.check(count(*) > 0 AND count(*) = count(*) FILTER (WHERE d.consumer = 'worker-1'),
				  format('the %s events that worker-2 held when it was killed were done by worker-1', count(*)))
FROM demo.held AS h LEFT JOIN demo.done AS d USING (position);

SELECT demo.check(bool_and(d.version = d.nth - 1),
				  'every flight''s events were done in order: versions 0, 1, 2')
FROM (SELECT version, row_number() OVER (PARTITION BY stream ORDER BY number) AS nth FROM demo.done) AS d;

SELECT demo.check(sum(miles) = 14476934, format('and add up: %s miles', demo.figure(sum(miles)::bigint)))
FROM demo.done;

SELECT demo.check(s.state = 'active' AND s.lag_events = 0 AND s.parked = 0,
				  format('subscriptions: %s is %s, with %s events behind and %s parked', s.subscription, s.state, s.lag_events, s.parked))
FROM evstore.subscriptions AS s WHERE s.subscription = 'flights';
