-- The saga of the sample: success, failure of each step and of each compensator, a time-out of
-- each step, replies that come twice, late, or for somebody else.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;

SELECT no_plan();

SELECT evstore.install_sample() \g /dev/null
SELECT evstore.execute_command(sample.stock_stream('pen'), 'sample.receive_stock(jsonb,jsonb)', '{"quantity": 1000}') \g /dev/null
SELECT set_config('evstore.now_override', '2030-01-01T12:00:00Z', false) \g /dev/null

-- The steps with their compensators, in order.
CREATE TABLE part (n integer PRIMARY KEY, state text, step text, compensator text);
INSERT INTO part VALUES (1, 'AcceptOrder', 'accept', 'CancelOrder'), (2, 'ReserveInventory', 'reserve_inventory', 'ReleaseInventory'),
	(3, 'ProcessPayment', 'process_payment', 'RefundPayment'), (4, 'ShipOrder', 'ship', 'CancelShipment'),
	(5, 'SendConfirmation', 'send_confirmation', NULL);

CREATE FUNCTION pg_temp.place(id text) RETURNS text LANGUAGE sql AS $$
	SELECT id FROM evstore.execute_command(sample.order_stream(id), 'sample.place_order(jsonb,jsonb)',
		'{"customer_id": "ann", "items": [{"product_id": "pen", "quantity": 2, "price": 1.25}]}') $$;

-- Go on, from one thing that is due to the next, until nothing is: not in real time.
CREATE PROCEDURE pg_temp.settle(saga text DEFAULT 'sample_order') LANGUAGE plpgsql AS $$
DECLARE
	due timestamptz;
BEGIN
	FOR i IN 1 .. 1000 LOOP
		CONTINUE WHEN evstore.run_sagas(saga => settle.saga) > 0;
		due := (SELECT min(s.next_due) FROM evstore.sagas AS s WHERE s.saga = settle.saga);
		EXIT WHEN due IS NULL OR due < current_setting('evstore.now_override')::timestamptz;
		PERFORM set_config('evstore.now_override', due::text, false);
	END LOOP;
END $$;

-- What is left of an order: status of the saga and of the order, stock that is reserved, payment, shipment, notices
CREATE FUNCTION pg_temp.left_of(id text) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', (SELECT s.status FROM evstore.sagas AS s WHERE s.business_key = id ORDER BY s.started_at DESC LIMIT 1),
		(SELECT l.state ->> 'status' FROM evstore.load_aggregate(sample.order_stream(id)) AS l),
		CASE WHEN (SELECT l.state -> 'reservations' ? id FROM evstore.load_aggregate(sample.stock_stream('pen')) AS l) THEN 'reserved' END,
		(SELECT p.status FROM sample.payment AS p WHERE p.order_id = id),
		(SELECT h.status FROM sample.shipment AS h WHERE h.order_id = id),
		(SELECT string_agg(k.kind, '+' ORDER BY k.kind) FROM sample.notice AS k WHERE k.order_id = id)) $$;

-- States whose steps were undone, in order
CREATE FUNCTION pg_temp.undone(id text) RETURNS text[] LANGUAGE sql AS $$
	SELECT array_agg(o.state ORDER BY c.step) FROM evstore.sagas AS s
		JOIN evstore.saga_steps AS c ON c.saga_id = s.saga_id AND c.compensates IS NOT NULL AND c.status = 'succeeded'
		JOIN evstore.saga_steps AS o ON o.saga_id = s.saga_id AND o.step = c.compensates
	WHERE s.business_key = id $$;

-- ---- success ----

SELECT sample.process_order(pg_temp.place('good')) AS good \gset
SELECT is(sample.process_order('good'), :'good', 'an order is processed once, however often it is asked for');
CALL pg_temp.settle();
SELECT is(pg_temp.left_of('good'), 'succeeded shipped reserved taken sent confirmation', 'an order goes through');
SELECT is((SELECT array_agg(h.type ORDER BY h.version) FROM evstore.saga_history(:'good') AS h WHERE h.type LIKE 'Saga%'),
	'{SagaStarted,SagaSucceeded}', 'with a history');
