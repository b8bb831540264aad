-- Sagas: what comes in from outside.  Tasks, signals, operators, participants.

-- Mail for an instance; its workers look for it at commit.
CREATE OR REPLACE FUNCTION evstore._saga_mail(saga_id uuid, definition_id bigint, kind text,
	step bigint DEFAULT NULL, name text DEFAULT NULL, payload jsonb DEFAULT NULL,
	error text DEFAULT NULL, cause text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_saga_mail_sql';
COMMENT ON FUNCTION evstore._saga_mail(uuid, bigint, text, bigint, text, jsonb, text, text) IS
	'brings something to an instance of a saga from outside';
