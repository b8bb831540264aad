-- Aggregates and snapshots: a load is the fold of all events, whatever snapshots
-- there are; and the fold itself.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;

SELECT plan(116);

CREATE SCHEMA bank;

-- Not commutative, and it counts what it is given: order, loss and repetition show.
CREATE FUNCTION bank.apply(state jsonb, e evstore.event) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE e.type
		WHEN 'Added' THEN state || jsonb_build_object('n', (state ->> 'n')::int + 1, 'sum', ((state ->> 'sum')::bigint * 3 + (e.data ->> 'amount')::bigint) % 1000003)
		WHEN 'Doubled' THEN state || jsonb_build_object('n', (state ->> 'n')::int + 1, 'sum', (state ->> 'sum')::bigint * 2 % 1000003)
		WHEN 'Failed' THEN jsonb_build_object('n', 1 / (e.data ->> 'zero')::int)
	END $$;
-- the same, that no planner inlines
CREATE FUNCTION bank.apply_slowly(state jsonb, e evstore.event) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	RETURN bank.apply(state, e);
END $$;
-- the fold as anybody would write it
CREATE FUNCTION bank.full_fold(stream text, up_to bigint DEFAULT NULL, until timestamptz DEFAULT 'infinity') RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	state jsonb := '{"n": 0, "sum": 1}';
	e evstore.event;
BEGIN
	FOR e IN SELECT * FROM evstore.read_stream(stream) LOOP
		EXIT WHEN e.version > up_to OR e.recorded_at > until;
		state := coalesce(bank.apply(state, e), state);
	END LOOP;
	RETURN state;
END $$;
CREATE FUNCTION bank.fill(stream text, n int) RETURNS bigint LANGUAGE sql AS $$
	SELECT version FROM evstore.append_events(stream, (SELECT jsonb_agg(jsonb_build_object(
			'type', (ARRAY['Added', 'Doubled', 'Unheard'])[1 + floor(random() * 3)::int], 'data', jsonb_build_object('amount', i)))
		FROM generate_series(1, n) AS i)) $$;
-- with the state version of now
CREATE FUNCTION bank.save(stream text, version bigint, state jsonb) RETURNS boolean LANGUAGE sql AS $$
	SELECT evstore.save_snapshot(stream, version, state, (SELECT a.state_version FROM evstore.aggregates AS a WHERE a.category = split_part(stream, '-', 1))) $$;
-- how a statement ends, run as a role
CREATE FUNCTION pg_temp.outcome(query text, role text DEFAULT current_user) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', role, true);
	EXECUTE query;
	RESET ROLE;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;

-- ---- definitions ----

SELECT is(pg_temp.outcome($$ SELECT evstore.load_aggregate('account-1') $$), 'VS009', 'a category without an aggregate');
SELECT lives_ok($$ SELECT evstore.create_aggregate('account', '{"n": 0, "sum": 1}', 'bank.apply(jsonb,evstore.event)') $$, 'create_aggregate()');
SELECT results_eq($$ SELECT category, initial, transition, state_version, keep, unknown_event FROM evstore.aggregates $$,
	$$ VALUES ('account'::text COLLATE "C", '{"n": 0, "sum": 1}'::jsonb, 'bank.apply', 1, 3, 'ignore') $$, 'as the view shows it');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_aggregate('account', '{}', 'bank.apply(jsonb,evstore.event)') $$), 'VS008', 'twice');