SELECT is((SELECT array_agg(h.data ->> 'state' ORDER BY h.version) FROM evstore.saga_history(:'good') AS h WHERE h.type = 'StepSucceeded'),
	(SELECT array_agg(p.state ORDER BY p.n) FROM part AS p), 'of all steps, in order');
SELECT is((SELECT s.output -> 'shipment' FROM evstore.sagas AS s WHERE s.saga_id = :'good'), '{"tracking_number": "TN-good"}',
	'what a step has returned is there for the next');

-- ---- the flags of the input ----

SELECT sample.process_order(pg_temp.place('no_stock'), '{"items_available": false}') \g /dev/null
SELECT sample.process_order(pg_temp.place('no_money'), '{"payment_valid": false}') \g /dev/null
CALL pg_temp.settle();
SELECT is(pg_temp.left_of('no_stock'), 'compensated cancelled cancellation', 'items that are not available');
SELECT is(pg_temp.left_of('no_money'), 'compensated cancelled cancellation', 'a card that is declined: the reservation is given up');
SELECT is(pg_temp.undone('no_money'), '{ReserveInventory,AcceptOrder}', 'what was done is undone, the last first; what has failed is not');
SELECT is((SELECT s.error || ': ' || s.cause FROM evstore.sagas AS s WHERE s.business_key = 'no_money'), 'PaymentFailed: card declined', 'and why');

-- more than there is: by the transitions of the stock
SELECT evstore.execute_command(sample.order_stream('many'), 'sample.place_order(jsonb,jsonb)',
	'{"customer_id": "ann", "items": [{"product_id": "pen", "quantity": 1, "price": 1}, {"product_id": "pen", "quantity": 5000, "price": 1}]}') \g /dev/null
SELECT sample.process_order('many') \g /dev/null
CALL pg_temp.settle();
SELECT is(pg_temp.left_of('many'), 'compensated cancelled cancellation', 'nothing is reserved if not all can be');

-- an order that is not there
SELECT sample.process_order('missing') \g /dev/null
CALL pg_temp.settle();
SELECT is((SELECT s.status || ' ' || s.error FROM evstore.sagas AS s WHERE s.business_key = 'missing'), 'failed OrderNotConfirmed', 'an order that does not exist');

-- ---- each step fails, for good ----

CREATE PROCEDURE pg_temp.fail_step(n integer) LANGUAGE plpgsql AS $$
DECLARE
	p part := (SELECT part FROM part WHERE part.n = fail_step.n);
BEGIN
	INSERT INTO sample.outage VALUES (p.state, 'Broken');
	PERFORM sample.process_order(pg_temp.place('fails_' || n));
	CALL pg_temp.settle();
	DELETE FROM sample.outage;
END $$;
CALL pg_temp.fail_step(1);
CALL pg_temp.fail_step(2);
CALL pg_temp.fail_step(3);
CALL pg_temp.fail_step(4);
CALL pg_temp.fail_step(5);
SELECT is(pg_temp.left_of('fails_1'), 'failed confirmed', 'nothing was done, nothing is undone');
SELECT is(pg_temp.left_of('fails_2'), 'compensated cancelled cancellation', 'step 2 fails');
SELECT is(pg_temp.left_of('fails_3'), 'compensated cancelled cancellation', 'step 3 fails');
SELECT is(pg_temp.left_of('fails_4'), 'compensated cancelled refunded cancellation', 'step 4 fails');
SELECT is(pg_temp.left_of('fails_5'), 'compensated cancelled refunded cancelled cancellation', 'step 5 fails');
SELECT is(pg_temp.undone('fails_' || n), (SELECT array_agg(p.state ORDER BY p.n DESC) FROM part AS p WHERE p.n < f.n),
	format('step %s fails: those before it are undone, the last first', n)) FROM generate_series(2, 5) AS f (n);

-- ---- a step fails and comes back ----

