-- Secrets of relays.  The values are sealed with a key that is not in the database.

CREATE TABLE evstore.secret (
	name		text COLLATE "C" NOT NULL,
	sealed		bytea NOT NULL,
	created_at	timestamptz NOT NULL,
	changed_at	timestamptz NOT NULL,
	CONSTRAINT secret_pkey PRIMARY KEY (name)
);
-- what is random does not get shorter
ALTER TABLE evstore.secret ALTER COLUMN sealed SET STORAGE EXTERNAL;
COMMENT ON TABLE evstore.secret IS 'passwords, tokens and keys of relays, sealed';
COMMENT ON COLUMN evstore.secret.sealed IS 'the value, encrypted and authenticated together with the name; the key is in a file';

CREATE TRIGGER evstore_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON evstore.secret
	FOR EACH STATEMENT EXECUTE FUNCTION evstore._subscription_changed();
ALTER TABLE evstore.secret ENABLE ALWAYS TRIGGER evstore_changed;
