-- The inbox: what consumers have processed.  A ring of tables, so that what is
-- too old goes by TRUNCATE; src/subscription/inbox.c chooses the table, and
-- names the columns.  They have no guards: the owner may delete a row, for its
-- message to be processed once more.

CREATE TABLE evstore.inbox_0 (
	consumer			text COLLATE "C" NOT NULL,
	source				text COLLATE "C" NOT NULL,
	key					text COLLATE "C" NOT NULL,
	received_at			timestamptz NOT NULL,
	result				jsonb,
	CONSTRAINT inbox_0_pkey PRIMARY KEY (key, consumer, source)
);
COMMENT ON COLUMN evstore.inbox_0.consumer IS 'who has processed it; empty for execute_once()';
COMMENT ON COLUMN evstore.inbox_0.source IS 'where it came from, or the scope of execute_once()';
COMMENT ON COLUMN evstore.inbox_0.key IS 'the event''s id, or the key of execute_once()';
COMMENT ON COLUMN evstore.inbox_0.result IS 'what the function of execute_once() returned';

CREATE TABLE evstore.inbox_1 (LIKE evstore.inbox_0 INCLUDING ALL);
CREATE TABLE evstore.inbox_2 (LIKE evstore.inbox_0 INCLUDING ALL);
CREATE TABLE evstore.inbox_3 (LIKE evstore.inbox_0 INCLUDING ALL);
CREATE TABLE evstore.inbox_4 (LIKE evstore.inbox_0 INCLUDING ALL);
CREATE TABLE evstore.inbox_5 (LIKE evstore.inbox_0 INCLUDING ALL);
CREATE TABLE evstore.inbox_6 (LIKE evstore.inbox_0 INCLUDING ALL);
CREATE TABLE evstore.inbox_7 (LIKE evstore.inbox_0 INCLUDING ALL);
CREATE TABLE evstore.inbox_8 (LIKE evstore.inbox_0 INCLUDING ALL);

COMMENT ON TABLE evstore.inbox_0 IS 'what has been processed, table 1 of 9';
COMMENT ON TABLE evstore.inbox_1 IS 'what has been processed, table 2 of 9';
COMMENT ON TABLE evstore.inbox_2 IS 'what has been processed, table 3 of 9';
COMMENT ON TABLE evstore.inbox_3 IS 'what has been processed, table 4 of 9';
COMMENT ON TABLE evstore.inbox_4 IS 'what has been processed, table 5 of 9';
COMMENT ON TABLE evstore.inbox_5 IS 'what has been processed, table 6 of 9';
COMMENT ON TABLE evstore.inbox_6 IS 'what has been processed, table 7 of 9';
COMMENT ON TABLE evstore.inbox_7 IS 'what has been processed, table 8 of 9';
COMMENT ON TABLE evstore.inbox_8 IS 'what has been processed, table 9 of 9';

