-- The idempotent inbox.

CREATE OR REPLACE FUNCTION evstore.inbox_begin(
	consumer text,
	event_id uuid,
	source text DEFAULT '')
RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_inbox_begin';
COMMENT ON FUNCTION evstore.inbox_begin(text, uuid, text) IS
	'true: a consumer processes this event for the first time, in this transaction; false: it has been processed';

CREATE OR REPLACE FUNCTION evstore.execute_once(
	scope text,
	key text,
	fn regprocedure,
	args jsonb DEFAULT '{}')
RETURNS jsonb
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_execute_once';
COMMENT ON FUNCTION evstore.execute_once(text, text, regprocedure, jsonb) IS
	'call a function once for a key; later calls return the first one''s result';

CREATE OR REPLACE FUNCTION evstore.inbox_expire() RETURNS integer
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_inbox_expire';
COMMENT ON FUNCTION evstore.inbox_expire() IS
	'empty those of the inbox''s tables that hold only what is older than evstore.inbox_retention; returns how many';