SELECT is(pg_temp.outcome(format('SELECT evstore.create_aggregate(%L, %L, %L, %s, %L)', category, initial, transition, state_version, options)), code, what)
FROM (VALUES
	('a name with -', 'a-b', '{}', 'bank.apply(jsonb,evstore.event)', '1', '{}', '22023'),
	('no name', '', '{}', 'bank.apply(jsonb,evstore.event)', '1', '{}', '22023'),
	('a long name', repeat('x', 513), '{}', 'bank.apply(jsonb,evstore.event)', '1', '{}', '22023'),
	('null for a name', NULL, '{}', 'bank.apply(jsonb,evstore.event)', '1', '{}', '22004'),
	('null for a state', 'b', NULL, 'bank.apply(jsonb,evstore.event)', '1', '{}', '22004'),
	('null for a transition', 'b', '{}', NULL, '1', '{}', '22004'),
	('null for a state version', 'b', '{}', 'bank.apply(jsonb,evstore.event)', 'NULL', '{}', '22004'),
	('a negative state version', 'b', '{}', 'bank.apply(jsonb,evstore.event)', '-1', '{}', '22023'),
	('a function of another form', 'b', '{}', 'jsonb_typeof(jsonb)', '1', '{}', 'VS010'),
	('an aggregate function', 'b', '{}', 'evstore.fold(evstore.event,regprocedure,jsonb)', '1', '{}', 'VS010'),
	('one that does not exist', 'b', '{}', 'bank.none(jsonb)', '1', '{}', '42883'),
	('options that are no object', 'b', '{}', 'bank.apply(jsonb,evstore.event)', '1', '[]', 'VS010'),
	('an unknown option', 'b', '{}', 'bank.apply(jsonb,evstore.event)', '1', '{"keeps": 1}', 'VS010'),
	('keep of 0', 'b', '{}', 'bank.apply(jsonb,evstore.event)', '1', '{"keep": 0}', 'VS010'),
	('half a snapshot', 'b', '{}', 'bank.apply(jsonb,evstore.event)', '1', '{"keep": 1.5}', 'VS010'),
	('keep as text', 'b', '{}', 'bank.apply(jsonb,evstore.event)', '1', '{"keep": "3"}', 'VS010'),
	('another policy', 'b', '{}', 'bank.apply(jsonb,evstore.event)', '1', '{"unknown_event": "skip"}', 'VS010'),
	('another policy for lost events', 'b', '{}', 'bank.apply(jsonb,evstore.event)', '1', '{"lost_events": "fold"}', 'VS010'),
	('null for a policy', 'b', '{}', 'bank.apply(jsonb,evstore.event)', '1', '{"unknown_event": null}', 'VS010')) AS t (what, category, initial, transition, state_version, options, code);
SELECT is(pg_temp.outcome($$ SELECT evstore.alter_aggregate('none') $$), 'VS009', 'alter_aggregate() of none');
SELECT is(pg_temp.outcome($$ SELECT evstore.drop_aggregate('none') $$), 'VS009', 'drop_aggregate() of none');

-- ---- load ----

SELECT results_eq($$ SELECT * FROM evstore.load_aggregate('account-none') $$,
	$$ VALUES ('{"n": 0, "sum": 1}'::jsonb, -1::bigint, NULL::bigint, 0::bigint, 1) $$, 'no stream: the initial state, to append with version -1');
SELECT is(pg_temp.outcome('SELECT evstore.load_aggregate(NULL)'), '22004', 'null for a stream');
SELECT is(pg_temp.outcome($$ SELECT evstore.load_aggregate('') $$), '22023', 'no name');
SELECT is(pg_temp.outcome($$ SELECT evstore.aggregate_at_version('account-1', NULL) $$), '22004', 'null for a version');
SELECT is(pg_temp.outcome($$ SELECT evstore.aggregate_at_time('account-1', NULL) $$), '22004', 'null for a time');
SELECT bank.fill('account', 5) \g /dev/null
SELECT is((SELECT state FROM evstore.load_aggregate('account')), bank.full_fold('account'), 'a stream that is named like its category');
SELECT bank.fill('account-Größe 東京-1', 5) \g /dev/null
SELECT is((SELECT state FROM evstore.load_aggregate('account-Größe 東京-1')), bank.full_fold('account-Größe 東京-1'), 'a name that is not ASCII');

-- the transaction's own events, and those that are rolled back
BEGIN;
SELECT evstore.append('account-own', 'Added', '{"amount": 7}') \g /dev/null
SELECT results_eq($$ SELECT state, version FROM evstore.load_aggregate('account-own') $$, $$ VALUES ('{"n": 1, "sum": 10}'::jsonb, 0::bigint) $$, 'own events count');
ROLLBACK;
SELECT is((SELECT version FROM evstore.load_aggregate('account-own')), -1::bigint, 'not when they are rolled back');

