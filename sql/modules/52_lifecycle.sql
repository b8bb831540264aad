-- Lifecycle of streams.

CREATE OR REPLACE FUNCTION evstore.delete_stream(
	stream text,
	expected_version bigint DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_delete_stream';
COMMENT ON FUNCTION evstore.delete_stream(text, bigint) IS
	'make a stream read empty; it may be appended to again, and its versions go on';

CREATE OR REPLACE FUNCTION evstore.tombstone_stream(
	stream text,
	expected_version bigint DEFAULT NULL,
	reason text DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_tombstone_stream';
COMMENT ON FUNCTION evstore.tombstone_stream(text, bigint, text) IS
	'close a stream for ever';

CREATE OR REPLACE FUNCTION evstore.truncate_stream(
	stream text,
	before_version bigint)
RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_truncate_stream';
COMMENT ON FUNCTION evstore.truncate_stream(text, bigint) IS
	'hide the events of a stream below a version';

CREATE OR REPLACE FUNCTION evstore.set_stream(
	stream text,
	max_count bigint DEFAULT NULL,
	max_age interval DEFAULT NULL,
	metadata jsonb DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_set_stream';
COMMENT ON FUNCTION evstore.set_stream(text, bigint, interval, jsonb) IS
	'limit what readers see of a stream, and describe it; null leaves a setting, 0 removes a limit';

CREATE OR REPLACE FUNCTION evstore.scavenge()
RETURNS TABLE (stream text, first_version bigint, last_version bigint, events bigint, bytes bigint)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_scavenge';
COMMENT ON FUNCTION evstore.scavenge() IS
	'remove from disk the events that no reader can see any more';

