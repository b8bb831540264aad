-- After an event for which a session waited.  Variables: waited, position.

SELECT demo.check(:waited < 5 AND s.checkpoint = :position,
				  format('a session that waited in fetch() had the event %s ms after it was recorded',
						 round(1000 * :waited, 1)))
FROM evstore.subscription_slots AS s WHERE s.subscription = 'news';
