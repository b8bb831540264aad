-- What relays send, and where to: for tests, without a relay.

CREATE OR REPLACE FUNCTION evstore._encode_event(event evstore.event, format text,
	options jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'evs_encode_event';
COMMENT ON FUNCTION evstore._encode_event(evstore.event, text, jsonb) IS
	'for tests: the message that a relay makes of an event, or the error';

CREATE OR REPLACE FUNCTION evstore._egress_allowed(host text, address text, port integer)
RETURNS boolean
LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'evs_egress_is_allowed';
COMMENT ON FUNCTION evstore._egress_allowed(text, text, integer) IS
	'for tests: may a relay connect?';