-- ---- random histories, random snapshots ----

SELECT setseed(0.25) \g /dev/null
CREATE TABLE bank.difference (what text, stream text, at text, loaded jsonb, folded jsonb);
CREATE TABLE bank.tally (with_snapshot bigint, without bigint);
DO $$
DECLARE
	name text;
	top bigint;
	v bigint;
	t timestamptz;
	got record;
	used bigint := 0;
	unused bigint := 0;
BEGIN
	FOR i IN 1 .. 40 LOOP
		name := 'account-random-' || i;
		PERFORM evstore.alter_aggregate('account', options => jsonb_build_object('keep', 1 + floor(random() * 4)::int));
		FOR j IN 1 .. 1 + floor(random() * 4)::int LOOP
			top := bank.fill(name, 1 + floor(random() * 30)::int);
			FOR k IN 1 .. floor(random() * 4)::int LOOP
				v := floor(random() * (top + 1))::bigint;
				PERFORM bank.save(name, v, bank.full_fold(name, v));
			END LOOP;
			SELECT * INTO got FROM evstore.load_aggregate(name);
			INSERT INTO bank.difference SELECT 'load', name, top, got.state, bank.full_fold(name)
			WHERE got.state <> bank.full_fold(name) OR got.version <> top OR got.events_read <> top - coalesce(got.snapshot_version, -1);
			used := used + (got.snapshot_version IS NOT NULL)::int;
			unused := unused + (got.snapshot_version IS NULL)::int;
		END LOOP;
		FOR v IN 0 .. top LOOP
			SELECT * INTO got FROM evstore.aggregate_at_version(name, v);
			INSERT INTO bank.difference SELECT 'version', name, v, got.state, bank.full_fold(name, v)
			WHERE got.state <> bank.full_fold(name, v) OR got.version <> v OR got.snapshot_version > v;
		END LOOP;
		FOR t IN SELECT e.recorded_at + d FROM evstore.read_stream(name) AS e, unnest('{-1 us, 0, 1 us}'::interval[]) AS d WHERE e.version % 7 = 0 LOOP
			SELECT * INTO got FROM evstore.aggregate_at_time(name, t);
			INSERT INTO bank.difference SELECT 'time', name, t, got.state, bank.full_fold(name, NULL, t)
			WHERE got.state <> bank.full_fold(name, NULL, t);
		END LOOP;
	END LOOP;
	INSERT INTO bank.tally VALUES (used, unused);
END $$;
SELECT is_empty('SELECT * FROM bank.difference', 'with any snapshots a load is the fold of all events: now, at a version, at a time');
SELECT cmp_ok((SELECT with_snapshot FROM bank.tally), '>', 20::bigint, 'which many loads began with a snapshot for');
SELECT cmp_ok((SELECT without FROM bank.tally), '>', 5::bigint, 'and some without');
SELECT is_empty($$ SELECT stream FROM evstore.snapshots GROUP BY stream HAVING count(*) > 4 $$, 'no more are kept than keep says');
SELECT is((SELECT version FROM evstore.aggregate_at_version('account-random-1', -5)), -1::bigint, 'before the first version');
SELECT is((SELECT version FROM evstore.aggregate_at_version('account-random-1', 100000)), evstore.stream_version('account-random-1'), 'beyond the last one');
SELECT is((SELECT version FROM evstore.aggregate_at_time('account-random-1', '-infinity')), -1::bigint, 'before all time');
SELECT is((SELECT state FROM evstore.aggregate_at_time('account-random-1', 'infinity')), bank.full_fold('account-random-1'), 'after all time');

-- ---- which snapshots are kept ----

