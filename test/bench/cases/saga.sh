# shellcheck shell=bash
#
# Sagas: four steps against a procedure that does the same writes in four transactions;
# what instances that wait cost; and how soon a task reaches who waits for it.
#
# Both sides wait for the disk with each transaction, or, with the option durable = false,
# neither does.

SAGA_INSTANCES=1000
SAGA_WAITING=100000
SAGA_RATE=200

case_saga() {
	prepare_sagas
	compare saga '1,000 with four SQL steps; PL/pgSQL, four transactions' 0.5 'sagas_run trip' 'by_hand on'
	compare saga 'the same, neither waits for the disk' 0.5 'sagas_run hasty_trip' 'by_hand off'
	case_saga_latency
	case_saga_idle
}

# What is done by hand is what evstore does: look at the rows of a saga of four.
prepare_sagas() {
	evstore_database saga
	sql -d saga -o /dev/null <<-'END'
		CREATE TABLE public.booking (id bigserial PRIMARY KEY, what text NOT NULL, trip text NOT NULL);
		CREATE FUNCTION book(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
		DECLARE
			id bigint;
		BEGIN
			INSERT INTO public.booking (what, trip) VALUES (p ->> 'what', p ->> 'trip') RETURNING booking.id INTO id;
			RETURN jsonb_build_object('booking', id);
		END $$;
		SELECT evstore.create_saga(name, jsonb_build_object('asl', asl, 'options', jsonb_build_object('durable', name = 'trip')))
		FROM unnest('{trip,hasty_trip}'::text[]) name,
			(SELECT jsonb_build_object('StartAt', 'Step1', 'States',
				jsonb_object_agg('Step' || i, jsonb_build_object('Type', 'Task', 'Resource', 'evstore:sql:public.book',
					'Parameters', jsonb_build_object('what', 'part ' || i, 'trip.$', '$.trip'), 'ResultPath', '$.part' || i)
					|| CASE WHEN i < 4 THEN jsonb_build_object('Next', 'Step' || i + 1) ELSE '{"End": true}' END)) AS asl
			FROM generate_series(1, 4) i) four;

		CREATE SCHEMA hand;
		CREATE TABLE hand.instance (LIKE evstore.saga_instance INCLUDING ALL);
		CREATE TABLE hand.step (LIKE evstore.saga_step INCLUDING ALL);
		CREATE FUNCTION hand.history(id uuid, events jsonb) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM evstore.append_events('saga-' || id, events);
		END $$;
		CREATE PROCEDURE hand.start(n integer) LANGUAGE plpgsql AS $$
		DECLARE
			id uuid;
		BEGIN
			TRUNCATE hand.instance, hand.step;
			FOR i IN 1 .. n LOOP
				id := gen_random_uuid();
				INSERT INTO hand.instance (id, definition_id, version, status, priority, next_due, started_after, started_at, updated_at, input, execution)
				VALUES (id, 1, 1, 'running', 5, now(), 0, now(), now(), jsonb_build_object('trip', 't' || i), jsonb_build_object('trip', 't' || i));
				PERFORM hand.history(id, jsonb_build_array(jsonb_build_object('type', 'SagaStarted', 'data', jsonb_build_object('trip', 't' || i))));
			END LOOP;
		END $$;
		CREATE PROCEDURE hand.run() LANGUAGE plpgsql AS $$
		DECLARE
			ids uuid[] := ARRAY(SELECT i.id FROM hand.instance i);
			one hand.instance;
			payload jsonb;
			result jsonb;
			events jsonb;
		BEGIN
			FOR k IN 1 .. 4 LOOP
				FOR i IN 1 .. cardinality(ids) LOOP
					SELECT * INTO one FROM hand.instance h WHERE h.id = ids[i] AND h.status = 'running' FOR UPDATE;
					payload := jsonb_build_object('what', 'part ' || k, 'trip', one.execution -> 'trip');
					result := book(payload);
					INSERT INTO hand.step (saga_id, step, state, visit, attempt, kind, resource, status, outcome, started_at, ended_at, input, output)
					VALUES (one.id, k, 'Step' || k, 1, 1, 'sql', 'evstore:sql:public.book', 'succeeded', 'succeeded', now(), now(), payload, result);
					events := jsonb_build_array(
						jsonb_build_object('type', 'StepStarted', 'data', jsonb_build_object('step', k, 'state', 'Step' || k, 'input', payload)),
						jsonb_build_object('type', 'StepSucceeded', 'data', jsonb_build_object('step', k, 'state', 'Step' || k, 'output', result)));
					IF k = 4 THEN
						events := events || jsonb_build_object('type', 'SagaSucceeded', 'data', jsonb_build_object('output', one.execution));
					END IF;
					PERFORM hand.history(one.id, events);
					UPDATE hand.instance h
					SET execution = h.execution || jsonb_build_object('part' || k, result), updated_at = now(), transitions = k,
						next_due = CASE WHEN k < 4 THEN now() END, status = CASE WHEN k < 4 THEN 'running' ELSE 'succeeded' END,
						ended_at = CASE WHEN k = 4 THEN now() END, output = CASE WHEN k = 4 THEN h.execution END
					WHERE h.id = one.id;
					COMMIT;
				END LOOP;
			END LOOP;
		END $$;

		-- until all have ended: the index has those that have not
		CREATE PROCEDURE all_ended() LANGUAGE plpgsql AS $$
		BEGIN
			WHILE EXISTS (SELECT FROM evstore.saga_instance i WHERE i.status = 'running') LOOP
				COMMIT;
				PERFORM pg_sleep(0.002);
			END LOOP;
		END $$;
	END
}

# seconds_of STATEMENT...
seconds_of() {
	{
		printf '%s\n' 'SELECT clock_timestamp() AS begun \gset'
		printf '%s;\n' "$@"
		printf '%s\n' "SELECT 'took ' || extract(epoch FROM clock_timestamp() - :'begun'::timestamptz);"
	} | sql -d saga | sed -n 's/^took //p'
}

# sagas_run SAGA
sagas_run() {
	quotient "$SAGA_INSTANCES" "$(seconds_of \
		"SELECT count(evstore.start_saga('$1', jsonb_build_object('trip', 't' || i))) FROM generate_series(1, $SAGA_INSTANCES) i" \
		'CALL all_ended()')"
	check_sagas "$(sql -d saga -c "SELECT count(*) FROM evstore.saga_step")" 4
}

# by_hand SYNCHRONOUS_COMMIT
by_hand() {
	quotient "$SAGA_INSTANCES" "$(seconds_of "SET synchronous_commit = $1" "CALL hand.start($SAGA_INSTANCES)" 'CALL hand.run()')"
	check_sagas "$(sql -d saga -c 'SELECT count(*) FROM hand.step')" 4
}

# check_sagas STEPS FOR_EACH
check_sagas() { (($1 > 0 && $1 % (SAGA_INSTANCES * $2) == 0)) || die "$1 steps were done"; }

# ---- tasks ----

case_saga_latency() {
	local i way
	sql -d saga -o /dev/null <<-'END'
		SELECT evstore.create_saga('task', '{"StartAt": "Do", "States": {"Do": {"Type": "Task", "Resource": "evstore:activity:bench", "End": true}}}');
		CREATE SEQUENCE serial;
		CREATE FUNCTION start_numbered() RETURNS bigint LANGUAGE sql AS $$
			SELECT n FROM nextval('serial') n, evstore.start_saga('task', jsonb_build_object('n', n)) $$;
		CREATE FUNCTION take_tasks(bigint) RETURNS bigint LANGUAGE sql AS $$
			SELECT max((t.input ->> 'n')::bigint) FROM evstore.fetch_tasks('bench', 'c', 100, 10000) t $$;
		SELECT evstore.create_subscription('latency', start => 'end', filter => '{"categories": ["account"]}');
	END
	rm -f "$TMP"/*.times
	for ((i = 0; i < BENCH_RUNS; i++)); do
		for way in fetch tasks; do
			"$CLIENT" latency saga "$way" "$SAGA_RATE" "$BENCH_SECONDS" >"$TMP/$way.$i.times"
		done
	done
	compare_times saga tasks fetch 'a task from the start of its saga, a waiting fetch' '<=3'
	sql -d saga -o /dev/null -c "SELECT evstore.drop_saga('task', force => true)"
}

# ---- what waits ----

case_saga_idle() {
	local from reads
	sql -d saga -o /dev/null <<-'END'
		SELECT evstore.create_saga('waits', '{"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 864000, "End": true}}}');
	END
	for ((from = 0; from < SAGA_WAITING; from += 10000)); do
		sql -d saga -o /dev/null -c "SELECT count(evstore.start_saga('waits')) FROM generate_series(1, 10000)"
	done
	progress 'waiting for them to wait'
	until [[ $(sql -d saga -c "SELECT count(*) FROM evstore.saga_instance WHERE status = 'running' AND next_due > now() + interval '1 day'") == "$SAGA_WAITING" ]]; do
		sleep 1
	done
	sql -d saga -o /dev/null -c 'VACUUM ANALYZE'
	sleep 2
	reads=$(instances_read)
	record_idle saga "$SAGA_WAITING instances that wait: ms of processor, ms passed" '<=0.01'
	sleep 1
	reads=$(($(instances_read) - reads))
	fact 'rows of waiting instances read meanwhile' "$reads"
	((reads < SAGA_WAITING / 100)) || die 'the instances that wait were scanned'
}

instances_read() {
	sql -d saga -c "SELECT pg_stat_get_tuples_returned(t.oid) + (SELECT sum(pg_stat_get_tuples_returned(i.indexrelid)) FROM pg_index i WHERE i.indrelid = t.oid)
		FROM pg_class t WHERE t.oid = 'evstore.saga_instance'::regclass"
}
