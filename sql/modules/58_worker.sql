-- Background workers.

CREATE OR REPLACE FUNCTION evstore.start() RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_start';
COMMENT ON FUNCTION evstore.start() IS 'start this database''s dispatcher; returns when it runs';

CREATE OR REPLACE FUNCTION evstore.stop() RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_stop';
COMMENT ON FUNCTION evstore.stop() IS
	'stop this database''s dispatcher, until start() or the server''s next start';

CREATE OR REPLACE FUNCTION evstore._announce() RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_announce';
COMMENT ON FUNCTION evstore._announce() IS 'at commit, has a dispatcher started where the library is preloaded';

CREATE OR REPLACE FUNCTION evstore._workers()
RETURNS TABLE (kind text, state text, pid integer, started_at timestamptz, failures integer,
	last_error text, last_error_at timestamptz, retry_at timestamptz, owner text)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_workers';
COMMENT ON FUNCTION evstore._workers() IS 'the launcher, and the workers of this database';
