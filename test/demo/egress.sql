-- Where relays may connect to.

\echo
\echo Relays

SELECT demo.check(code = 'VS010' AND message LIKE '%egress_allow%',
				  'relays connect to nowhere that they have not been allowed to, SQLSTATE ' || code)
FROM demo.attempt($$SELECT evstore.create_relay('partner', 'http', '{"url": "http://127.0.0.1:80/"}')$$);
SELECT demo.note('evstore.egress_allow = 127.0.0.1');
SELECT format('ALTER DATABASE %I SET evstore.egress_allow = %L', current_database(), '127.0.0.1') \gexec
