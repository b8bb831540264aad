# shellcheck shell=bash
#
# Projections: against what one would write without them over the same events; what
# they cost the appends; and how soon an event can be seen in its read model.

PROJECTED_STREAMS=2000
PROJECTED_EVENTS=$((PROJECTED_STREAMS * 100))
VISIBLE_RATE=500	# transactions of four events

case_projection() {
	prepare_projections
	compare projection 'an upsert for each event; loop in PL/pgSQL' 0.8 project_each loop_each
	compare projection 'INSERT for each batch of 1,000; for everything' 0.5 project_batches insert_all
	compare projection 'batches in 2 partitions, in one' - project_parted project_batches
	case_projection_cost
	case_projection_visible
}

# The handlers find their tables by the search_path that a projection sets.
prepare_projections() {
	evstore_database projection
	evstore_load projection 1 "$PROJECTED_STREAMS" 100
	sql -d projection -o /dev/null <<-'END'
		CREATE TABLE balance (stream text PRIMARY KEY, n bigint NOT NULL, amount numeric NOT NULL);
		CREATE TABLE entry (position bigint PRIMARY KEY, stream text NOT NULL, type text NOT NULL, amount numeric);
		CREATE FUNCTION each(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO balance AS b VALUES (e.stream, 1, COALESCE((e.data ->> 'amount')::numeric, 0))
			ON CONFLICT (stream) DO UPDATE SET n = b.n + 1, amount = b.amount + excluded.amount;
		END $$;
		CREATE FUNCTION loop_each() RETURNS void LANGUAGE plpgsql AS $$
		DECLARE
			e record;
		BEGIN
			FOR e IN SELECT * FROM evstore.events ORDER BY "position" LOOP
				INSERT INTO balance AS b VALUES (e.stream, 1, COALESCE((e.data ->> 'amount')::numeric, 0))
				ON CONFLICT (stream) DO UPDATE SET n = b.n + 1, amount = b.amount + excluded.amount;
			END LOOP;
		END $$;
		CREATE FUNCTION batch(es evstore.event[]) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO entry SELECT e."position", e.stream, e.type, (e.data ->> 'amount')::numeric FROM unnest(es) e;
		END $$;
		VACUUM ANALYZE;
	END
	add_projection each 'each(evstore.event)' '{"tables": ["balance"]}'
	add_projection batch 'batch(evstore.event[])' '{"tables": ["entry"]}'
	add_projection parted 'batch(evstore.event[])' '{"tables": ["entry"], "partitions": 2}'
}

# Paused when it is not measured.
add_projection() {
	sql -d projection -o /dev/null -c "SELECT evstore.create_projection('$1', '$2', options => '$3')" \
		-c "SELECT evstore.pause_projection('$1')"
}

# timed STATEMENT...: events a second, if they handle all events
timed() {
	local seconds
	seconds=$({
		printf '%s\n' 'SELECT clock_timestamp() AS begun \gset'
		printf '%s;\n' "$@"
		printf '%s\n' "SELECT 'took ' || extract(epoch FROM clock_timestamp() - :'begun'::timestamptz);"
	} | sql -d projection | sed -n 's/^took //p')
	[[ -n $seconds ]] || die "one of these has failed: $*"
	awk -v n="$PROJECTED_EVENTS" -v s="$seconds" 'BEGIN { printf "%.1f\n", n / s }'
}

# by_projection NAME TABLE: it has all events before it, and then they are in the table
by_projection() {
	local rate
	rate=$(timed "SELECT evstore.reset_projection('$1')" "SELECT evstore.wait_for_projection('$1', timeout => '10 minutes')")
	check_rows "$2"
	sql -d projection -o /dev/null -c "SELECT evstore.pause_projection('$1')"
	printf '%s\n' "$rate"
}

by_statement() {
	local rate
	rate=$(timed "TRUNCATE $1" "$2")
	check_rows "$1"
	printf '%s\n' "$rate"
}

check_rows() {
	local events
	events=$(sql -d projection -c "SELECT $([[ $1 == balance ]] && printf 'sum(n)' || printf 'count(*)') FROM $1")
	[[ $events == "$PROJECTED_EVENTS" ]] || die "table $1 has $events events"
}

project_each() { by_projection each balance; }
loop_each() { by_statement balance 'SELECT loop_each()'; }
project_batches() { by_projection batch entry; }
project_parted() { by_projection parted entry; }
insert_all() {
	by_statement entry "INSERT INTO entry SELECT e.\"position\", e.stream, e.type, (e.data ->> 'amount')::numeric FROM evstore.events e"
}

# --- what they cost the appends ---

# In a database of their own: workers of others would only be in the way.
case_projection_cost() {
	evstore_database projected
	evstore_load projected 1 "$STREAMS" 1
	append_workloads
	sql -d projected -o /dev/null <<-'END'
		CREATE TABLE count_1 (type text PRIMARY KEY, n bigint NOT NULL);
		CREATE TABLE count_2 (LIKE count_1 INCLUDING ALL);
		CREATE TABLE count_3 (LIKE count_1 INCLUDING ALL);
		DO $$
		BEGIN
			FOR i IN 1 .. 3 LOOP
				EXECUTE format('CREATE FUNCTION count_%s(es evstore.event[]) RETURNS void LANGUAGE plpgsql AS $f$
					BEGIN
						INSERT INTO count_%1$s AS c SELECT e.type, count(*) FROM unnest(es) e GROUP BY 1
						ON CONFLICT (type) DO UPDATE SET n = c.n + excluded.n;
					END $f$', i);
				PERFORM evstore.create_projection('count_' || i, format('count_%s(evstore.event[])', i)::regprocedure);
			END LOOP;
		END $$;
	END
	warm_up evstore_append 32 1 projected
	compare projection '32 clients append, three projections; none' 0.8 append_projected append_unprojected
}

append_projected() {
	local rate lag
	sql -d projected -o /dev/null -c "SELECT evstore.resume_projection(projection) FROM evstore.projections" \
		-c "SELECT evstore.wait_for_projections(ARRAY(SELECT projection FROM evstore.projections), timeout => '1 minute')"
	rate=$(rate evstore_append 32 1 projected)
	lag=$(sql -d projected -c 'SELECT max(lag_events) FROM evstore.projections')
	progress "behind at the end: $lag events of $(awk -v r="$rate" -v s="$BENCH_SECONDS" 'BEGIN { printf "%d", r * s }')"
	awk -v l="$lag" -v r="$rate" 'BEGIN { exit !(l < r) }' || die 'the projections are more than a second behind'
	printf '%s\n' "$rate"
}

append_unprojected() {
	sql -d projected -o /dev/null -c "SELECT evstore.pause_projection(projection) FROM evstore.projections"
	rate evstore_append 32 1 projected
}

# --- how soon it can be seen ---

case_projection_visible() {
	local i side
	rm -f "$TMP"/*.times
	evstore_database visible
	sql -d visible -o /dev/null <<-'END'
		CREATE TABLE seen (stream text PRIMARY KEY, "position" bigint NOT NULL);
		CREATE TABLE consumed (LIKE seen INCLUDING ALL);
		CREATE FUNCTION see(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO seen AS s VALUES (e.stream, e."position")
			ON CONFLICT (stream) DO UPDATE SET "position" = excluded."position";
		END $$;
		CREATE FUNCTION wait_and_read(after bigint) RETURNS bigint LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM evstore.wait_for_projection('seen', after + 1, '20 s');
			RETURN COALESCE((SELECT s."position" FROM seen s), after);
		END $$;
		CREATE FUNCTION consume_and_write(after bigint) RETURNS bigint LANGUAGE plpgsql AS $$
		DECLARE
			f record;
		BEGIN
			FOR f IN SELECT * FROM evstore.fetch('consumed', 'c', 100, 20000) LOOP
				INSERT INTO consumed AS s VALUES (f.stream, f."position")
				ON CONFLICT (stream) DO UPDATE SET "position" = excluded."position";
				after := f."position";
			END LOOP;
			IF FOUND THEN
				PERFORM evstore.ack('consumed', f.slot, f.epoch, f."position");
			END IF;
			RETURN after;
		END $$;
		SELECT evstore.create_projection('seen', 'see(evstore.event)');
		SELECT evstore.create_subscription('consumed');
	END
	for ((i = 0; i < BENCH_RUNS; i++)); do
		for side in consumer projection; do
			visible_only "$side"
			"$CLIENT" latency visible "$side" "$VISIBLE_RATE" "$BENCH_SECONDS" >"$TMP/$side.$i.times"
		done
	done
	compare_times projection projection consumer '2,000 events/s until seen; waiting fetch, same write' '<=1.5'
}

# Only one of the two has work.
visible_only() {
	if [[ $1 == projection ]]; then
		sql -d visible -o /dev/null -c "SELECT evstore.resume_projection('seen')" \
			-c "SELECT evstore.wait_for_projection('seen', timeout => '1 minute')"
	else
		sql -d visible -o /dev/null -c "SELECT evstore.pause_projection('seen')" -c "SELECT evstore.seek('consumed', 'end')"
	fi
}
