-- Two relays.  Variables: key, of the signatures; port, of the receiver.

SELECT demo.check(code = 'VS010' AND message LIKE '%egress_allow%', 'then to 127.0.0.1 only: ' || message)
FROM demo.attempt($$SELECT evstore.create_relay('partner', 'http', '{"url": "http://192.0.2.1/"}')$$);

SELECT evstore.create_secret('partner-key', :'key') \g /dev/null

-- A file of its own for each database that the demo is run in.
SELECT format('demo-%s/flights.ndjson', oid) AS path FROM pg_database WHERE datname = current_database() \gset
SELECT evstore.create_relay('archive', 'file', jsonb_build_object('path', :'path'),
	'{"categories": ["flight"]}', options => '{"batch_size": 1000}') \g /dev/null

-- January only.  This receiver answers 500 to the first three requests.
SELECT evstore.create_relay('partner', 'http',
	jsonb_build_object(
		'url', format('http://127.0.0.1:%s/flights?status=500&first=3', :'port'),
		'signature', '{"secret": {"secret": "partner-key"}}'::jsonb),
	'{"categories": ["flight"], "sql": "EXISTS correlationid AND correlationid LIKE ''departures-2001-01-%''"}',
	options => '{"circuit": {"failures": 3, "open_for": 0.2, "max_open_for": 0.5}, "retry": {"initial": 0.2}}') \g /dev/null

CREATE VIEW demo.january AS
SELECT * FROM evstore.events WHERE stream LIKE 'flight-%' AND correlation_id LIKE 'departures-2001-01-%';

-- What has arrived: requests as the receiver logs them, and lines of the file.
CREATE TABLE demo.request (number bigint GENERATED ALWAYS AS IDENTITY, request jsonb NOT NULL);
CREATE TABLE demo.line (number bigint GENERATED ALWAYS AS IDENTITY, event jsonb NOT NULL);

SELECT demo.note(format('%s: %s events into the file %s', 'archive', demo.figure(count(*)), :'path'))
FROM evstore.events WHERE stream LIKE 'flight-%';
SELECT demo.note(format('%s: %s events of January to a web hook, signed with a secret', 'partner', demo.figure(count(*))))
FROM demo.january;