SELECT evstore.alter_aggregate('account', options => '{"keep": 2}') \g /dev/null
SELECT bank.fill('account-keep', 100) \g /dev/null
SELECT results_eq($$ SELECT v, bank.save('account-keep', v, bank.full_fold('account-keep', v)) FROM unnest('{50, 60, 40, 70}'::bigint[]) AS v $$,
	'VALUES (50::bigint, true), (60, true), (40, false), (70, true)', 'an older one is not kept beside newer ones');
SELECT results_eq($$ SELECT version FROM evstore.snapshots WHERE stream = 'account-keep' ORDER BY 1 $$, 'VALUES (60::bigint), (70)', 'the newest are');
SELECT is(evstore.save_snapshot('account-keep', 80, '{"n": -1}', 0), false, 'nor is one of a lower state version');
SELECT is((SELECT version FROM evstore.load_snapshot('account-keep')), 70::bigint, 'load_snapshot()');
SELECT is((SELECT version FROM evstore.load_snapshot('account-keep', 69)), 60::bigint, 'up to a version');
SELECT is((SELECT version FROM evstore.load_snapshot('account-keep', 59)), NULL, 'there is none');
SELECT is((SELECT version FROM evstore.load_snapshot('account-none')), NULL, 'of no stream');
SELECT is(pg_temp.outcome(format('SELECT evstore.save_snapshot(%L, %s, %s, %s)', stream, version, state, state_version)), code, what)
FROM (VALUES
	('a snapshot of no stream', 'account-none', '1', $$'{}'$$, '1', 'VS004'),
	('of a version that is not there', 'account-keep', '100', $$'{}'$$, '1', '22023'),
	('of a negative version', 'account-keep', '-1', $$'{}'$$, '1', '22023'),
	('of no version', 'account-keep', 'NULL', $$'{}'$$, '1', '22004'),
	('of no state', 'account-keep', '1', 'NULL', '1', '22004'),
	('without a state version', 'account-keep', '1', $$'{}'$$, 'NULL', '22004'),
	('of a state version that has not been', 'account-keep', '1', $$'{}'$$, '2', '22023'),
	('of a negative state version', 'account-keep', '1', $$'{}'$$, '-1', '22023')) AS t (what, stream, version, state, state_version, code);
SELECT is(evstore.prune_snapshots('account-keep', 1), 1::bigint, 'prune_snapshots()');
SELECT is(pg_temp.outcome($$ SELECT evstore.prune_snapshots('account-keep', -1) $$), '22023', 'to less than none');
SELECT is(evstore.prune_snapshots('account-none'), 0::bigint, 'of no stream');

-- without an aggregate, for programs that fold by themselves
SELECT evstore.append('loose-1', 'Any') \g /dev/null
SELECT is(evstore.save_snapshot('loose-1', 0, '{"own": 1}'), true, 'a snapshot without an aggregate');
SELECT results_eq($$ SELECT version, state, state_version FROM evstore.load_snapshot('loose-1') $$, $$ VALUES (0::bigint, '{"own": 1}'::jsonb, 1) $$, 'is found');
SELECT is(evstore.save_snapshot('loose-1', 0, '{"own": 2}', 2), true, 'so is one of a higher state version');
SELECT is(evstore.save_snapshot('loose-1', 0, '{"own": 1}', 1), false, 'which a lower one does not replace');
SELECT is((SELECT state FROM evstore.load_snapshot('loose-1')), '{"own": 2}', 'the highest counts');

-- ---- another transition ----

SELECT bank.save('account-keep', 99, bank.full_fold('account-keep')) \g /dev/null
SELECT is((SELECT snapshot_version FROM evstore.load_aggregate('account-keep')), 99::bigint, 'a snapshot counts');
SELECT evstore.alter_aggregate('account', transition => 'bank.apply_slowly(jsonb,evstore.event)') \g /dev/null
SELECT results_eq($$ SELECT snapshot_version, events_read, state = bank.full_fold('account-keep') FROM evstore.load_aggregate('account-keep') $$,
	'VALUES (NULL::bigint, 100::bigint, true)', 'not after the transition has changed');
