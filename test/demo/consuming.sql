-- While two consumers work: who has what.

SELECT demo.check(count(*) FILTER (WHERE consumer = 'worker-1') = 2
				  AND count(*) FILTER (WHERE consumer = 'worker-2') = 2,
				  'two consumers share 4 slots evenly')
FROM evstore.subscription_slots WHERE subscription = 'flights' AND claimed;

SELECT demo.note(format('slot %s  %s  epoch %s  checkpoint %s', slot, consumer, epoch, demo.figure(checkpoint)))
FROM evstore.subscription_slots WHERE subscription = 'flights' ORDER BY slot;

SELECT demo.note(format('%s: %s, %s consumers, %s events behind, oldest %s s', subscription, state, consumers,
						demo.figure(lag_events), round(lag_seconds)))
FROM evstore.subscriptions WHERE subscription = 'flights';
