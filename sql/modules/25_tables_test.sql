-- What test_given() and test_when() leave for test_then(), in the transaction that
-- they run in.  No row is ever committed.

CREATE TABLE evstore.test_outcome (
	xact			xid8 NOT NULL,
	stream			text COLLATE "C" NOT NULL,
	decided			boolean NOT NULL,
	version_before	bigint,
	version_after	bigint,
	sqlstate		text,
	message			text,
	CONSTRAINT test_outcome_pkey PRIMARY KEY (xact)
);
COMMENT ON TABLE evstore.test_outcome IS 'how the last test_when() of a transaction has ended; never committed';
COMMENT ON COLUMN evstore.test_outcome.decided IS 'false after test_given(): there is no outcome yet';
COMMENT ON COLUMN evstore.test_outcome.sqlstate IS 'of the error that it has ended with, or null';

CREATE FUNCTION evstore._test_must_roll_back() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'invalid_transaction_termination',
		MESSAGE = 'a transaction with test_given() or test_when() must be rolled back',
		HINT = 'Begin it with BEGIN and end it with ROLLBACK.';
END
$$;
COMMENT ON FUNCTION evstore._test_must_roll_back() IS 'trigger: refuses the commit of a test';

CREATE CONSTRAINT TRIGGER test_must_roll_back AFTER INSERT ON evstore.test_outcome
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION evstore._test_must_roll_back();
ALTER TABLE evstore.test_outcome ENABLE ALWAYS TRIGGER test_must_roll_back;
