-- Secrets of relays.

/*
 * create_secret(name, value)
 *
 * Keep a value that relays need to log in.  A relay's config refers to it as
 * {"secret": "<name>"}; no function or view returns it.
 *
 * name   1 to 51 bytes
 * value  1 to 65536 bytes in UTF-8
 *
 * evstore does not log the value, but the server may log the statement, and
 * pg_stat_activity shows it: see docs/reference/relays.md.  Errors: VS008, 22023.
 */
CREATE OR REPLACE FUNCTION evstore.create_secret(name text, value text) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_create_secret';
COMMENT ON FUNCTION evstore.create_secret(text, text) IS
	'keep a password, token or key that relays need';

/*
 * alter_secret(name, value)
 *
 * Give a secret another value.  Relays that use it notice when this is committed.
 * Errors: VS009, 22023.
 */
CREATE OR REPLACE FUNCTION evstore.alter_secret(name text, value text) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_alter_secret';
COMMENT ON FUNCTION evstore.alter_secret(text, text) IS
	'give a secret another value';

-- Does the config of a relay refer to it?
CREATE OR REPLACE FUNCTION evstore._secret_is_used(name text) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT EXISTS (SELECT FROM evstore.relay r
		WHERE jsonb_path_exists(r.config, 'strict $.** ? (@.secret == $name)',
			jsonb_build_object('name', _secret_is_used.name)));
END;
COMMENT ON FUNCTION evstore._secret_is_used(text) IS 'does the config of a relay refer to a secret?';

/*
 * drop_secret(name)
 *
 * Errors: VS009; 2BP01 while a relay's config refers to it.
 */
CREATE OR REPLACE FUNCTION evstore.drop_secret(name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF name IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
			MESSAGE = 'argument "name" must not be null';
	END IF;
	-- the row is locked first: who creates a relay with it locks it, too
	DELETE FROM evstore.secret s WHERE s.name = drop_secret.name;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'VS009',
			MESSAGE = format('secret "%s" does not exist', name),
			DETAIL = jsonb_build_object('secret', name)::text;
	END IF;
	IF evstore._secret_is_used(name) THEN
		RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
			MESSAGE = format('secret "%s" is used by a relay', name),
			DETAIL = jsonb_build_object('secret', name)::text,
			HINT = 'Drop or alter the relay first.';
	END IF;
	PERFORM evstore._audit('drop_secret', jsonb_build_object('secret', name));
END
$$;
COMMENT ON FUNCTION evstore.drop_secret(text) IS 'forget a secret that no relay uses';

/*
 * For tests, and who owns evstore only: is this the value, and has any secret
 * changed?
 */
CREATE OR REPLACE FUNCTION evstore._secret_is(name text, value text) RETURNS boolean
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'evs_secret_is';
COMMENT ON FUNCTION evstore._secret_is(text, text) IS 'for tests: is this the value of a secret?';

CREATE OR REPLACE FUNCTION evstore._secret_version() RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_secret_version_sql';
COMMENT ON FUNCTION evstore._secret_version() IS 'for tests: changes when a secret does';

CREATE OR REPLACE VIEW evstore.secrets AS
SELECT s.name, s.created_at, s.changed_at
FROM evstore.secret s;
COMMENT ON VIEW evstore.secrets IS 'the secrets that there are; never their values';