INSERT INTO sample.outage VALUES ('ProcessPayment');
SELECT sample.process_order(pg_temp.place('back')) AS back \gset
SELECT evstore.run_sagas(saga => 'sample_order') \g /dev/null
DELETE FROM sample.outage;
CALL pg_temp.settle();
SELECT is(pg_temp.left_of('back'), 'succeeded shipped reserved taken sent confirmation', 'a step that is tried again');
SELECT is((SELECT max(t.attempt) FROM evstore.saga_steps AS t WHERE t.saga_id = :'back' AND t.state = 'ProcessPayment'), 2, 'the second time');
SELECT is((SELECT count(*)::int FROM sample.payment AS p WHERE p.order_id = 'back'), 1, 'is done once');

-- ---- each compensator fails ----

CREATE PROCEDURE pg_temp.fail_compensator(n integer) LANGUAGE plpgsql AS $$
DECLARE
	p part := (SELECT part FROM part WHERE part.n = fail_compensator.n);
BEGIN
	INSERT INTO sample.outage VALUES ('SendConfirmation', 'Broken'), (p.compensator, 'Broken');
	PERFORM sample.process_order(pg_temp.place('stuck_' || n));
	CALL pg_temp.settle();
	DELETE FROM sample.outage;
END $$;
CALL pg_temp.fail_compensator(1);
CALL pg_temp.fail_compensator(2);
CALL pg_temp.fail_compensator(3);
CALL pg_temp.fail_compensator(4);
SELECT is((SELECT s.status FROM evstore.sagas AS s WHERE s.business_key = 'stuck_' || n), 'compensation_failed',
	format('compensator %s fails: it is not said to be compensated', n)) FROM generate_series(1, 4) AS f (n);
SELECT is((SELECT count(*)::int FROM evstore.stuck_sagas AS s), 4, 'they are seen to be stuck');
SELECT is(pg_temp.undone('stuck_' || n), (SELECT array_agg(p.state ORDER BY p.n DESC) FROM part AS p WHERE p.n > f.n AND p.compensator IS NOT NULL),
	format('compensator %s fails: those after it were undone', n)) FROM generate_series(1, 4) AS f (n);

-- three of them are tried again, one is settled by hand
SELECT evstore.retry_saga(s.saga_id) FROM evstore.sagas AS s WHERE s.business_key IN ('stuck_1', 'stuck_2', 'stuck_3') \g /dev/null
SELECT evstore.resolve_saga(s.saga_id, 'skip', 'the parcel was stopped by telephone') FROM evstore.sagas AS s WHERE s.business_key = 'stuck_4' \g /dev/null
CALL pg_temp.settle();
SELECT is(pg_temp.left_of('stuck_' || n), 'compensated cancelled refunded cancelled cancellation', format('compensator %s, tried again', n))
FROM generate_series(1, 3) AS f (n);
SELECT is(pg_temp.left_of('stuck_4'), 'compensated cancelled refunded sent cancellation', 'or settled by hand: the others go on');

-- ---- the same with services elsewhere: each step is an activity, with a time limit ----