SELECT evstore.alter_aggregate('account', transition => 'bank.apply(jsonb,evstore.event)', state_version => 1) \g /dev/null
SELECT is((SELECT snapshot_version FROM evstore.load_aggregate('account-keep')), 99::bigint, 'again when it has been changed back');
SELECT evstore.alter_aggregate('account', initial => '{"n": 0, "sum": 1}', options => '{}') \g /dev/null
SELECT is((SELECT state_version FROM evstore.aggregates WHERE category = 'account'), 1, 'nothing changed, so not the state version');
SELECT evstore.alter_aggregate('account', transition => 'bank.apply_slowly(jsonb,evstore.event)') \g /dev/null
SELECT is((SELECT state_version FROM evstore.aggregates WHERE category = 'account'), 3, 'a new one is one that was not used yet');
SELECT evstore.alter_aggregate('account', transition => 'bank.apply(jsonb,evstore.event)', state_version => 1) \g /dev/null
CREATE FUNCTION pg_temp.apply(state jsonb, e evstore.event) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
SELECT is(pg_temp.outcome($$ SELECT evstore.alter_aggregate('account', transition => 'pg_temp.apply(jsonb,evstore.event)') $$), 'VS010', 'a temporary function');
ALTER FUNCTION bank.apply(jsonb, evstore.event) RENAME TO applied;
SELECT is(pg_temp.outcome($$ SELECT evstore.load_aggregate('account-keep') $$), '42883', 'a transition that is gone');
SELECT is((SELECT version FROM evstore.load_snapshot('account-keep')), 99::bigint, 'snapshots can be looked at without it');
ALTER FUNCTION bank.applied(jsonb, evstore.event) RENAME TO apply;

-- ---- events that are gone ----

SELECT evstore.prune_snapshots('account-keep', 0) \g /dev/null
SELECT bank.save('account-keep', 80, bank.full_fold('account-keep', 80)) \g /dev/null
CREATE TABLE bank.before AS SELECT bank.full_fold('account-keep') AS state;
SELECT evstore.truncate_stream('account-keep', 80) \g /dev/null
SELECT is((SELECT state FROM evstore.load_aggregate('account-keep')), (SELECT state FROM bank.before), 'what a truncated stream has lost is in its snapshot');
SELECT is((SELECT version FROM evstore.aggregate_at_version('account-keep', 85)), 85::bigint, 'also for a version after that');
SELECT is(pg_temp.outcome($$ SELECT evstore.aggregate_at_version('account-keep', 50) $$), '55000', 'what was before it is lost: no silent answer');
SELECT is((SELECT version FROM evstore.aggregate_at_time('account-keep', '2000-01-01')), -1::bigint, 'before the stream there was nothing');
SELECT evstore.alter_aggregate('account', state_version => 2) \g /dev/null
SELECT is(pg_temp.outcome($$ SELECT evstore.load_aggregate('account-keep') $$), '55000', 'with another transition it is lost');
SELECT evstore.alter_aggregate('account', options => '{"lost_events": "ignore"}') \g /dev/null
SELECT results_eq($$ SELECT version, events_read FROM evstore.load_aggregate('account-keep') $$, 'VALUES (99::bigint, 20::bigint)', 'or what is left is all, if one says so');
SELECT evstore.alter_aggregate('account', state_version => 1, options => '{"lost_events": "error"}') \g /dev/null
SELECT evstore.truncate_stream('account-keep', 81) \g /dev/null
SELECT is((SELECT version FROM evstore.load_snapshot('account-keep')), NULL, 'a snapshot whose own event is gone does not count');
SELECT is(pg_temp.outcome($$ SELECT evstore.load_aggregate('account-keep') $$), '55000', 'so the state is lost');
SELECT is((SELECT count(*) FROM evstore.snapshots WHERE stream = 'account-keep'), 1::bigint, 'it is still there');
SELECT count(*) FROM evstore.scavenge() \g /dev/null
SELECT is((SELECT count(*) FROM evstore.snapshots WHERE stream = 'account-keep'), 0::bigint, 'until scavenge()');
SELECT evstore.truncate_stream('account-keep', 100) \g /dev/null
SELECT is(pg_temp.outcome($$ SELECT evstore.load_aggregate('account-keep') $$), '55000', 'no event is left, and they are not forgotten');

