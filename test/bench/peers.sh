#!/bin/bash
#
# peers.sh
#
# Measure evstore against other systems on the same server: PgQ (a queue, from
# Debian), message-db and Emmett (event stores, from npm).  One event a call, 10,000
# streams of one category, durable commits; and taking them out again, from PgQ.  What
# is missing is installed: PgQ with apt-get, the npm packages below tmp_bench; a system
# that cannot be had is left out.
#
# A call is what the system's client library sends, but as a prepared statement and
# without a transaction around it, which spares the peers round trips.

. "$(dirname "$0")/lib.sh"
. "$BENCH_DIR/cases/consume.sh"

PEERS=(pgq message_db emmett)
CONSUME_FROM_PGQ=1
NPM_PACKAGES=(@eventide/message-db@1.3.1 @event-driven-io/emmett-postgresql@0.42.0 @event-driven-io/emmett@0.42.0
	@event-driven-io/pongo@0.16.11 pg@8)

# Before the private installation is made, since it takes its files from the system's.
install_packages() {
	find_postgres
	local control
	control=$("$PG_CONFIG" --sharedir)/extension/pgq.control
	if { wanted pgq || wanted pgq_consume; } && [[ ! -f $control ]] && ((EUID == 0)) && command -v apt-get >/dev/null; then
		progress 'installing PgQ'
		DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "postgresql-$PG_MAJOR-pgq3" \
			>/dev/null 2>&1 || true
	fi
	[[ -f $control ]] || { leave_out pgq; CONSUME_FROM_PGQ=; }
}

install_npm_packages() {
	wanted message_db || wanted emmett || return 0
	progress 'installing the npm packages'
	mkdir -p "$TMP/npm"
	[[ -f $TMP/npm/package.json ]] || echo '{"private": true}' >"$TMP/npm/package.json"
	if ! (cd "$TMP/npm" && npm install --no-audit --no-fund --no-save --loglevel=error "${NPM_PACKAGES[@]}") >"$TMP/npm.log" 2>&1; then
		leave_out message_db
		leave_out emmett
	fi
}

leave_out() {
	local peer kept=()
	for peer in "${PEERS[@]}"; do
		if [[ $peer == "$1" ]]; then
			! wanted "$1" || say "$1 is not to be had here; left out"
		else
			kept+=("$peer")
		fi
	done
	PEERS=("${kept[@]}")
}

# --- each system: its database with STREAMS streams of one event, and its workload ---

setup_evstore() {
	evstore_database evstore
	evstore_load evstore 1 "$STREAMS" 1
	workload evstore <<-END
		\set s random(1, $STREAMS)
		SELECT * FROM evstore.append('account-' || :s, :t@K@, :p@K@);
	END
}

setup_pgq() {
	createdb pgq
	sql -d pgq -c 'CREATE EXTENSION pgq' -c "SELECT pgq.create_queue('account')" >/dev/null
	workload pgq <<-'END'
		SELECT pgq.insert_event('account', :t@K@, :p@K@);
	END
}

setup_message_db() {
	DATABASE_NAME=message_db bash "$TMP/npm/node_modules/@eventide/message-db/database/install.sh" >"$TMP/message_db.log" 2>&1 ||
		{ tail -n 5 "$TMP/message_db.log" >&2; die 'message-db does not install'; }
	sql -d message_db -c 'ALTER DATABASE message_db SET search_path = message_store, public'
	sql -d message_db -o /dev/null \
		-c "SELECT write_message(gen_random_uuid()::text, 'account-' || s, 'AccountOpened', '{}') FROM generate_series(1, $STREAMS) s"
	workload message_db <<-END
		\set s random(1, $STREAMS)
		SELECT message_store.write_message(CAST(gen_random_uuid() AS varchar), 'account-' || :s, :t@K@, :p@K@);
	END
}

setup_emmett() {
	createdb emmett
	(cd "$TMP/npm" && node -e '
		const { getPostgreSQLEventStore } = require("@event-driven-io/emmett-postgresql");
		const store = getPostgreSQLEventStore(process.argv[1]);
		store.schema.migrate().then(() => store.close()).then(() => process.exit(0),
			(error) => { console.error(error); process.exit(1); });
	' "postgresql://$PGUSER@/emmett?host=$PGHOST") >"$TMP/emmett.log" 2>&1 ||
		{ tail -n 5 "$TMP/emmett.log" >&2; die 'the Emmett schema does not install'; }
	emmett_call "'account-' || s" "'AccountOpened'" "'{}'" "generate_series(1, $STREAMS) s," |
		sql -d emmett -o /dev/null -f -
	{
		printf '\\set s random(1, %s)\n' "$STREAMS"
		emmett_call "'account-' || :s" ':t@K@' ':p@K@' ''
	} | workload emmett
}

# emmett_call STREAM TYPE DATA FROM: as callAppendToStream of the package, without an
# expected version.  pgbench would take the colon in 'emt:default' for a variable's.
emmett_call() {
	cat <<-END
		SELECT a.* FROM $4 emt_append_to_stream(
			ARRAY[CAST(gen_random_uuid() AS text)], CAST(ARRAY[$3] AS jsonb[]), ARRAY['{}']::jsonb[], ARRAY['1']::text[],
			CAST(ARRAY[$2] AS text[]), ARRAY['E']::text[], $1, 'account', NULL::bigint, 'emt' || chr(58) || 'default') a;
	END
}

# Emmett's function answers false instead of failing when another session was
# faster, so what counts is what is stored.  The others store what they are asked to.
stored_evstore() { sql -d evstore -c 'SELECT count(*) FROM evstore.event_log'; }
stored_pgq() { sql -d pgq -c 'SELECT count(*) FROM pgq.event_template'; }
stored_message_db() { sql -d message_db -c 'SELECT count(*) FROM messages'; }
stored_emmett() { sql -d emmett -c 'SELECT count(*) FROM emt_messages'; }

# --- measuring ---

# events SYSTEM CLIENTS: events stored a second
events() {
	local system=$1 before tps
	if [[ $system != emmett ]]; then
		rate "$system" "$2" 1 "$system"
		return
	fi
	before=$(stored_emmett)
	tps=$(rate emmett "$2" 1 emmett)
	awk -v tps="$tps" -v stored="$(($(stored_emmett) - before))" \
		'/actually processed/ { printf "%.1f\n", tps * stored / $NF }' "$TMP/pgbench.out"
}

target_of() {
	case $1-$2 in
	pgq-*) echo 0.9 ;;
	message_db-32) echo 4 ;;
	emmett-*) echo 2 ;;
	*) echo - ;;
	esac
}

