-- The sample: its state machine, exact totals, read models against the log, rebuilds,
-- queries, stock under concurrency, and that anybody with the rights can install it.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS dblink;
CREATE EXTENSION IF NOT EXISTS evstore;

SELECT plan(166);

SELECT evstore.install_sample() \g /dev/null

-- SQLSTATE and message of a statement, run as a role
CREATE FUNCTION pg_temp.outcome(query text, OUT code text, OUT message text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE query;
	code := 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
END $$;
CREATE FUNCTION pg_temp.command(stream text, command text, args jsonb DEFAULT '{}', OUT code text, OUT message text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evstore.execute_command(stream, format('sample.%I(jsonb,jsonb)', command)::regprocedure, args);
	code := 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
END $$;

-- two queries have the same rows, each as often
CREATE FUNCTION pg_temp.same(have text, want text, what text) RETURNS text LANGUAGE sql AS $$
	SELECT is_empty(format('(%1$s EXCEPT ALL %2$s) UNION ALL (%2$s EXCEPT ALL %1$s)', '(' || have || ')', '(' || want || ')'), what) $$;

-- until nothing remains to be done, also for workers if there are any
CREATE PROCEDURE pg_temp.catch_up(schema text) LANGUAGE plpgsql AS $$
BEGIN
	LOOP
		EXECUTE format('SELECT %I.catch_up()', schema);
		COMMIT;
		EXIT WHEN NOT EXISTS (SELECT FROM evstore.projections AS p WHERE p.schema = catch_up.schema AND (p.lag_events > 0 OR p.rebuild_state = 'running'));
		PERFORM evstore.wait_for_projections(ARRAY(SELECT p.projection::text FROM evstore.projections AS p WHERE p.schema = catch_up.schema), timeout => '1 second');
		COMMIT;
	END LOOP;
END $$;

-- ---- types of events ----

SELECT results_eq('SELECT kind, count(*)::int FROM sample.event_types GROUP BY kind ORDER BY kind COLLATE "C"',
	$$ VALUES ('domain', 15), ('integration', 5), ('notification', 2), ('system', 5) $$, 'types of events');
SELECT set_eq('SELECT type FROM sample.event_types',
	ARRAY['UserRegistered', 'UserUpdated', 'OrderCreated', 'OrderPlaced', 'OrderItemAdded', 'OrderConfirmed', 'OrderPaid', 'PaymentFailed', 'OrderShipped', 'OrderDelivered',
		'OrderCancelled', 'OrderCompleted', 'StockReceived', 'StockReserved', 'StockReleased', 'PaymentProcessed', 'PaymentCompleted', 'InventoryReserved', 'InventoryInsufficient',
		'InventoryReservationFailed', 'DailyReportGenerated', 'SystemAlert', 'SagaCompleted', 'SagaCompensated', 'WindowAggregation', 'ServiceStarted', 'DeploymentCompleted'], 'by name');
SELECT lives_ok($$ SELECT evstore.append('catalogue-' || type, type, example) FROM sample.event_types $$, 'examples can be appended');
SELECT set_eq($$ SELECT DISTINCT r ->> 'type' FROM evstore.aggregates AS a, jsonb_array_elements(a.transitions) AS r $$,
	$$ SELECT type FROM sample.event_types WHERE kind = 'domain' AND type !~ '^User' $$, 'the transitions are about domain events, all of them');

-- ---- the state machine: every type of event in every state ----

CREATE TABLE history (status text, events jsonb);
INSERT INTO history VALUES
	('draft', '[]'),
	('pending', '[{"type": "OrderCreated", "data": {"items": [{"product_id": "a", "quantity": 1, "price": 5}]}}]'),
	('confirmed', '[{"type": "OrderPlaced", "data": {"items": [{"product_id": "a", "quantity": 1, "price": 5}]}}]');
INSERT INTO history SELECT 'payment_failed', events || '[{"type": "PaymentFailed"}]' FROM history WHERE status = 'confirmed';
INSERT INTO history SELECT 'paid', events || '[{"type": "OrderPaid", "data": {"amount": 5}}]' FROM history WHERE status = 'payment_failed';
INSERT INTO history SELECT 'shipped', events || '[{"type": "OrderShipped"}]' FROM history WHERE status = 'paid';
INSERT INTO history SELECT 'delivered', events || '[{"type": "OrderDelivered"}]' FROM history WHERE status = 'shipped';
INSERT INTO history SELECT 'completed', events || '[{"type": "OrderCompleted"}]' FROM history WHERE status = 'delivered';
INSERT INTO history SELECT 'cancelled', events || '[{"type": "OrderCancelled"}]' FROM history WHERE status = 'paid';
SELECT results_eq($$ SELECT h.status, c.state ->> 'status' FROM history AS h, evstore.check_transitions('order-none', h.events) AS c $$,
	'SELECT status, status FROM history', 'each state can be reached by events that are allowed');

CREATE FUNCTION pg_temp.try(events jsonb, OUT status text, OUT message text) LANGUAGE plpgsql AS $$
BEGIN
	status := c.state ->> 'status' FROM evstore.check_transitions('order-none', events) AS c;
EXCEPTION WHEN SQLSTATE 'VS013' THEN
	message := SQLERRM;
END $$;
CREATE TABLE outcome AS
SELECT h.status AS "from", t.type, o.status AS "to", o.message
FROM history AS h, sample.event_types AS t,
	pg_temp.try(h.events || jsonb_build_array(jsonb_build_object('type', t.type, 'data',
		'{"items": [{"product_id": "a", "quantity": 1, "price": 5}], "quantity": 1, "price": 5, "amount": 5}'::jsonb))) AS o
WHERE t.kind = 'domain' AND t.type ~ '^(Order|Payment)';
SELECT results_eq('SELECT count(*)::int FROM outcome', 'VALUES (90)', 'ten types in nine states');
SELECT set_eq('SELECT "from", type, "to" FROM outcome WHERE "to" IS NOT NULL', $$ VALUES
	('draft', 'OrderCreated', 'pending'), ('draft', 'OrderPlaced', 'confirmed'),
	('pending', 'OrderItemAdded', 'pending'), ('pending', 'OrderConfirmed', 'confirmed'), ('pending', 'OrderCancelled', 'cancelled'),
	('confirmed', 'OrderPaid', 'paid'), ('confirmed', 'PaymentFailed', 'payment_failed'), ('confirmed', 'OrderCancelled', 'cancelled'),
	('payment_failed', 'OrderPaid', 'paid'), ('payment_failed', 'PaymentFailed', 'payment_failed'), ('payment_failed', 'OrderCancelled', 'cancelled'),
	('paid', 'OrderShipped', 'shipped'), ('paid', 'OrderCancelled', 'cancelled'),
	('shipped', 'OrderDelivered', 'delivered'), ('delivered', 'OrderCompleted', 'completed') $$, 'these are allowed, and no others');
SELECT set_eq($$ SELECT type, message, string_agg("from", ' ' ORDER BY "from" COLLATE "C") FROM outcome WHERE message !~ '^event type' GROUP BY type, message $$, $$ VALUES
	('OrderCreated', 'Order already exists', 'cancelled completed confirmed delivered paid payment_failed pending shipped'),
	('OrderPlaced', 'Order already placed', 'cancelled completed confirmed delivered paid payment_failed pending shipped'),
	('OrderItemAdded', 'Order does not exist', 'draft'),
	('OrderItemAdded', 'Cannot modify confirmed order', 'cancelled completed confirmed delivered paid payment_failed shipped'),
	('OrderConfirmed', 'Order is not in pending status', 'cancelled completed confirmed delivered draft paid payment_failed shipped'),
	('OrderPaid', 'Order must be confirmed before payment', 'draft pending'),
	('OrderPaid', 'Order is already paid', 'completed delivered paid shipped'),
	('OrderShipped', 'Order must be paid before shipping', 'confirmed draft payment_failed pending'),
	('OrderCancelled', 'Cannot cancel shipped or delivered order', 'completed delivered shipped'),
	('OrderCancelled', 'Order is already cancelled', 'cancelled') $$, 'refusals with a message of their own');
SELECT set_eq($$ SELECT type, string_agg("from", ' ' ORDER BY "from" COLLATE "C") FROM outcome WHERE message ~ '^event type' GROUP BY type $$, $$ VALUES
	('OrderPaid', 'cancelled'), ('PaymentFailed', 'cancelled completed delivered draft paid pending shipped'), ('OrderShipped', 'cancelled completed delivered shipped'),
	('OrderDelivered', 'cancelled completed confirmed delivered draft paid payment_failed pending'),
	('OrderCompleted', 'cancelled completed confirmed draft paid payment_failed pending shipped'), ('OrderCancelled', 'draft') $$, 'and the others');

-- guards
SELECT is((pg_temp.try(h.events || jsonb_build_array(t.event::jsonb))).message, t.message, t.event)
FROM (VALUES
	('draft', '{"type": "OrderCreated", "data": {"items": []}}', NULL),
	('draft', '{"type": "OrderCreated"}', 'Quantity and price of all items must be positive'),
	('draft', '{"type": "OrderCreated", "data": {"items": {"quantity": 1, "price": 1}}}', 'Quantity and price of all items must be positive'),
	('draft', '{"type": "OrderCreated", "data": {"items": [{"quantity": 1, "price": 1}, {"quantity": 1}]}}', 'Quantity and price of all items must be positive'),
	('draft', '{"type": "OrderCreated", "data": {"items": [{"quantity": 1, "price": "1"}]}}', 'Quantity and price of all items must be positive'),
	('draft', '{"type": "OrderCreated", "data": {"items": [{"quantity": [1], "price": 1}]}}', 'Quantity and price of all items must be positive'),
	('draft', '{"type": "OrderCreated", "data": {"items": [{"quantity": -1, "price": 1}]}}', 'Quantity and price of all items must be positive'),
	('draft', '{"type": "OrderPlaced", "data": {"items": []}}', 'Order must have at least one item'),
	('pending', '{"type": "OrderItemAdded", "data": {"quantity": 0, "price": 1}}', 'Quantity and price of all items must be positive'),
	('pending', '{"type": "OrderItemAdded", "data": {"quantity": 1}}', 'Quantity and price of all items must be positive'),
	('confirmed', '{"type": "OrderPaid", "data": {"amount": 5.01}}', 'Payment amount does not match order total'),
	('confirmed', '{"type": "OrderPaid", "data": {"amount": "5"}}', 'Payment amount does not match order total'),
	('confirmed', '{"type": "OrderPaid", "data": {"amount": [4, 5]}}', 'Payment amount does not match order total'),
	('confirmed', '{"type": "OrderPaid"}', 'Payment amount does not match order total'),
	('confirmed', '{"type": "OrderPaid", "data": {"amount": 5.00}}', NULL)) AS t (status, event, message)
JOIN history AS h ON h.status = t.status;

-- ---- commands ----

SELECT is((pg_temp.command('order-1', 'create_order', '{"customer_id": "ann", "items": [{"product_id": "prod-1", "quantity": 2, "price": 29.99}, {"product_id": "prod-2", "quantity": 1, "price": 49.99}], "total_amount": 109.97}')).code, 'ok', 'create_order');
SELECT is((SELECT state -> 'total' FROM evstore.load_aggregate('order-1')), '109.97', 'its total');
SELECT is((pg_temp.command('order-1', 'create_order', '{"customer_id": "bob"}')).message, 'Order already exists', 'only once');
SELECT is((pg_temp.command('order-1', command, args::jsonb)).code, 'ok', command)
FROM (VALUES (1, 'confirm_order', '{}'), (2, 'fail_payment', '{"payment_id": "p1", "reason": "declined"}'), (3, 'pay_order', '{"payment_id": "p2", "amount": 109.97, "payment_method": "credit_card"}'),
	(4, 'ship_order', '{"carrier": "UPS", "tracking_number": "track-789"}'), (5, 'deliver_order', '{}')) AS t (n, command, args) ORDER BY n;
SELECT evstore.append_events('order-2', '[{"type": "OrderPlaced", "occurred_at": "2026-01-05T10:00:00Z", "data": {"customer_id": "ann", "items": [{"product_id": "laptop", "quantity": 1, "price": 999.99}]}},
	{"type": "OrderPaid", "data": {"amount": 999.99}}, {"type": "OrderShipped"}, {"type": "OrderDelivered"}]') \g /dev/null
SELECT is((pg_temp.command('order-2', 'complete_order', '{"completion_time": "2026-01-07T10:00:30.9Z"}')).code, 'ok', 'complete_order');
SELECT is((SELECT data - 'completion_time' FROM evstore.read_stream('order-2', 4)), '{"customer_id": "ann", "total_amount": 999.99, "processing_duration_seconds": 172830}', 'with the time that it took');
SELECT is((pg_temp.command('order-3', 'place_order', '{"customer_id": "ann", "items": [{"product_id": "laptop", "quantity": 1, "price": 10}]}')).code, 'ok', 'place_order');
SELECT is((pg_temp.command('order-3', 'cancel_order', '{"reason": "changed my mind"}')).code, 'ok', 'cancel_order');
SELECT is((SELECT data FROM evstore.read_stream('order-3', 1)), '{"reason": "changed my mind", "cancelled_from_status": "confirmed"}', 'with the state that it was in');
SELECT is((pg_temp.command('order-3', 'cancel_order', '{"reason": "again"}')).message, 'Order is already cancelled', 'once');

-- exact amounts
SELECT pg_temp.command('order-tenths', 'create_order', '{"customer_id": "ann", "items": [{"product_id": "x", "quantity": 1, "price": 0.1}]}'), pg_temp.command('order-tenths', 'add_item', '{"product_id": "x", "quantity": 1, "price": 0.2}') \g /dev/null
SELECT is((SELECT (state -> 'total')::text FROM evstore.load_aggregate('order-tenths')), '0.3', '0.1 + 0.2 = 0.3');
SELECT pg_temp.command('order-thirds', 'place_order', '{"customer_id": "ann", "items": [{"product_id": "x", "quantity": 1, "price": 0.1}, {"product_id": "y", "quantity": 1, "price": 0.1}, {"product_id": "z", "quantity": 1, "price": 0.1}], "total_amount": 0.3}') \g /dev/null
SELECT is((SELECT (data -> 'total_amount')::text FROM evstore.read_stream('order-thirds')), '0.3', 'three items of 0.1');
SELECT is((pg_temp.command('order-thirds', 'pay_order', '{"payment_id": "p", "amount": 0.30000000000000004}')).message, 'Payment amount does not match order total', 'are not what floating point makes of them');
SELECT is((pg_temp.command('order-thirds', 'pay_order', '{"payment_id": "p", "amount": 0.3}')).code, 'ok', 'they are 0.3');

SELECT is((pg_temp.command('order-exact', command, args::jsonb)).code, 'ok', 'more digits than floating point has: ' || command)
FROM (VALUES (1, 'place_order', '{"customer_id": "ann", "items": [{"product_id": "yacht", "quantity": 3, "price": 9007199254740993.01}], "total_amount": 27021597764222979.03}'),
	(2, 'pay_order', '{"payment_id": "p3", "amount": 27021597764222979.03}')) AS t (n, command, args) ORDER BY n;

-- arguments
SELECT results_eq(format('SELECT * FROM pg_temp.command(''order-args'', %L, %L)', command, args), format('VALUES (''22023'', %L)', message), message)
FROM (VALUES
	('create_order', '{}', 'argument "customer_id" is missing'),
	('create_order', '{"customer_id": null}', 'argument "customer_id" is missing'),
	('create_order', '{"customer_id": 1}', 'argument "customer_id" must be a string of at most 400 bytes'),
	('create_order', '{"customer_id": "a", "status = ''paid''; --": 1}', 'argument "status = ''paid''; --" is not known'),
	('create_order', '{"customer_id": "a", "items": {}}', 'argument "items" must be an array'),
	('create_order', '{"customer_id": "a", "items": [{"product_id": "a", "quantity": 0, "price": 1}]}', 'the quantity of an item must be a positive integer'),
	('create_order', '{"customer_id": "a", "items": [{"product_id": "a", "quantity": 1.5, "price": 1}]}', 'the quantity of an item must be a positive integer'),
	('create_order', '{"customer_id": "a", "items": [{"product_id": "a", "quantity": 1, "price": "1"}]}', 'the price of an item must be a positive number'),
	('create_order', '{"customer_id": "a", "items": [{"product_id": "a", "quantity": 3, "price": 0.1}], "total_amount": 0.30000000000000004}', 'Order total does not match its items'),
	('place_order', '{"customer_id": "a", "items": [{"product_id": "a", "quantity": 1, "price": 1}], "total_amount": 0}', 'Order total must be positive'),
	('pay_order', '{"payment_id": "p"}', 'argument "amount" is missing'),
	('ship_order', '[]', 'the arguments of a command must be an object')) AS t (command, args, message);
SELECT is((pg_temp.command('order-args', 'place_order', '{"customer_id": "a"}')).message, 'Order must have at least one item', 'an order without items');
SELECT is((pg_temp.command('order-args', 'create_order', '{"customer_id": "a"}')).code, 'ok', 'may be created');
SELECT is((pg_temp.command('order-args', 'confirm_order')).message, 'Cannot confirm empty order', 'and not confirmed');

-- ---- read models ----

-- random orders, over some days; what is refused is left out
SELECT evstore.append_events('order_customer-c' || i, jsonb_build_array(jsonb_build_object('type', 'UserRegistered', 'data', jsonb_build_object('first_name', 'Name ' || i)))) FROM generate_series(1, 5) AS i \g /dev/null
SELECT setseed(0.5) \g /dev/null
DO $$
DECLARE
	commands CONSTANT text[] := '{create_order,place_order,add_item,add_item,confirm_order,fail_payment,pay_order,pay_order,ship_order,deliver_order,cancel_order,complete_order}';
	now timestamptz := '2026-01-05 22:00:00Z';
	stream text;
	command text;
	state jsonb;
	args jsonb;
	events jsonb;
BEGIN
	FOR i IN 1 .. 700 LOOP
		now := now + random() * interval '10 minutes';
		stream := sample.order_stream('r' || floor(random() * 60)::int);
		command := commands[1 + floor(random() * cardinality(commands))::int];
		state := l.state FROM evstore.load_aggregate(stream) AS l;
		CONTINUE WHEN command IN ('create_order', 'place_order') AND state ->> 'status' <> 'draft';
		args := CASE
			WHEN command IN ('create_order', 'place_order') THEN jsonb_build_object('customer_id', 'c' || floor(random() * 5)::int, 'items', (
				SELECT coalesce(jsonb_agg(jsonb_build_object('product_id', 'p' || floor(random() * 6)::int, 'quantity', 1 + floor(random() * 4)::int, 'price', round(random()::numeric * 50 + 0.01, 2))), '[]')
				FROM generate_series(1, floor(random() * 4)::int)))
			WHEN command = 'add_item' THEN jsonb_build_object('product_id', 'p' || floor(random() * 6)::int, 'quantity', 1 + floor(random() * 4)::int, 'price', round(random()::numeric * 50 + 0.01, 2))
			WHEN command = 'pay_order' THEN jsonb_build_object('payment_id', 'pay-' || i, 'amount', state -> 'total')
			WHEN command = 'fail_payment' THEN jsonb_build_object('payment_id', 'pay-' || i)
			WHEN command = 'ship_order' THEN jsonb_build_object('tracking_number', 't' || i, 'carrier', (ARRAY['UPS', 'DHL'])[1 + i % 2])
			WHEN command = 'cancel_order' THEN jsonb_build_object('reason', 'reason ' || i)
			WHEN command = 'complete_order' THEN jsonb_build_object('completion_time', now)
			ELSE '{}' END;
		BEGIN
			EXECUTE format('SELECT sample.%I($1, $2)', command) INTO events USING state, args;
			events := jsonb_set(events, '{0,occurred_at}', to_jsonb(now));
			PERFORM evstore.append_events(stream, events, expected_version => c.version) FROM evstore.check_transitions(stream, events) AS c;
		EXCEPTION WHEN SQLSTATE 'VS013' THEN
			NULL;
		END;
	END LOOP;
END $$;
CREATE VIEW order_event AS SELECT *, substr(stream, 7) AS order_id, (occurred_at AT TIME ZONE 'UTC')::date AS day FROM evstore.events WHERE stream LIKE 'order-%';
SELECT cmp_ok((SELECT count(DISTINCT type) FROM order_event), '=', 10::bigint, 'all types of events are there');

-- What a projection does: handle all events after a position, with the tables of a schema.
CREATE FUNCTION pg_temp.run(into_schema text, after bigint, up_to bigint, batch int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	e evstore.event;
	es evstore.event[] := '{}';
BEGIN
	PERFORM set_config('search_path', format('%I, pg_temp', into_schema), true);
	FOR e IN SELECT r.* FROM evstore.read_all(after, NULL, '{"categories": ["order", "order_customer"]}') AS r LOOP
		EXIT WHEN e.position > up_to;
		PERFORM sample.project_orders(e);
		CONTINUE WHEN e.stream LIKE 'order\_customer-%';
		PERFORM sample.project_order_summary(e), sample.project_customer_stats(e), sample.project_analytics(e), sample.project_search(e);
		es := es || e;
		IF cardinality(es) = batch THEN
			PERFORM sample.project_board(es);
			es := '{}';
		END IF;
	END LOOP;
	PERFORM sample.project_board(es);
	RESET search_path;
END $$;
SET timezone = 'Asia/Kolkata';
SELECT evstore.run_projection(name, 7) FROM sample.projection, generate_series(1, 5) \g /dev/null
SELECT sample.catch_up() \g /dev/null
SELECT ok(evstore.wait_for_projections(ARRAY(SELECT name FROM sample.projection), timeout => NULL), 'events are handled by the projections');
RESET timezone;
SELECT is(sample.catch_up(), 0::bigint, 'once');
SELECT is_empty($$ SELECT projection, last_error FROM evstore.projections WHERE state <> 'running' OR last_error IS NOT NULL OR parked > 0 $$, 'without an error');
SELECT set_eq('SELECT projection::text FROM evstore.projections', ARRAY['sample_order_summary', 'sample_customer_stats', 'sample_orders', 'sample_analytics', 'sample_search', 'sample_board'], 'their names');

SELECT pg_temp.same('SELECT order_id, customer_id, total_amount, status, item_count, payment_id, tracking_number, carrier, cancellation_reason, created_at, updated_at FROM sample.order_summary',
	$$ SELECT o.order_id, l.state ->> 'customer_id', (l.state ->> 'total')::numeric, l.state ->> 'status', jsonb_array_length(l.state -> 'items'), l.state ->> 'payment_id',
			l.state ->> 'tracking_number', l.state ->> 'carrier', l.state ->> 'cancellation_reason', o.first, o.last
		FROM (SELECT order_id, stream, (array_agg(occurred_at ORDER BY version))[1] AS first, (array_agg(occurred_at ORDER BY version DESC))[1] AS last FROM order_event GROUP BY 1, 2) AS o, evstore.load_aggregate(o.stream) AS l $$,
	'order_summary is what the aggregates say');
CREATE VIEW owner AS SELECT order_id, data ->> 'customer_id' AS customer_id FROM order_event WHERE type IN ('OrderCreated', 'OrderPlaced');
SELECT pg_temp.same('SELECT * FROM sample.customer_stats',
	$$ SELECT o.customer_id, count(*) FILTER (WHERE e.type <> 'OrderPaid'), coalesce(sum((e.data ->> 'amount')::numeric) FILTER (WHERE e.type = 'OrderPaid'), 0),
			max(e.occurred_at) FILTER (WHERE e.type <> 'OrderPaid'), max(e.occurred_at) FILTER (WHERE e.type = 'OrderPaid')
		FROM owner AS o JOIN order_event AS e USING (order_id) WHERE e.type IN ('OrderCreated', 'OrderPlaced', 'OrderPaid') GROUP BY 1 $$, 'customer_stats');
SELECT pg_temp.same('SELECT customer_id, order_id FROM sample.orders_by_customer', 'SELECT customer_id, order_id FROM owner', 'orders_by_customer');
SELECT pg_temp.same('SELECT day, orders, total FROM sample.daily_totals',
	$$ SELECT e.day, count(*), sum((e.data ->> 'total_amount')::numeric) FROM (
		SELECT day, CASE WHEN stream = 'order-2' THEN '{"total_amount": 999.99}' ELSE data END AS data FROM order_event WHERE type IN ('OrderPlaced', 'OrderConfirmed')) AS e GROUP BY 1 $$, 'daily_totals');
SELECT pg_temp.same('SELECT order_id, total, status, detail -> ''items'', jsonb_array_length(detail -> ''history'') FROM sample.order_details',
	$$ SELECT o.order_id, (l.state ->> 'total')::numeric, l.state ->> 'status', l.state -> 'items', (l.version + 1)::int FROM owner AS o, evstore.load_aggregate(sample.order_stream(o.order_id)) AS l $$, 'order_details');
SELECT pg_temp.same($$ SELECT order_id, detail #>> '{customer,first_name}' FROM sample.order_details WHERE customer_id LIKE 'c_' AND customer_id <> 'c0' $$,
	$$ SELECT order_id, 'Name ' || substr(customer_id, 2) FROM owner WHERE customer_id LIKE 'c_' AND customer_id <> 'c0' $$, 'with the customer');
SELECT pg_temp.same('SELECT * FROM sample.daily_revenue', $$ SELECT day, count(*), sum((data ->> 'amount')::numeric) FROM order_event WHERE type = 'OrderPaid' GROUP BY 1 $$, 'daily_revenue');
SELECT pg_temp.same('SELECT * FROM sample.product_sales',
	$$ SELECT e.day, i ->> 'product_id', sum((i ->> 'quantity')::numeric), sum((i ->> 'quantity')::numeric * (i ->> 'price')::numeric)
		FROM order_event AS e, evstore.load_aggregate(e.stream) AS l, jsonb_array_elements(l.state -> 'items') AS i WHERE e.type = 'OrderPaid' GROUP BY 1, 2 $$, 'product_sales');
SELECT pg_temp.same('SELECT * FROM sample.orders_per_minute',
	$$ SELECT date_trunc('minute', e.occurred_at), count(*), sum((SELECT coalesce(sum((i ->> 'quantity')::numeric * (i ->> 'price')::numeric), 0) FROM jsonb_array_elements(e.data -> 'items') AS i))
		FROM order_event AS e WHERE e.type IN ('OrderCreated', 'OrderPlaced') GROUP BY 1 $$, 'orders_per_minute');
SELECT pg_temp.same('SELECT order_id FROM sample.order_search', 'SELECT order_id FROM owner', 'order_search');
SELECT pg_temp.same($$ SELECT order_id FROM sample.order_search WHERE words @@ 'dhl' $$, $$ SELECT order_id FROM order_event WHERE type = 'OrderShipped' AND data ->> 'carrier' = 'DHL' $$, 'with its words');
SELECT cmp_ok((SELECT count(*) FROM sample.daily_revenue), '>', 2::bigint, 'there are some days');

-- the handlers alone, with other batches and another time zone
CREATE SCHEMA shadow;
SELECT format('CREATE TABLE shadow.%I (LIKE sample.%1$I INCLUDING ALL)', relname) FROM pg_class WHERE relnamespace = 'sample'::regnamespace AND relkind = 'r' AND relname NOT IN ('event_types', 'sample', 'projection', 'outage', 'payment', 'shipment', 'notice') \gexec
SELECT pg_temp.run('shadow', 0, NULL, 100) \g /dev/null
SELECT is((SELECT count(*) FROM pg_class WHERE relnamespace = 'shadow'::regnamespace AND relkind = 'r'), 12::bigint, 'twelve tables');
SELECT pg_temp.same(format('TABLE sample.%I', relname), format('TABLE shadow.%I', relname), relname || ' is the same after a rebuild')
FROM pg_class WHERE relnamespace = 'shadow'::regnamespace AND relkind = 'r' ORDER BY relname COLLATE "C";
SELECT set_eq($$ SELECT DISTINCT t FROM evstore.projections, unnest(tables) AS t $$, $$ SELECT relname::text FROM pg_class WHERE relnamespace = 'shadow'::regnamespace AND relkind = 'r' $$, 'each table is one of a projection');

-- a rebuild of each projection; after damage the tables show that they are new
UPDATE sample.customer_stats SET total_orders = -1;
UPDATE sample.order_summary SET status = 'damaged';
UPDATE sample.orders_per_minute SET orders = 0;
SELECT lives_ok(format('SELECT evstore.rebuild_projection(%L)', name), 'rebuild ' || read_model) FROM sample.projection ORDER BY read_model;
CALL pg_temp.catch_up('sample');
SELECT is_empty($$ SELECT projection, rebuild_state, rebuild_error FROM evstore.projections WHERE rebuild_state IS NOT NULL $$, 'the rebuilds have ended');
SELECT pg_temp.same(format('TABLE sample.%I', relname), format('TABLE shadow.%I', relname), relname || ' is what the handlers make of the log')
FROM pg_class WHERE relnamespace = 'shadow'::regnamespace AND relkind = 'r' ORDER BY relname COLLATE "C";
SELECT is_empty($$ SELECT p.oid::regprocedure FROM pg_proc AS p WHERE p.pronamespace = 'sample'::regnamespace AND p.proname ~ '^project_' AND (p.proconfig IS NOT NULL OR p.prosrc ~ 'sample\.|\mnow\(|clock|current_') $$,
	'handlers have no search_path and no clock');

SELECT is_empty($$ SELECT pg_describe_object(d.classid, d.objid, 0) FROM pg_depend AS d JOIN pg_type AS t ON d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray)
	WHERE t.typrelid <> 0 AND t.typnamespace = 'sample'::regnamespace AND d.deptype = 'n' $$, 'nothing depends on the type of a table');

-- keys of data are data
SELECT evstore.append_events('order-hostile', $$ [{"type": "OrderPlaced", "data": {"customer_id": "x'); DROP TABLE sample.order_summary; --", "status = 'paid'": 1, "total_amount": 0, "order_id": "1",
	"items": [{"product_id": "\"; DELETE FROM order_summary; --", "quantity": 1, "price": 1}]}}, {"type": "OrderShipped", "data": {"status": "delivered", "carrier": "a'b", "tracking_number, status": "y", "tracking_number": "z"}}] $$) \g /dev/null
CALL pg_temp.catch_up('sample');
SELECT results_eq($$ SELECT order_id, customer_id, total_amount, status, carrier, tracking_number FROM sample.order_summary WHERE order_id IN ('hostile', '1') ORDER BY 1 $$,
	$$ VALUES ('1' COLLATE "C", 'ann', 109.97, 'delivered', 'UPS', 'track-789'), ('hostile', 'x''); DROP TABLE sample.order_summary; --', 1::numeric, 'shipped', 'a''b', 'z') $$, 'keys that are no columns change none');

-- ---- queries ----

CREATE TABLE listed (n serial, page int, order_id text COLLATE "C");
DO $$
DECLARE
	page jsonb := '{"has_next": true, "next_cursor": null}';
	n int := 0;
BEGIN
	WHILE (page -> 'has_next')::boolean LOOP
		page := sample.list_orders(7, page ->> 'next_cursor');
		INSERT INTO listed (page, order_id) SELECT n, i ->> 'order_id' FROM jsonb_array_elements(page -> 'items') AS i;
		n := n + 1;
		-- an order that comes meanwhile moves no other to another page
		INSERT INTO sample.order_summary VALUES ('new ' || n, 'new', 0, 'USD', 'pending', 0, NULL, NULL, NULL, NULL, clock_timestamp() + interval '1 day', clock_timestamp());
	END LOOP;
	DELETE FROM sample.order_summary WHERE customer_id = 'new';
END $$;
SELECT results_eq('SELECT order_id FROM listed ORDER BY n', 'SELECT order_id FROM sample.order_summary ORDER BY created_at DESC, order_id DESC', 'pages by cursor: each order once');
SELECT is_empty('SELECT page FROM listed WHERE page < (SELECT max(page) FROM listed) GROUP BY page HAVING count(*) <> 7', 'all pages but the last are full');
SELECT is(sample.list_orders(customer_id => 'nobody'), '{"items": [], "has_next": false, "next_cursor": null}', 'no orders');
SELECT is(jsonb_path_query_array(sample.list_orders(1000, customer_id => 'c1'), '$.items[*].customer_id') - 'c1', '[]', 'those of a customer');
SELECT is((pg_temp.outcome(query)).code, '22023', query)
FROM unnest(ARRAY[$$ SELECT sample.list_orders(0) $$, $$ SELECT sample.list_orders(after_cursor => 'x') $$, $$ SELECT sample.list_orders(after_cursor => 'W10=') $$, $$ SELECT sample.order_page(0) $$, $$ SELECT sample.order_page(1, 1001) $$,
	$$ SELECT sample.search_orders(criteria => '{"status = status OR 1": 1}') $$]) AS query;
SELECT results_eq($$ SELECT (sample.order_page(p, 10)) -> 'pagination' FROM unnest('{1,2,1000}'::int[]) AS p $$,
	$$ SELECT jsonb_build_object('page', p, 'size', 10, 'total', (SELECT count(*) FROM sample.order_summary), 'has_next', p < 3) FROM unnest('{1,2,1000}'::int[]) AS p $$, 'pages by number');
SELECT is(jsonb_path_query_array(sample.order_page(2, 10), '$.orders[*].order_id'), (SELECT jsonb_agg(order_id) FROM (SELECT order_id FROM sample.order_summary ORDER BY created_at DESC, order_id DESC OFFSET 10 LIMIT 10) AS o), 'the second');
SELECT pg_temp.same($$ SELECT order_id FROM sample.search_orders('dhl p1', '{"status": "shipped"}', 1000) $$,
	$$ SELECT s.order_id FROM sample.order_summary AS s JOIN sample.order_details AS d USING (order_id) WHERE s.status = 'shipped' AND s.carrier = 'DHL' AND d.detail -> 'items' @> '[{"product_id": "p1"}]' $$, 'search by words and status');
SELECT pg_temp.same($$ SELECT order_id FROM sample.search_orders(criteria => '{"min_total": 20, "max_total": 109.97, "from_time": "2026-01-06Z", "to_time": "2026-01-07Z", "customer_id": "c2"}', max_count => 1000) $$,
	$$ SELECT order_id FROM sample.order_summary WHERE total_amount BETWEEN 20 AND 109.97 AND created_at >= '2026-01-06Z' AND created_at < '2026-01-07Z' AND customer_id = 'c2' $$, 'and by other criteria');
SELECT results_eq($$ SELECT * FROM sample.order_analytics('2026-01-06', '2026-01-07') $$, $$ SELECT * FROM sample.daily_revenue WHERE day IN ('2026-01-06', '2026-01-07') ORDER BY day $$, 'order_analytics()');
SELECT results_eq($$ SELECT * FROM sample.popular_products('2026-01-06', '2026-01-07', 3) $$,
	$$ SELECT product_id, sum(quantity) AS q, sum(revenue) AS r FROM sample.product_sales WHERE day IN ('2026-01-06', '2026-01-07') GROUP BY 1 ORDER BY q DESC, r DESC, product_id COLLATE "C" LIMIT 3 $$, 'popular_products()');
SELECT results_eq($$ SELECT orders FROM sample.busiest_minutes(5) $$, $$ SELECT orders FROM sample.orders_per_minute ORDER BY orders DESC LIMIT 5 $$, 'busiest_minutes()');
SELECT is((SELECT sum(orders) FROM sample.orders_by_minute('-infinity', 'infinity')), (SELECT count(*)::numeric FROM owner), 'orders_by_minute()');
SELECT is(sample.get_order('1') - 'history', '{"order_id": "1", "customer_id": "ann", "customer": null, "status": "delivered", "total": 109.97, "currency": "USD", "shipping_address": {},
	"items": [{"product_id": "prod-1", "quantity": 2, "price": 29.99}, {"product_id": "prod-2", "quantity": 1, "price": 49.99}],
	"payment": {"payment_id": "p2", "amount": 109.97, "payment_method": "credit_card"}, "shipment": {"carrier": "UPS", "tracking_number": "track-789"}}', 'get_order()');
SELECT pg_temp.same($$ SELECT order_id FROM sample.customer_orders('c3') $$, $$ SELECT order_id FROM owner WHERE customer_id = 'c3' $$, 'customer_orders()');
SELECT evstore.append('order_customer-c3', 'UserUpdated', '{"email": "c3@example.com"}') \g /dev/null
CALL pg_temp.catch_up('sample');
SELECT pg_temp.same($$ SELECT DISTINCT detail -> 'customer' FROM sample.order_details WHERE customer_id = 'c3' $$, $$ VALUES ('{"first_name": "Name 3", "email": "c3@example.com"}'::jsonb) $$, 'a customer''s change is in all of the orders');

-- ---- stock ----

SELECT is((pg_temp.command(sample.stock_stream('a'), 'receive_stock', '{"quantity": 5}')).code, 'ok', 'receive_stock');
SELECT is((pg_temp.command(sample.stock_stream('a'), 'reserve_stock', '{"reservation_id": "r1", "quantity": 6}')).message, 'Insufficient inventory', 'more than there is');
SELECT is((pg_temp.command(sample.stock_stream('a'), 'reserve_stock', '{"reservation_id": "r1", "quantity": 0}')).code, 'VS013', 'nothing');
SELECT pg_temp.command(sample.stock_stream('a'), 'reserve_stock', '{"reservation_id": "r1", "quantity": 2}') FROM generate_series(1, 3) \g /dev/null
SELECT is((SELECT state FROM evstore.load_aggregate(sample.stock_stream('a'))), '{"available": 3, "reservations": {"r1": 2}}', 'the same reservation again is none');
SELECT is((pg_temp.command(sample.stock_stream('a'), 'reserve_stock', '{"reservation_id": "r1", "quantity": 1}')).code, '22023', 'nor may it change');
SELECT pg_temp.command(sample.stock_stream('a'), 'release_stock', '{"reservation_id": "r1"}') FROM generate_series(1, 2) \g /dev/null
SELECT is((SELECT state FROM evstore.load_aggregate(sample.stock_stream('a'))), '{"available": 5, "reservations": {}}', 'released once');
SELECT pg_temp.command(sample.stock_stream('b'), 'receive_stock', '{"quantity": 1}') \g /dev/null
SELECT throws_ok($$ SELECT sample.reserve_items('r2', '[{"product_id": "a", "quantity": 1}, {"product_id": "b", "quantity": 1}, {"product_id": "b", "quantity": 1}]') $$, 'VS013', 'Insufficient inventory', 'several products, one of which cannot be had');
SELECT is((SELECT state -> 'available' FROM evstore.load_aggregate(sample.stock_stream('a'))), '5', 'leave no part of a reservation');
SELECT sample.reserve_items('r2', '[{"product_id": "a", "quantity": 1}, {"product_id": "b", "quantity": 1}]') FROM generate_series(1, 2) \g /dev/null
SELECT results_eq($$ SELECT l.state ->> 'available' FROM unnest('{a,b}'::text[]) AS p, evstore.load_aggregate(sample.stock_stream(p)) AS l $$, $$ VALUES ('4'), ('0') $$, 'all of it, once');

-- eight at the same time want the last five units, and five get one
SELECT pg_temp.command(sample.stock_stream('c'), 'receive_stock', '{"quantity": 5}') \g /dev/null
SELECT dblink_connect('s' || i, format('host=%s port=%s dbname=%L user=%L',
	split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), current_database(), current_user)) FROM generate_series(1, 8) AS i \g /dev/null
SELECT dblink_send_query('s' || i, format('SELECT attempts FROM evstore.execute_command(%L, %L, %L, 100)', sample.stock_stream('c'), 'sample.reserve_stock(jsonb,jsonb)',
	jsonb_build_object('reservation_id', 'r' || i, 'quantity', 1))) FROM generate_series(1, 8) AS i \g /dev/null
CREATE TABLE got (n int);
INSERT INTO got SELECT count(r.attempts) FROM generate_series(1, 8) AS i LEFT JOIN LATERAL dblink_get_result('s' || i, false) AS r (attempts int) ON true GROUP BY i;
SELECT dblink_disconnect('s' || i) FROM generate_series(1, 8) AS i \g /dev/null
SELECT is((SELECT sum(n) FROM got), 5::bigint, 'five get one');
SELECT is((SELECT state -> 'available' FROM evstore.load_aggregate(sample.stock_stream('c'))), '0', 'and nothing is left');

-- ---- who may, and where ----

SELECT is((pg_temp.outcome(query)).code, code, what)
FROM (VALUES
	('SELECT evstore.install_sample()', '42P06', 'the schema exists'),
	($$ SELECT evstore.install_sample('sample2') $$, 'VS008', 'the category is taken'),
	($$ SELECT evstore.install_sample('sample2', 'a-b') $$, '22023', 'no category'),
	($$ SELECT evstore.install_sample('pg_sample', 'a') $$, '42939', 'a reserved name'),
	($$ SELECT evstore.install_sample('', 'a') $$, '22023', 'an empty name'),
	($$ SELECT evstore.install_sample(NULL) $$, '22004', 'null'),
	($$ SELECT evstore.uninstall_sample('public') $$, 'VS009', 'no sample to drop')) AS t (query, code, what);
SELECT hasnt_schema('sample2', 'a failure leaves nothing');

CREATE ROLE shop_owner;
SELECT evstore.grant_access('shop_owner', 'admin') \g /dev/null
SET ROLE shop_owner;
SELECT throws_ok($$ SELECT evstore.install_sample('Größe') $$, '42501', NULL, 'without the right to create schemas');
RESET ROLE;
SELECT format('GRANT CREATE ON DATABASE %I TO shop_owner', current_database()) \gexec
SET ROLE shop_owner;
\set hostile 'Größe "x"; DROP TABLE y; -- 東京'' $f$'
SELECT lives_ok(format('SELECT evstore.install_sample(%L, %L)', :'hostile', 'Bestell''ung "$q$ %L'), 'in a schema with any name, by any admin');
SELECT is((SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = :'hostile'), 'shop_owner', 'which belongs to the caller');
SELECT set_config('search_path', quote_ident(:'hostile') || ', public', false) \g /dev/null
SELECT evstore.execute_command(order_stream('日本-1'), 'place_order(jsonb,jsonb)', '{"customer_id": "Zoë", "items": [{"product_id": "茶", "quantity": 3, "price": 0.1}]}') \g /dev/null
SELECT is((SELECT stream || ' ' || (data ->> 'total_amount') FROM evstore.read_category('Bestell''ung "$q$ %L')), 'Bestell''ung "$q$ %L-日本-1 0.3', 'commands');
CALL pg_temp.catch_up(:'hostile');
SELECT is((SELECT sum(orders) FROM orders_per_minute), 1::numeric, 'its projections');
SELECT results_eq($$ SELECT read_model, name = nspname || '_' || read_model, name LIKE 'Größe "x"; DROP TABLE y%' || left(md5(nspname), 6) || '\_' || read_model, octet_length(name) <= 51
		FROM projection, pg_namespace WHERE nspname LIKE 'Größe%' ORDER BY read_model $$,
	$$ VALUES ('analytics' COLLATE "C", true, false, true), ('board', true, false, true), ('customer_stats', false, true, true), ('order_summary', false, true, true), ('orders', true, false, true), ('search', true, false, true) $$,
	'with names that are cut where they would be too long');
SELECT is((SELECT customer_id FROM search_orders('茶')), 'Zoë', 'and queries work there');
SELECT evstore.rebuild_projection(name) FROM projection \g /dev/null
CALL pg_temp.catch_up(:'hostile');
SELECT is((SELECT sum(orders) FROM orders_per_minute), 1::numeric, 'rebuilds');
SELECT is(get_order('日本-1') -> 'total', '0.3', 'all of them');
SELECT evstore.drop_projection(name) FROM projection WHERE read_model = 'board' \g /dev/null
RESET search_path;
SELECT lives_ok(format('SELECT evstore.uninstall_sample(%L)', :'hostile'), 'it can be dropped');
SELECT hasnt_schema(:'hostile'::name, 'with its schema');
SELECT set_eq('SELECT category::text FROM evstore.aggregates', ARRAY['order', 'order_stock'], 'its aggregates');
SELECT is((SELECT count(*) FROM evstore.projections), 6::bigint, 'and its projections');
SELECT lives_ok($$ SELECT evstore.install_sample('again', 'Bestell''ung "$q$ %L') $$, 'and installed again');
RESET ROLE;

SELECT finish();