-- a limit that has been and is no more
SELECT bank.fill('account-limit', 21) \g /dev/null
SELECT bank.save('account-limit', 20, bank.full_fold('account-limit')) \g /dev/null
SELECT evstore.set_stream('account-limit', max_count => 10) \g /dev/null
SELECT is((SELECT snapshot_version FROM evstore.load_aggregate('account-limit')), 20::bigint, 'max_count hides what is in the snapshot');
SELECT count(*) FROM evstore.scavenge() \g /dev/null
SELECT evstore.set_stream('account-limit', max_count => 0) \g /dev/null
SELECT evstore.alter_aggregate('account', state_version => 2) \g /dev/null
SELECT is(pg_temp.outcome($$ SELECT evstore.load_aggregate('account-limit') $$), '55000', 'what was removed is missed after the limit, too');
SELECT evstore.alter_aggregate('account', state_version => 1) \g /dev/null
-- as a save that has not seen the scavenge would leave it
INSERT INTO evstore.snapshot SELECT s.id, 5, clock_timestamp(), clock_timestamp(), 1, '{"n": -1}' FROM evstore.stream AS s WHERE s.name = 'account-limit';
DELETE FROM evstore.snapshot WHERE version = 20;
SELECT is((SELECT version FROM evstore.load_snapshot('account-limit')), NULL, 'a snapshot of an event that was removed does not count again');
SELECT bank.fill('account-old', 5) \g /dev/null
SELECT evstore.set_stream('account-old', max_age => '1 hour') \g /dev/null
SELECT set_config('evstore.now_override', (clock_timestamp() + interval '2 hours')::text, false) \g /dev/null
SELECT is(pg_temp.outcome($$ SELECT evstore.load_aggregate('account-old') $$), '55000', 'max_age has hidden all of it');
SELECT evstore.append('account-old', 'Doubled') \g /dev/null
SELECT is(pg_temp.outcome($$ SELECT evstore.load_aggregate('account-old') $$), '55000', 'or all but the last');
SELECT set_config('evstore.now_override', '', false) \g /dev/null

SELECT bank.fill('account-again', 10) \g /dev/null
SELECT bank.save('account-again', 9, bank.full_fold('account-again')) \g /dev/null
SELECT evstore.delete_stream('account-again') \g /dev/null
SELECT results_eq($$ SELECT state, version, snapshot_version FROM evstore.load_aggregate('account-again') $$,
	$$ VALUES ('{"n": 0, "sum": 1}'::jsonb, -1::bigint, NULL::bigint) $$, 'a deleted stream has the initial state');
SELECT is((SELECT version FROM evstore.load_snapshot('account-again')), NULL, 'and no snapshot');
SELECT is(pg_temp.outcome($$ SELECT evstore.save_snapshot('account-again', 9, '{}', 1) $$), 'VS004', 'nor can one be saved');
SELECT evstore.append('account-again', 'Added', '{"amount": 1}') \g /dev/null
SELECT results_eq($$ SELECT state, version, snapshot_version FROM evstore.load_aggregate('account-again') $$,
	$$ VALUES ('{"n": 1, "sum": 4}'::jsonb, 10::bigint, NULL::bigint) $$, 'begun again, nothing of its former life is left');
SELECT is(pg_temp.outcome($$ SELECT evstore.save_snapshot('account-again', 9, '{}', 1) $$), '22023', 'and none of its former versions can be saved');
SELECT bank.save('account-again', 10, bank.full_fold('account-again')) \g /dev/null
SELECT evstore.alter_aggregate('account', state_version => 2) \g /dev/null
SELECT is((SELECT events_read FROM evstore.load_aggregate('account-again')), 1::bigint, 'of its new life nothing is lost');
SELECT evstore.alter_aggregate('account', state_version => 1, options => '{"lost_events": "ignore"}') \g /dev/null
SELECT evstore.prune_snapshots('account-again', 0) \g /dev/null
SELECT evstore.truncate_stream('account-again', 11) \g /dev/null
SELECT results_eq($$ SELECT version, events_read FROM evstore.load_aggregate('account-again') $$, 'VALUES (10::bigint, 0::bigint)', 'all truncated: the version to append with is known');

