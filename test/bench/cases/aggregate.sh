# shellcheck shell=bash
#
# Loading aggregates: a fold in C against the loop that one would write in PL/pgSQL,
# with the same transition function; and a load from snapshots against the fold.

case_aggregate() {
	prepare_aggregates
	compare aggregate 'fold of 10,000 events; loop in PL/pgSQL' 1.5 fold_all loop_all
	compare aggregate 'the same with a transition in PL/pgSQL' - fold_slowly loop_slowly
	compare aggregate 'load with a snapshot each 100 events; fold of 10,050' 50 load_snapshots load_without
}

fold_all() { rate fold_all 1 10000 aggregate; }
loop_all() { rate loop_all 1 10000 aggregate; }
fold_slowly() { rate fold_slowly 1 10000 aggregate; }
loop_slowly() { rate loop_slowly 1 10000 aggregate; }
# many in a statement: a round trip of the client takes as long as a load
load_snapshots() { rate load_snapshots 1 100 aggregate; }
load_without() { rate load_without 1 2 aggregate; }

prepare_aggregates() {
	evstore_database aggregate
	sql -d aggregate -o /dev/null <<-'SQL'
		CREATE FUNCTION apply(state jsonb, e evstore.event) RETURNS jsonb LANGUAGE sql STABLE AS $$
			SELECT CASE e.type
				WHEN 'Deposited' THEN jsonb_build_object('balance', (state ->> 'balance')::int + (e.data ->> 'amount')::int, 'n', (state ->> 'n')::int + 1)
				WHEN 'Withdrawn' THEN jsonb_build_object('balance', (state ->> 'balance')::int - (e.data ->> 'amount')::int, 'n', (state ->> 'n')::int + 1)
			END $$;
		CREATE FUNCTION apply_slowly(state jsonb, e evstore.event) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
		BEGIN
			RETURN CASE e.type
				WHEN 'Deposited' THEN jsonb_build_object('balance', (state ->> 'balance')::int + (e.data ->> 'amount')::int, 'n', (state ->> 'n')::int + 1)
				WHEN 'Withdrawn' THEN jsonb_build_object('balance', (state ->> 'balance')::int - (e.data ->> 'amount')::int, 'n', (state ->> 'n')::int + 1)
			END;
		END $$;
		CREATE FUNCTION loop(s text) RETURNS jsonb LANGUAGE plpgsql AS $$
		DECLARE
			state jsonb := '{"balance": 0, "n": 0}';
			e evstore.event;
		BEGIN
			FOR e IN SELECT * FROM evstore.read_stream(s) LOOP
				state := apply(state, e);
			END LOOP;
			RETURN state;
		END $$;
		CREATE FUNCTION loop_slowly(s text) RETURNS jsonb LANGUAGE plpgsql AS $$
		DECLARE
			state jsonb := '{"balance": 0, "n": 0}';
			e evstore.event;
		BEGIN
			FOR e IN SELECT * FROM evstore.read_stream(s) LOOP
				state := apply_slowly(state, e);
			END LOOP;
			RETURN state;
		END $$;
		SELECT evstore.create_aggregate(c, '{"balance": 0, "n": 0}', f::regprocedure, options => '{"keep": 1000}')
		FROM (VALUES ('fast', 'apply(jsonb,evstore.event)'), ('slow', 'apply_slowly(jsonb,evstore.event)')) t (c, f);
		SELECT evstore.append_events(s, (SELECT jsonb_agg(jsonb_build_object('type', CASE WHEN i % 3 = 0 THEN 'Withdrawn' ELSE 'Deposited' END,
				'data', jsonb_build_object('amount', i % 100))) FROM generate_series(1, n) i))
		FROM (VALUES ('fast-1', 10000), ('slow-1', 10000), ('fast-2', 10050), ('fast-3', 10050)) t (s, n);
		SELECT evstore.save_snapshot('fast-2', l.version, l.state, l.state_version)
		FROM generate_series(99, 9999, 100) v, LATERAL evstore.aggregate_at_version('fast-2', v) l;
		VACUUM ANALYZE;
	SQL
	check_aggregates
	one_script fold_all <<<"SELECT state FROM evstore.load_aggregate('fast-1');"
	one_script loop_all <<<"SELECT loop('fast-1');"
	one_script fold_slowly <<<"SELECT state FROM evstore.load_aggregate('slow-1');"
	one_script loop_slowly <<<"SELECT loop_slowly('slow-1');"
	one_script load_snapshots <<<"SELECT count(l.state) FROM generate_series(1, 100) i, evstore.load_aggregate('fast-2' || substr('', i)) l;"
	one_script load_without <<<"SELECT count(l.state) FROM generate_series(1, 2) i, evstore.load_aggregate('fast-3' || substr('', i)) l;"
}

# All ways must come to the same.
check_aggregates() {
	[[ $(sql -d aggregate -c "SELECT (SELECT state FROM evstore.load_aggregate('fast-1')) = loop('fast-1')
			AND (SELECT state FROM evstore.load_aggregate('slow-1')) = loop_slowly('slow-1')
			AND (SELECT (state, version, events_read) FROM evstore.load_aggregate('fast-2')) = ROW(loop('fast-2'), 10049::bigint, 50::bigint)") == t ]] ||
		die 'the states differ'
}