SELECT evstore.create_saga('remote_order', jsonb_set(replace(d.definition::text, 'evstore:sql:sample.', 'evstore:activity:')::jsonb,
	'{asl,States}', (SELECT jsonb_object_agg(t.key, t.value || '{"TimeoutSeconds": 60}') FROM jsonb_each(
		replace(d.definition::text, 'evstore:sql:sample.', 'evstore:activity:')::jsonb #> '{asl,States}') AS t)))
FROM evstore.saga_definitions AS d WHERE d.saga = 'sample_order' \g /dev/null

-- Do the task that there is, as the sample does: f(input)
CREATE FUNCTION pg_temp.work(activity text, OUT token uuid, OUT output jsonb) LANGUAGE plpgsql AS $$
DECLARE
	task record;
BEGIN
	SELECT * INTO task FROM evstore.fetch_tasks(activity, 'tester');
	token := task.token;
	EXECUTE format('SELECT to_jsonb(sample.%I($1))', activity) INTO output USING task.input;
	output := coalesce(output, '{}');
	PERFORM evstore.complete_task(token, output);
END $$;
-- Until the saga waits for this activity
CREATE PROCEDURE pg_temp.work_until(activity text) LANGUAGE plpgsql AS $$
DECLARE
	open text;
BEGIN
	LOOP
		PERFORM evstore.run_sagas(saga => 'remote_order');
		open := (SELECT t.name FROM evstore.saga_steps AS t WHERE t.saga = 'remote_order' AND t.status = 'running' LIMIT 1);
		EXIT WHEN open IS NULL OR open = activity;
		PERFORM pg_temp.work(open);
	END LOOP;
END $$;
CREATE FUNCTION pg_temp.later(how interval) RETURNS text LANGUAGE sql AS $$
	SELECT set_config('evstore.now_override', (current_setting('evstore.now_override')::timestamptz + how)::text, false) $$;

SELECT evstore.start_saga('remote_order', jsonb_build_object('order_id', pg_temp.place('remote'))) \g /dev/null
CALL pg_temp.work_until('none');
SELECT is(pg_temp.left_of('remote'), 'succeeded shipped reserved taken sent confirmation', 'services elsewhere do the same');

-- a time-out at each step: whether it was done is not known, so it is undone, too
CREATE PROCEDURE pg_temp.time_out(n integer) LANGUAGE plpgsql AS $$
DECLARE
	step text := (SELECT p.step FROM part AS p WHERE p.n = time_out.n);
BEGIN
	PERFORM evstore.start_saga('remote_order', jsonb_build_object('order_id', pg_temp.place('late_' || n)));
	CALL pg_temp.work_until(step);
	PERFORM pg_temp.later('61 seconds');
	CALL pg_temp.work_until('none');
END $$;
CALL pg_temp.time_out(1);
CALL pg_temp.time_out(2);
CALL pg_temp.time_out(3);
CALL pg_temp.time_out(4);
CALL pg_temp.time_out(5);
SELECT is((SELECT s.error FROM evstore.sagas AS s WHERE s.business_key = 'late_' || n), 'States.Timeout', format('step %s times out', n)) FROM generate_series(1, 5) AS f (n);
SELECT is(pg_temp.undone('late_' || n), (SELECT array_agg(p.state ORDER BY p.n DESC) FROM part AS p WHERE p.n <= f.n AND p.compensator IS NOT NULL),
	format('step %s times out: it is undone with those before it', n)) FROM generate_series(1, 5) AS f (n);
SELECT is(pg_temp.left_of('late_3'), 'compensated cancelled cancellation', 'with what there is to undo');

-- ---- replies that come twice, late, or are not for it ----

SELECT evstore.start_saga('remote_order', jsonb_build_object('order_id', pg_temp.place('twice'))) AS twice \gset
CALL pg_temp.work_until('reserve_inventory');
SELECT token, output FROM pg_temp.work('reserve_inventory') \gset
SELECT lives_ok(format('SELECT evstore.complete_task(%L, %L)', :'token', :'output'), 'the same reply again is no error');
CALL pg_temp.work_until('process_payment');
SELECT is((SELECT array_agg(t.state ORDER BY t.step) FROM evstore.saga_steps AS t WHERE t.saga_id = :'twice'), '{AcceptOrder,ReserveInventory,ProcessPayment}',
	'and does not let the saga go on twice');
SELECT throws_ok(format('SELECT evstore.complete_task(%L, %L)', :'token', '{"reservation_id": "another"}'), 'VS007', NULL, 'another reply to the same task is refused');
SELECT throws_ok('SELECT evstore.complete_task(gen_random_uuid())', 'VS007', NULL, 'a reply to a task that nobody has given out is, too');
SELECT throws_ok(format('SELECT evstore.fail_task(%L, %L)', :'token', 'Late'), 'VS007', NULL, 'and a failure after a success');
SELECT is((SELECT count(*)::int FROM evstore.saga_steps AS t WHERE t.saga_id = :'twice' AND t.status = 'running'), 1, 'none of them changes anything');
CALL pg_temp.work_until('none');
SELECT is(pg_temp.left_of('twice'), 'succeeded shipped reserved taken sent confirmation', 'it goes through');

-- a reply after the time-out: its effect is undone, if it was not yet
SELECT evstore.start_saga('remote_order', jsonb_build_object('order_id', pg_temp.place('slow'))) AS slow \gset
CALL pg_temp.work_until('ship');
SELECT token, input FROM evstore.fetch_tasks('ship', 'tester') \gset
SELECT pg_temp.later('61 seconds') \g /dev/null
CALL pg_temp.work_until('none');
SELECT sample.ship(:'input') AS output \gset
SELECT is(pg_temp.left_of('slow'), 'compensated cancelled refunded sent cancellation', 'a service that does it after it has been undone');
SELECT throws_ok(format('SELECT evstore.complete_task(%L, %L)', :'token', :'output'), 'VS007', NULL, 'is told that it was undone');
CALL pg_temp.work_until('none');
SELECT is((SELECT s.status FROM evstore.sagas AS s WHERE s.saga_id = :'slow'), 'compensated', 'and does not wake it');

-- ---- a document of Step Functions, as it was written for them ----

\set document `cat ../data/asl/valid_order.json`
SELECT evstore.create_saga('step_functions', :'document') \g /dev/null

-- Do what comes, until one is to fail, and go on after that
CREATE FUNCTION pg_temp.perform(id uuid, failing text DEFAULT NULL, error text DEFAULT NULL) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
	done text[] := '{}';
	open record;
	task record;
BEGIN
	LOOP
		PERFORM evstore.run_sagas(saga => 'step_functions');
		SELECT t.name, t.state INTO open FROM evstore.saga_steps AS t WHERE t.saga_id = id AND t.status = 'running';
		EXIT WHEN NOT FOUND;
		SELECT * INTO task FROM evstore.fetch_tasks(open.name, 'tester');
		done := done || format('%s: %s', open.state, open.name);
		IF open.state = failing THEN
			PERFORM evstore.fail_task(task.token, error, 'as it happens');
		ELSE
			PERFORM evstore.complete_task(task.token, task.input || jsonb_build_object(lower(open.name), true));
		END IF;
	END LOOP;
	RETURN done || (SELECT concat_ws(' ', s.status, s.output) FROM evstore.sagas AS s WHERE s.saga_id = id);
END $$;
SELECT is(pg_temp.perform(evstore.start_saga('step_functions', '{"id": 1}')), ARRAY['CreateOrder: CreateOrder', 'ReserveInventory: ReserveInventory',
	'ProcessPayment: ProcessPayment', 'PublishOrderCompleted: PublishEvent',
	'succeeded {"data": {"id": 1, "createorder": true, "processpayment": true, "reserveinventory": true}, "eventType": "OrderCompleted", "publishevent": true}'],
	'all of its tasks are activities, named by the last part of their resource');
SELECT is(pg_temp.perform(evstore.start_saga('step_functions', '{"id": 2}'), 'ProcessPayment', 'PaymentFailed'), ARRAY['CreateOrder: CreateOrder',
	'ReserveInventory: ReserveInventory', 'ProcessPayment: ProcessPayment', 'ReleaseInventoryAndCancel: ReleaseInventory', 'failed'], 'its way for a payment that fails');
SELECT is(pg_temp.perform(evstore.start_saga('step_functions', '{"id": 3}'), 'ReserveInventory', 'InsufficientInventory'), ARRAY['CreateOrder: CreateOrder',
	'ReserveInventory: ReserveInventory', 'failed'], 'and for stock that is short');
SELECT is(pg_temp.perform(evstore.start_saga('step_functions', '{"id": 4}'), 'ReserveInventory', 'SomethingElse'), ARRAY['CreateOrder: CreateOrder',
	'ReserveInventory: ReserveInventory', 'failed'], 'an error that it does not catch');

SELECT evstore.uninstall_sample() \g /dev/null
SELECT is((SELECT array_agg(d.saga ORDER BY d.saga) FROM evstore.saga_definitions AS d), '{remote_order,step_functions}', 'the saga goes with the sample');

SELECT * FROM finish();