-- ---- unknown events, failures ----

SELECT evstore.append_events('account-odd', '[{"type": "Added", "data": {"amount": 1}}, {"type": "Nobody knows"}]') \g /dev/null
SELECT is((SELECT state FROM evstore.load_aggregate('account-odd')), '{"n": 1, "sum": 4}', 'an unknown event changes nothing');
SELECT evstore.alter_aggregate('account', options => '{"unknown_event": "error"}') \g /dev/null
SELECT throws_ok($$ SELECT evstore.load_aggregate('account-odd') $$, 'VS012', 'transition bank.apply(jsonb,evstore.event) does not know the event type "Nobody knows"', 'or is an error');
SELECT evstore.append('account-bad', 'Failed', '{"zero": 0}') \g /dev/null
SELECT is(pg_temp.outcome($$ SELECT evstore.load_aggregate('account-bad') $$), '22012', 'an error of the transition is passed on');

-- ---- fold() ----

SELECT is((SELECT evstore.fold(e, 'bank.apply_slowly(jsonb,evstore.event)', '{"n": 0, "sum": 1}' ORDER BY e.version) FROM evstore.read_stream('account-random-2') AS e),
	bank.full_fold('account-random-2'), 'fold() without a definition');
SELECT is_empty($$ SELECT e.stream FROM evstore.events AS e WHERE e.stream LIKE 'account-random-%' GROUP BY e.stream
	HAVING evstore.fold(ROW(e.*)::evstore.event, 'bank.apply(jsonb,evstore.event)', '{"n": 0, "sum": 1}' ORDER BY e.version) <> bank.full_fold(e.stream) $$, 'in groups, from the view');
SELECT is((SELECT evstore.fold(e, 'bank.apply(jsonb,evstore.event)', '{}' ORDER BY e.version) FROM evstore.read_stream('account-none') AS e), NULL, 'of nothing: null');
SELECT is(pg_temp.outcome($$ SELECT evstore.fold(e, 'bank.apply(jsonb,evstore.event)', '{"n": 0, "sum": 1}' ORDER BY e.version DESC) FROM evstore.read_stream('account-random-2') AS e $$), '22023', 'in the wrong order');
SELECT is(pg_temp.outcome($$ SELECT evstore.fold(e, 'bank.apply(jsonb,evstore.event)', '{"n": 0, "sum": 1}' ORDER BY e.version) FROM evstore.read_stream('account') AS e WHERE e.version <> 2 $$), '22023', 'with a gap');
SELECT results_eq($$ SELECT e.version, evstore.fold(e, 'bank.apply(jsonb,evstore.event)', '{"n": 0, "sum": 1}') OVER (ORDER BY e.version) FROM evstore.read_stream('account') AS e $$,
	$$ SELECT v, bank.full_fold('account', v) FROM generate_series(0::bigint, 4) AS v $$, 'over a window: the state after each event');
SELECT is(pg_temp.outcome($$ SELECT evstore.fold(e, NULL, '{}') FROM evstore.read_stream('account') AS e $$), '22004', 'null for a transition');
SELECT is(pg_temp.outcome($$ SELECT evstore.fold(ROW()::evstore.event, 'bank.apply(jsonb,evstore.event)', '{}') $$), '42846', 'no event');