# The same events, in the same database; a batch is between two ticks, of which there
# is one for each hundred events, as a ticker would have made them by and by.
prepare_pgq_consume() {
	prepare_consume
	sql -d consume -o /dev/null <<-'SQL'
		CREATE EXTENSION pgq;
		SELECT pgq.create_queue('account');
		SELECT pgq.set_queue_config('account', 'ticker_max_count', '1');
		SELECT pgq.ticker('account');
		CREATE PROCEDURE public.fill_queue() LANGUAGE plpgsql AS $$
		DECLARE
			e record;
			n int := 0;
		BEGIN
			FOR e IN SELECT type, data::text FROM evstore.events ORDER BY "position" LOOP
				PERFORM pgq.insert_event('account', e.type, e.data);
				n := n + 1;
				IF n % 100 = 0 THEN
					COMMIT;
					PERFORM pgq.ticker('account');
					COMMIT;
				END IF;
			END LOOP;
		END $$;
	SQL
	PGOPTIONS="$PGOPTIONS -c synchronous_commit=off" sql -d consume -c 'CALL public.fill_queue()' -c 'VACUUM (ANALYZE)'
}

# Each time a new consumer, which begins at the first tick.
pgq_consumed() {
	local consumer=c$EPOCHREALTIME
	sql -d consume -o /dev/null -c "SELECT pgq.register_consumer_at('account', '$consumer', min(tick_id)) FROM pgq.tick"
	"$CLIENT" consume consume pgq "$consumer" 1 "$BENCH_BACKLOG" "$BENCH_SECONDS"
}

# What an event takes: SIZE_EVENTS events by eight clients, after a checkpoint.  The
# first change to a page after it puts the whole page into the WAL, told apart here.
SIZE_EVENTS=50000

measure_sizes() {
	local system=$1 stored before start end wal
	before=$(relation_sizes "$system")
	stored=$("stored_$system")
	sql -d "$system" -c CHECKPOINT -c 'CREATE EXTENSION IF NOT EXISTS pg_walinspect'
	start=$(sql -d "$system" -c 'SELECT pg_current_wal_insert_lsn()')
	run_events "$system"
	end=$(sql -d "$system" -c 'SELECT pg_current_wal_insert_lsn()')
	stored=$(($("stored_$system") - stored))
	wal=$(sql -d "$system" -c "SELECT '$end'::pg_lsn - '$start', sum(fpi_size) FROM pg_get_wal_stats('$start', '$end')")
	fact "$system: bytes an event, heap, indexes, WAL, page images in it" "$(
		printf '%s\n' "$before" "$(relation_sizes "$system")" "$wal" | awk -F '|' -v n="$stored" '
			NR == 1 { heap = -$1; indexes = -$2 }
			NR == 2 { heap += $1; indexes += $2 }
			NR == 3 { printf "%6.0f %6.0f %6.0f %6.0f", heap / n, indexes / n, $1 / n, $2 / n }'
	)"
}

# heap|indexes of all tables of users, TOAST with the heap
relation_sizes() {
	sql -d "$1" -c "SELECT sum(pg_table_size(c.oid)), sum(pg_indexes_size(c.oid)) FROM pg_class c
		JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
}

run_events() {
	local files=() file
	for file in "$WORK/scripts/$1".*.sql; do
		files+=(-f "$file")
	done
	pgbench -n -M prepared -c 8 -j 2 -t $((SIZE_EVENTS / 8)) "${PARAMETERS[@]}" "${files[@]}" "$1" >"$TMP/pgbench.out" 2>&1
}

clear_pg_environment
install_packages
bench_init
install_npm_packages
make_parameters
bench_server peers
print_machine
for system in "${PEERS[@]}"; do
	wanted "$system" || leave_out "$system"
done
SYSTEMS=("${PEERS[@]}")
((${#PEERS[@]} == 0)) || SYSTEMS=(evstore "${PEERS[@]}")
for system in "${SYSTEMS[@]}"; do
	progress "setting up $system"
	"setup_$system"
	warm_up "$system" 8 1 "$system"
done
print_head
for system in "${PEERS[@]}"; do
	for clients in 1 8 32; do
		compare "$system" "$clients clients, 1 event a call" "$(target_of "$system" "$clients")" \
			"events evstore $clients" "events $system $clients"
	done
done
if [[ -n $CONSUME_FROM_PGQ ]] && { wanted pgq || wanted pgq_consume; }; then
	progress 'setting up pgq_consume'
	prepare_pgq_consume
	compare pgq_consume '1 consumer, fetch 100 and ack; batches of 100' 1 'consumed one 1' pgq_consumed
fi
say
for system in "${SYSTEMS[@]}"; do
	measure_sizes "$system"
done
say
print_table
json_results "$TMP/peers.json"
say "written to ${TMP#"$ROOT/"}/peers.json"
