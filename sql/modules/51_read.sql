-- Reading.  All functions that look at the log are VOLATILE: a STABLE one
-- would run with its caller's old snapshot, and skip events.

CREATE OR REPLACE FUNCTION evstore.read_stream(
	stream text,
	from_version bigint DEFAULT NULL,
	max_count bigint DEFAULT NULL,
	direction text DEFAULT 'forward')
RETURNS SETOF evstore.event
LANGUAGE C VOLATILE ROWS 100 AS 'MODULE_PATHNAME', 'evs_read_stream';
COMMENT ON FUNCTION evstore.read_stream(text, bigint, bigint, text) IS
	'events of a stream in order of version';

CREATE OR REPLACE FUNCTION evstore.read_all(
	after bigint DEFAULT NULL,
	max_count bigint DEFAULT 1000,
	filter jsonb DEFAULT NULL,
	direction text DEFAULT 'forward')
RETURNS SETOF evstore.event
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_read_all';
COMMENT ON FUNCTION evstore.read_all(bigint, bigint, jsonb, text) IS
	'events of all streams in order of position, up to the safe position';

CREATE OR REPLACE FUNCTION evstore.read_category(
	category text,
	after bigint DEFAULT NULL,
	max_count bigint DEFAULT 1000)
RETURNS SETOF evstore.event
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_read_category';
COMMENT ON FUNCTION evstore.read_category(text, bigint, bigint) IS
	'events of a category''s streams in order of position, up to the safe position';

CREATE OR REPLACE FUNCTION evstore.read_correlation(correlation_id text)
RETURNS SETOF evstore.event
LANGUAGE C VOLATILE ROWS 100 AS 'MODULE_PATHNAME', 'evs_read_correlation';
COMMENT ON FUNCTION evstore.read_correlation(text) IS
	'events with a correlation id in order of position, up to the safe position';

CREATE OR REPLACE FUNCTION evstore.get_event(event_id uuid)
RETURNS SETOF evstore.event
LANGUAGE C VOLATILE ROWS 1 AS 'MODULE_PATHNAME', 'evs_get_event';
COMMENT ON FUNCTION evstore.get_event(uuid) IS 'the event with an id, or no row';

CREATE OR REPLACE FUNCTION evstore.stream_version(stream text) RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_stream_version';
COMMENT ON FUNCTION evstore.stream_version(text) IS
	'version of a stream''s newest event, or -1 if there is no such stream';

CREATE OR REPLACE FUNCTION evstore.stream_exists(stream text) RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_stream_exists';
COMMENT ON FUNCTION evstore.stream_exists(text) IS 'does the stream exist, and is not deleted?';

CREATE OR REPLACE FUNCTION evstore.safe_position() RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_safe_position';
COMMENT ON FUNCTION evstore.safe_position() IS
	'highest position such that all appends at or below it have ended';

/*
 * test_filter(filter, event) -> (matches, error): what a filter says of an event.
 *
 * error is why the filter failed on the event, else null; matches is false then.
 * Errors: VS010 if the filter is not one, 22004 without an event.
 */
CREATE OR REPLACE FUNCTION evstore.test_filter(filter jsonb, event evstore.event,
	OUT matches boolean, OUT error text)
LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'evs_test_filter';
COMMENT ON FUNCTION evstore.test_filter(jsonb, evstore.event) IS
	'does a filter match an event, or why does it fail on it?';

-- Internal, for the views.

CREATE OR REPLACE FUNCTION evstore._visible_position_support(internal) RETURNS internal
LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'evs_visible_position_support';
COMMENT ON FUNCTION evstore._visible_position_support(internal) IS
	'planner support: reads the safe position before the statement''s snapshot is taken';

CREATE OR REPLACE FUNCTION evstore._visible_position() RETURNS bigint
LANGUAGE C VOLATILE SUPPORT evstore._visible_position_support
AS 'MODULE_PATHNAME', 'evs_visible_position';
COMMENT ON FUNCTION evstore._visible_position() IS
	'safe position as of the statement''s snapshot';

CREATE OR REPLACE FUNCTION evstore._last_version(stream_id bigint) RETURNS bigint
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'evs_last_version';
COMMENT ON FUNCTION evstore._last_version(bigint) IS
	'version of a stream''s newest event, hidden or not';

CREATE OR REPLACE FUNCTION evstore._last_position() RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_last_position';
COMMENT ON FUNCTION evstore._last_position() IS 'last position that was drawn';

CREATE OR REPLACE FUNCTION evstore._now() RETURNS timestamptz
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_now';
COMMENT ON FUNCTION evstore._now() IS 'what evstore takes for now';