-- a state that does not fit into a page, and one of 0 bytes
CREATE FUNCTION bank.collect(state jsonb, e evstore.event) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT state || jsonb_build_array(e.data) $$;
SELECT evstore.create_aggregate('pile', '[]', 'bank.collect(jsonb,evstore.event)') \g /dev/null
SELECT count(evstore.append('pile-1', 'Piled', to_jsonb(repeat(chr(65 + i), 300000)))) FROM generate_series(1, 10) AS i \g /dev/null
SELECT evstore.save_snapshot('pile-1', version, state, state_version) FROM evstore.aggregate_at_version('pile-1', 5) \g /dev/null
SELECT results_eq($$ SELECT snapshot_version, jsonb_array_length(state), length(state ->> 9), left(state ->> 9, 1) FROM evstore.load_aggregate('pile-1') $$,
	$$ VALUES (5::bigint, 10, 300000, 'K') $$, 'large states, from a compressed snapshot');

-- ---- rights ----

CREATE ROLE bank_reader;
CREATE ROLE bank_writer;
CREATE ROLE bank_admin;
SELECT evstore.grant_access('bank_reader', 'reader'), evstore.grant_access('bank_writer', 'writer'), evstore.grant_access('bank_admin', 'admin') \g /dev/null
GRANT USAGE ON SCHEMA bank TO bank_reader, bank_writer, bank_admin;
SELECT results_eq($$ SELECT r.role, s.what, pg_temp.outcome(s.query, 'bank_' || r.role) = 'ok' FROM unnest('{reader,writer,admin}'::text[]) AS r (role), (VALUES
		('load', $q$ SELECT evstore.load_aggregate('account-random-3') $q$),
		('save', $q$ SELECT evstore.save_snapshot('pile-1', 6, '[]', 1) $q$),
		('prune', $q$ SELECT evstore.prune_snapshots('none') $q$),
		('define', $q$ SELECT evstore.create_aggregate('mine', '{}', 'bank.apply(jsonb,evstore.event)') $q$)) AS s (what, query) $$,
	$$ VALUES ('reader', 'load', true), ('reader', 'save', false), ('reader', 'prune', false), ('reader', 'define', false),
		('writer', 'load', true), ('writer', 'save', true), ('writer', 'prune', false), ('writer', 'define', false),
		('admin', 'load', true), ('admin', 'save', true), ('admin', 'prune', true), ('admin', 'define', true) $$, 'who may load, save, prune, define');
SELECT evstore.alter_aggregate('account', options => '{"unknown_event": "ignore"}') \g /dev/null
REVOKE EXECUTE ON FUNCTION bank.apply(jsonb, evstore.event) FROM PUBLIC;
SELECT is(pg_temp.outcome($$ SELECT evstore.load_aggregate('account-random-3') $$, 'bank_reader'), '42501', 'the transition runs with the rights of the caller');
SELECT is(pg_temp.outcome($$ SELECT evstore.fold(e, 'bank.apply(jsonb,evstore.event)', '{"n": 0, "sum": 1}' ORDER BY e.version) FROM evstore.read_stream('account') AS e $$, 'bank_reader'), '42501', 'in fold(), too');

-- ---- drop ----

SELECT is((SELECT count(*) FROM evstore.snapshots WHERE stream LIKE 'account%') > 0, true, 'there are snapshots');
SELECT evstore.drop_aggregate('account') \g /dev/null
SELECT is_empty($$ SELECT * FROM evstore.snapshots WHERE stream LIKE 'account%' $$, 'drop_aggregate() removes them');
SELECT is((SELECT count(*) FROM evstore.snapshots WHERE stream = 'pile-1'), 2::bigint, 'and no others');
SELECT evstore.create_aggregate('loose', '{}', 'bank.apply(jsonb,evstore.event)') \g /dev/null
SELECT is((SELECT count(*) FROM evstore.snapshots WHERE stream = 'loose-1'), 0::bigint, 'a new aggregate does not begin with what somebody else has saved');
SELECT results_eq($$ SELECT action, count(*) > 0 FROM evstore.audit_log WHERE action LIKE '%aggregate' OR action LIKE '%snapshots' GROUP BY action ORDER BY 1 $$,
	$$ VALUES ('drop_aggregate', true), ('prune_snapshots', true) $$, 'what is removed is written down');

SELECT finish();
