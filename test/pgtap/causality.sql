-- What led to an event, and what came of it.  The functions read the committed
-- log, so there is no transaction around this file.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;

SELECT plan(24);

-- ids that are easy to read: id(7) is ...-000000000007
CREATE FUNCTION pg_temp.id(n int) RETURNS uuid LANGUAGE sql IMMUTABLE AS
$$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
CREATE FUNCTION pg_temp.number(id uuid) RETURNS int LANGUAGE sql IMMUTABLE AS
$$ SELECT right(id::text, 12)::int $$;
CREATE FUNCTION pg_temp.happen(n int, cause int, correlation text) RETURNS bigint LANGUAGE sql AS
$$ SELECT version FROM evstore.append('case-' || n % 3, 'Happened', event_id => pg_temp.id(n),
	causation_id => pg_temp.id(cause), correlation_id => correlation) $$;
-- a tree as text: each event with its depth, in the order of the rows
CREATE FUNCTION pg_temp.shape(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format('SELECT string_agg(pg_temp.number(event_id) || '':'' || depth, '' '')
		FROM (SELECT * FROM %s) AS tree', query) INTO result;
	RETURN result;
END $$;

-- an order: 4 is an effect of 3, which like 2 is one of 1; 6 stands alone,
-- 7 comes from another correlation, 9 was recorded before its cause 10
SELECT pg_temp.happen(n, cause, correlation)
FROM (VALUES
	(99, NULL, 'before'), (100, NULL, NULL),
	(1, NULL, 'order'), (2, 1, 'order'), (3, 1, 'order'), (4, 3, 'order'), (5, 2, 'order'),
	(6, NULL, 'order'), (7, 99, 'order'), (9, 10, 'order'), (10, 1, 'order'), (12, 98, 'order'),
	-- a circle 21 -> 23 -> 22 -> 21 with a tail 24 -> 25, and an event that caused itself
	(20, NULL, 'circle'), (22, 23, 'circle'), (21, 22, 'circle'), (24, 21, 'circle'), (23, 21, 'circle'),
	(25, 24, 'circle'), (26, 26, 'circle'), (27, 26, 'circle'),
	-- a circle of which two events were recorded before their causes
	(31, 32, 'circle'), (32, 33, 'circle'), (33, 31, 'circle'),
	-- no correlation, another one than the cause's, or none given: the cause's
	(101, 100, NULL), (102, 101, 'later'), (103, 102, 'later'), (104, 99, NULL)
) AS e (n, cause, correlation)
\g /dev/null

-- ---- flow ----

SELECT is(pg_temp.shape($$ evstore.flow('order') $$), '1:0 2:1 5:2 3:1 4:2 10:1 9:2 6:0 7:0 12:0',
	'flow: depth first, effects in the order of their positions');
SELECT is((SELECT path FROM evstore.flow('order') WHERE event_id = pg_temp.id(4)),
	ARRAY[pg_temp.id(1), pg_temp.id(3), pg_temp.id(4)], 'flow: path from the root to the event');
SELECT is((SELECT count(*) FROM evstore.flow('order') WHERE cardinality(path) = depth + 1), 10::bigint,
	'flow: a path has depth + 1 ids');
SELECT results_eq(
	$$ SELECT "position", stream, version, event_id, type, schema_version, data, metadata, correlation_id,
		causation_id, source, occurred_at, recorded_at, tags FROM evstore.flow('order') ORDER BY 1 $$,
	$$ SELECT * FROM evstore.read_correlation('order') $$,
	'flow: every event of the correlation once, whole');
SELECT is(pg_temp.shape($$ evstore.flow('circle') $$), '20:0 22:0 21:1 24:2 25:3 23:2 26:0 27:1 31:0 33:1 32:2',
	'flow: a circle is cut at the event that was recorded first');
SELECT is_empty($$ SELECT * FROM evstore.flow('nothing') $$, 'flow: an unknown correlation');
SELECT is_empty($$ SELECT * FROM evstore.flow(NULL) $$, 'flow: NULL');

-- ---- causes_of ----

SELECT is(pg_temp.shape(format('evstore.causes_of(%L)', pg_temp.id(5))), '5:0 2:1 1:2', 'causes: up to the first');
SELECT is((SELECT path FROM evstore.causes_of(pg_temp.id(5)) WHERE depth = 2),
	ARRAY[pg_temp.id(5), pg_temp.id(2), pg_temp.id(1)], 'causes: path from the event to the cause');
SELECT is(pg_temp.shape(format('evstore.causes_of(%L)', pg_temp.id(9))), '9:0 10:1 1:2', 'causes: through a later event');
SELECT is(pg_temp.shape(format('evstore.causes_of(%L)', pg_temp.id(7))), '7:0 99:1', 'causes: across correlations');
SELECT is(pg_temp.shape(format('evstore.causes_of(%L)', pg_temp.id(12))), '12:0', 'causes: up to one that is not here');
SELECT is(pg_temp.shape(format('evstore.causes_of(%L)', pg_temp.id(25))), '25:0 24:1 21:2 22:3 23:4', 'causes: once round a circle');
SELECT is(pg_temp.shape(format('evstore.causes_of(%L)', pg_temp.id(26))), '26:0', 'causes: of an event that caused itself');
SELECT is_empty(format('SELECT * FROM evstore.causes_of(%L)', pg_temp.id(98)), 'causes: an unknown event');
SELECT is_empty('SELECT * FROM evstore.causes_of(NULL)', 'causes: NULL');

-- ---- effects_of ----

SELECT is(pg_temp.shape(format('evstore.effects_of(%L)', pg_temp.id(1))), '1:0 2:1 5:2 3:1 4:2 10:1 9:2', 'effects: the tree below');
SELECT is(pg_temp.shape(format('evstore.effects_of(%L)', pg_temp.id(3))), '3:0 4:1', 'effects: from the middle of a flow');
SELECT is(pg_temp.shape(format('evstore.effects_of(%L)', pg_temp.id(21))), '21:0 24:1 25:2 23:1 22:2', 'effects: once round a circle');
SELECT is(pg_temp.shape(format('evstore.effects_of(%L)', pg_temp.id(99))), '99:0 104:1', 'effects: not those of other correlations');
SELECT is(pg_temp.shape(format('evstore.effects_of(%L)', pg_temp.id(100))), '100:0 101:1 102:2 103:3',
	'effects: of an event without a correlation, in any');
SELECT is_empty(format('SELECT * FROM evstore.effects_of(%L)', pg_temp.id(98)), 'effects: an unknown event');

-- ---- a transaction's own events ----

BEGIN;
SELECT pg_temp.happen(13, 4, 'order') \g /dev/null
SELECT pg_temp.shape(format('evstore.causes_of(%L)', pg_temp.id(13))) AS own_causes,
	(SELECT count(*) FROM evstore.flow('order')) AS flow_count \gset
ROLLBACK;
SELECT is(:'own_causes'::text, '13:0 4:1 3:2 1:3', 'causes: a transaction sees its own events');
SELECT is(:flow_count, 10, 'flow: not before they are committed');

SELECT * FROM finish();
