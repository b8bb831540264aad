-- The extension, a plain table for the raw data, and the demo's own bookkeeping.

\echo Set-up

CREATE EXTENSION evstore;

-- departed is the origin's local time, hence no time zone: see test/data/README.md.
CREATE TABLE flight_raw (
	id			integer PRIMARY KEY,
	departed	timestamp NOT NULL,
	delay		integer NOT NULL,
	distance	integer NOT NULL,
	origin		text NOT NULL,
	destination	text NOT NULL
);

CREATE SCHEMA demo;

CREATE TABLE demo.checked (
	number	integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	ok		boolean NOT NULL,
	what	text NOT NULL
);

-- Remember a check and give its line of the report.  Unknown counts as wrong.
CREATE FUNCTION demo.check(passed boolean, line text) RETURNS text
LANGUAGE sql AS $$
	INSERT INTO demo.checked (ok, what)
	VALUES (coalesce(passed, false), coalesce(line, '(no figure)'))
	RETURNING format('  %s  %s', CASE WHEN ok THEN 'ok  ' ELSE 'FAIL' END, what);
$$;

-- A line below a check, with what it saw.
CREATE FUNCTION demo.note(line text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
	SELECT '          ' || coalesce(line, '(null)');
$$;

CREATE FUNCTION demo.figure(n bigint) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
	SELECT to_char(n, 'FM999,999,999,990');
$$;

CREATE FUNCTION demo.seconds_since(started timestamptz) RETURNS numeric
LANGUAGE sql VOLATILE AS $$
	SELECT round(extract(epoch FROM clock_timestamp() - started)::numeric, 3);
$$;

CREATE FUNCTION demo.speed(events bigint, started timestamptz) RETURNS text
LANGUAGE sql VOLATILE AS $$
	SELECT format('%s events in %s s, %s a second', demo.figure(events), s,
				  demo.figure((events / greatest(s, 0.001))::bigint))
	FROM demo.seconds_since(started) AS s;
$$;

-- Run a command that may be refused, and say how it ended.
CREATE FUNCTION demo.attempt(command text, OUT code text, OUT message text, OUT detail text)
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	code := '00000';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS
		code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
END;
$$;

SELECT demo.check(evstore.safe_position() = 0 AND NOT EXISTS (SELECT FROM evstore.events),
				  format('evstore %s is installed and empty, %s positions a partition',
						 extversion, current_setting('evstore.partition_size')))
FROM pg_extension WHERE extname = 'evstore';
