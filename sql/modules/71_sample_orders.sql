-- The sample's write side: the aggregates of orders and of stock, and their commands.

-- What tells this sample's streams from others.
CREATE OR REPLACE FUNCTION evstore._sample_names(schema name, category text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM evstore._sample_path(schema);

	CREATE TABLE sample (
		one boolean PRIMARY KEY DEFAULT true CHECK (one),
		category text NOT NULL);
	COMMENT ON TABLE sample IS 'how this sample was installed';
	INSERT INTO sample (category) VALUES (category);

	EXECUTE format('CREATE FUNCTION order_stream(order_id text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS %L',
		format('SELECT %L || order_id', category || '-'));
	EXECUTE format('CREATE FUNCTION stock_stream(product_id text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS %L',
		format('SELECT %L || product_id', category || '_stock-'));
	EXECUTE format('CREATE FUNCTION customer_stream(customer_id text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS %L',
		format('SELECT %L || customer_id', category || '_customer-'));
	COMMENT ON FUNCTION order_stream(text) IS 'the stream of an order';
	COMMENT ON FUNCTION stock_stream(text) IS 'the stream of a product''s stock';
	COMMENT ON FUNCTION customer_stream(text) IS 'the stream of a customer';
END
$$;
COMMENT ON FUNCTION evstore._sample_names(name, text) IS 'a part of a sample';

-- The aggregate of orders.  docs/reference/sample.md has the table of its states.
CREATE OR REPLACE FUNCTION evstore._sample_orders(schema name, category text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM evstore._sample_path(schema);

	CREATE FUNCTION order_state(state jsonb, e evstore.event) RETURNS jsonb
	LANGUAGE sql STABLE AS $f$
		-- amounts are numeric all the way, which jsonb keeps exactly
		SELECT CASE
			WHEN e.type IN ('OrderCreated', 'OrderPlaced') THEN state || jsonb_build_object(
				'status', CASE e.type WHEN 'OrderCreated' THEN 'pending' ELSE 'confirmed' END,
				'customer_id', e.data -> 'customer_id',
				'items', coalesce(e.data -> 'items', '[]'),
				'total', (SELECT coalesce(sum((i ->> 'price')::numeric * (i ->> 'quantity')::numeric), 0)
					FROM jsonb_array_elements(e.data -> 'items') AS i),
				'created_at', to_char(e.occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
			WHEN e.type = 'OrderItemAdded' THEN state || jsonb_build_object(
				'items', (state -> 'items') || jsonb_build_array(e.data),
				'total', (state ->> 'total')::numeric + (e.data ->> 'price')::numeric * (e.data ->> 'quantity')::numeric)
			WHEN e.type = 'OrderConfirmed' THEN state || '{"status": "confirmed"}'
			WHEN e.type = 'OrderPaid' THEN state || jsonb_build_object('status', 'paid', 'payment_id', e.data -> 'payment_id')
			WHEN e.type = 'PaymentFailed' THEN state || '{"status": "payment_failed"}'
			WHEN e.type = 'OrderShipped' THEN state || jsonb_build_object('status', 'shipped',
				'tracking_number', e.data -> 'tracking_number', 'carrier', e.data -> 'carrier')
			WHEN e.type = 'OrderDelivered' THEN state || '{"status": "delivered"}'
			WHEN e.type = 'OrderCompleted' THEN state || '{"status": "completed"}'
			WHEN e.type = 'OrderCancelled' THEN state || jsonb_build_object('status', 'cancelled', 'cancellation_reason', e.data -> 'reason')
		END $f$;
	COMMENT ON FUNCTION order_state(jsonb, evstore.event) IS 'transition of the aggregate of orders';

	PERFORM evstore.create_aggregate(category, '{"status": "draft", "items": [], "total": 0}', 'order_state(jsonb,evstore.event)',
		options => jsonb_build_object('transitions', $j$[
		{"type": "OrderCreated", "from": "draft", "to": "pending", "message": "Quantity and price of all items must be positive",
			"guard": "$.event.data.items.type() == \"array\" && !exists($.event.data.items[*] ? (!(@.quantity.type() == \"number\" && @.price.type() == \"number\" && @.quantity > 0 && @.price > 0)))"},
		{"type": "OrderCreated", "guard": "false", "message": "Order already exists"},
		{"type": "OrderPlaced", "from": "draft", "to": "confirmed", "message": "Order must have at least one item",
			"guard": "$.event.data.items.type() == \"array\" && $.event.data.items.size() > 0 && !exists($.event.data.items[*] ? (!(@.quantity.type() == \"number\" && @.price.type() == \"number\" && @.quantity > 0 && @.price > 0)))"},
		{"type": "OrderPlaced", "guard": "false", "message": "Order already placed"},
		{"type": "OrderItemAdded", "from": "pending", "to": "pending", "message": "Quantity and price of all items must be positive",
			"guard": "strict ($.event.data.quantity > 0 && $.event.data.price > 0)"},
		{"type": "OrderItemAdded", "from": "draft", "guard": "false", "message": "Order does not exist"},
		{"type": "OrderItemAdded", "guard": "false", "message": "Cannot modify confirmed order"},
		{"type": "OrderConfirmed", "from": "pending", "to": "confirmed", "guard": "strict $.state.items.size() > 0", "message": "Cannot confirm empty order"},
		{"type": "OrderConfirmed", "guard": "false", "message": "Order is not in pending status"},
		{"type": "OrderPaid", "from": ["confirmed", "payment_failed"], "to": "paid",
			"guard": "strict $.event.data.amount == $.state.total", "message": "Payment amount does not match order total"},
		{"type": "OrderPaid", "from": ["draft", "pending"], "guard": "false", "message": "Order must be confirmed before payment"},
		{"type": "OrderPaid", "from": ["paid", "shipped", "delivered", "completed"], "guard": "false", "message": "Order is already paid"},
		{"type": "PaymentFailed", "from": ["confirmed", "payment_failed"], "to": "payment_failed"},
		{"type": "OrderShipped", "from": "paid", "to": "shipped"},
		{"type": "OrderShipped", "from": ["draft", "pending", "confirmed", "payment_failed"], "guard": "false", "message": "Order must be paid before shipping"},
		{"type": "OrderDelivered", "from": "shipped", "to": "delivered"},
		{"type": "OrderCompleted", "from": "delivered", "to": "completed"},
		{"type": "OrderCancelled", "from": ["pending", "confirmed", "payment_failed", "paid"], "to": "cancelled"},
		{"type": "OrderCancelled", "from": ["shipped", "delivered", "completed"], "guard": "false", "message": "Cannot cancel shipped or delivered order"},
		{"type": "OrderCancelled", "from": "cancelled", "guard": "false", "message": "Order is already cancelled"}]$j$::jsonb));
END
$$;
COMMENT ON FUNCTION evstore._sample_orders(name, text) IS 'a part of a sample';

/*
 * The commands of orders, for execute_command(): f(state, args) RETURNS jsonb.  They
 * check their arguments (22023); what is allowed when is left to the transitions.
 */
CREATE OR REPLACE FUNCTION evstore._sample_order_commands(schema name) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM evstore._sample_path(schema);

	CREATE FUNCTION check_args(args jsonb, required text[], optional text[] DEFAULT '{}') RETURNS void
	LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $f$
	DECLARE
		k text;
	BEGIN
		IF args IS NULL OR jsonb_typeof(args) <> 'object' THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the arguments of a command must be an object';
		END IF;
		FOREACH k IN ARRAY required LOOP
			IF args -> k IS NULL OR args -> k = 'null' THEN
				RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('argument "%s" is missing', k);
			END IF;
		END LOOP;
		SELECT o.key INTO k FROM jsonb_object_keys(args) AS o (key) WHERE o.key <> ALL (required || optional) LIMIT 1;
		IF FOUND THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('argument "%s" is not known', k);
		END IF;
		SELECT o.key INTO k FROM jsonb_each(args) AS o WHERE right(o.key, 3) = '_id' AND (jsonb_typeof(o.value) <> 'string' OR octet_length(o.value #>> '{}') > 400) LIMIT 1;
		IF FOUND THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('argument "%s" must be a string of at most 400 bytes', k);
		END IF;
	END $f$;
	COMMENT ON FUNCTION check_args(jsonb, text[], text[]) IS 'raises 22023 unless arguments of a command are there, and no others';

	CREATE FUNCTION event(type text, data jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE SET search_path FROM CURRENT AS $f$
		SELECT jsonb_build_array(jsonb_build_object('type', type, 'data', data)) $f$;
	COMMENT ON FUNCTION event(text, jsonb) IS 'what a command returns: an array of one event';

	CREATE FUNCTION new_order(args jsonb) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $f$
	DECLARE
		items CONSTANT jsonb := coalesce(args -> 'items', '[]');
		item jsonb;
		total numeric := 0;
	BEGIN
		PERFORM check_args(args, '{customer_id}', '{items,total_amount,currency,shipping_address}');
		IF jsonb_typeof(items) <> 'array' THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'argument "items" must be an array';
		END IF;
		FOR item IN SELECT i FROM jsonb_array_elements(items) AS i LOOP
			total := total + item_amount(item);
		END LOOP;
		IF args ? 'total_amount' AND args -> 'total_amount' <> to_jsonb(total) THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'Order total does not match its items';
		END IF;
		RETURN '{"currency": "USD", "shipping_address": {}}' || args || jsonb_build_object('items', items, 'total_amount', total);
	END $f$;
	COMMENT ON FUNCTION new_order(jsonb) IS 'data of OrderCreated and OrderPlaced; 22023 for items that cannot be';

	CREATE FUNCTION item_amount(item jsonb) RETURNS numeric
	LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $f$
	BEGIN
		-- other members, as a name, are welcome
		IF jsonb_typeof(item) <> 'object' THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'an item must be an object';
		END IF;
		PERFORM check_args(item, '{product_id,quantity,price}', ARRAY(SELECT jsonb_object_keys(item)));
		IF jsonb_typeof(item -> 'quantity') <> 'number' OR (item ->> 'quantity')::numeric <= 0
			OR (item ->> 'quantity')::numeric <> trunc((item ->> 'quantity')::numeric) THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the quantity of an item must be a positive integer';
		END IF;
		IF jsonb_typeof(item -> 'price') <> 'number' OR (item ->> 'price')::numeric <= 0 THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the price of an item must be a positive number';
		END IF;
		RETURN (item ->> 'price')::numeric * (item ->> 'quantity')::numeric;
	END $f$;
	COMMENT ON FUNCTION item_amount(jsonb) IS 'price times quantity; 22023 for an item that cannot be';

	CREATE FUNCTION create_order(state jsonb, args jsonb) RETURNS jsonb
	LANGUAGE sql IMMUTABLE SET search_path FROM CURRENT AS $f$
		SELECT event('OrderCreated', new_order(args)) $f$;
	COMMENT ON FUNCTION create_order(jsonb, jsonb) IS 'command: customer_id, and maybe items [{product_id, quantity, price, ...}], total_amount, currency, shipping_address';

	CREATE FUNCTION place_order(state jsonb, args jsonb) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $f$
	BEGIN
		IF jsonb_typeof(args -> 'total_amount') = 'number' AND (args ->> 'total_amount')::numeric <= 0 THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'Order total must be positive';
		END IF;
		RETURN event('OrderPlaced', new_order(args));
	END $f$;
	COMMENT ON FUNCTION place_order(jsonb, jsonb) IS 'command: as create_order(), and the order is confirmed at once';

	CREATE FUNCTION add_item(state jsonb, args jsonb) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $f$
	BEGIN
		PERFORM item_amount(args);
		RETURN event('OrderItemAdded', args);
	END $f$;
	COMMENT ON FUNCTION add_item(jsonb, jsonb) IS 'command: product_id, quantity, price; other members are kept';

	CREATE FUNCTION confirm_order(state jsonb, args jsonb) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $f$
	BEGIN
		PERFORM check_args(args, '{}');
		RETURN event('OrderConfirmed', jsonb_build_object('customer_id', state -> 'customer_id', 'total_amount', state -> 'total'));
	END $f$;
	COMMENT ON FUNCTION confirm_order(jsonb, jsonb) IS 'command, without arguments';

	CREATE FUNCTION pay_order(state jsonb, args jsonb) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $f$
	BEGIN
		PERFORM check_args(args, '{payment_id,amount}', '{payment_method}');
		RETURN event('OrderPaid', args);
	END $f$;
	COMMENT ON FUNCTION pay_order(jsonb, jsonb) IS 'command: payment_id, amount, and maybe payment_method';

	CREATE FUNCTION fail_payment(state jsonb, args jsonb) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $f$
	BEGIN
		PERFORM check_args(args, '{payment_id}', '{amount,reason}');
		RETURN event('PaymentFailed', args);
	END $f$;
	COMMENT ON FUNCTION fail_payment(jsonb, jsonb) IS 'command: payment_id, and maybe amount, reason';

	CREATE FUNCTION ship_order(state jsonb, args jsonb) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $f$
	BEGIN
		PERFORM check_args(args, '{tracking_number,carrier}');
		RETURN event('OrderShipped', args);
	END $f$;
	COMMENT ON FUNCTION ship_order(jsonb, jsonb) IS 'command: tracking_number, carrier';

	CREATE FUNCTION deliver_order(state jsonb, args jsonb) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $f$
	BEGIN
		PERFORM check_args(args, '{}', '{received_by}');
		RETURN event('OrderDelivered', args);
	END $f$;
	COMMENT ON FUNCTION deliver_order(jsonb, jsonb) IS 'command: maybe received_by';

	CREATE FUNCTION cancel_order(state jsonb, args jsonb) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $f$
	BEGIN
		PERFORM check_args(args, '{reason}');
		RETURN event('OrderCancelled', args || jsonb_build_object('cancelled_from_status', state -> 'status'));
	END $f$;
	COMMENT ON FUNCTION cancel_order(jsonb, jsonb) IS 'command: reason';

	CREATE FUNCTION complete_order(state jsonb, args jsonb) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $f$
	DECLARE
		completed CONSTANT timestamptz := coalesce((args ->> 'completion_time')::timestamptz, clock_timestamp());
	BEGIN
		PERFORM check_args(args, '{}', '{completion_time}');
		RETURN event('OrderCompleted', jsonb_build_object('customer_id', state -> 'customer_id', 'total_amount', state -> 'total',
			'completion_time', completed,
			'processing_duration_seconds', floor(extract(epoch FROM completed - (state ->> 'created_at')::timestamptz))));
	END $f$;
	COMMENT ON FUNCTION complete_order(jsonb, jsonb) IS 'command: maybe completion_time; default: now';
END
$$;
COMMENT ON FUNCTION evstore._sample_order_commands(name) IS 'a part of a sample';

/*
 * The aggregate of a product's stock.  Two reservations cannot both take the last
 * unit: each is appended only if the stream is as it was when it was decided on.
 */
CREATE OR REPLACE FUNCTION evstore._sample_stock(schema name, category text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM evstore._sample_path(schema);

	CREATE FUNCTION stock_state(state jsonb, e evstore.event) RETURNS jsonb
	LANGUAGE sql STABLE AS $f$
		SELECT CASE e.type
			WHEN 'StockReceived' THEN state || jsonb_build_object('available', (state ->> 'available')::numeric + (e.data ->> 'quantity')::numeric)
			WHEN 'StockReserved' THEN state || jsonb_build_object('available', (state ->> 'available')::numeric - (e.data ->> 'quantity')::numeric,
				'reservations', (state -> 'reservations') || jsonb_build_object(e.data ->> 'reservation_id', e.data -> 'quantity'))
			WHEN 'StockReleased' THEN state || jsonb_build_object('available', (state ->> 'available')::numeric + (e.data ->> 'quantity')::numeric,
				'reservations', (state -> 'reservations') - (e.data ->> 'reservation_id'))
		END $f$;
	COMMENT ON FUNCTION stock_state(jsonb, evstore.event) IS 'transition of the aggregate of stock';

	PERFORM evstore.create_aggregate(category || '_stock', '{"available": 0, "reservations": {}}', 'stock_state(jsonb,evstore.event)',
		options => jsonb_build_object('transitions', $j$[
		{"type": "StockReceived", "guard": "strict $.event.data.quantity > 0", "message": "Quantity must be positive"},
		{"type": "StockReserved", "guard": "strict ($.event.data.quantity > 0 && $.event.data.quantity <= $.state.available)", "message": "Insufficient inventory"},
		{"type": "StockReleased"}]$j$::jsonb));

	CREATE FUNCTION receive_stock(state jsonb, args jsonb) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $f$
	BEGIN
		PERFORM check_args(args, '{quantity}');
		RETURN event('StockReceived', args);
	END $f$;
	COMMENT ON FUNCTION receive_stock(jsonb, jsonb) IS 'command: quantity';

	CREATE FUNCTION reserve_stock(state jsonb, args jsonb) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $f$
	BEGIN
		PERFORM check_args(args, '{reservation_id,quantity}');
		IF state -> 'reservations' -> (args ->> 'reservation_id') = args -> 'quantity' THEN
			RETURN NULL;
		ELSIF state -> 'reservations' ? (args ->> 'reservation_id') THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
				MESSAGE = format('reservation "%s" has another quantity', args ->> 'reservation_id');
		END IF;
		RETURN event('StockReserved', args);
	END $f$;
	COMMENT ON FUNCTION reserve_stock(jsonb, jsonb) IS 'command: reservation_id, quantity; once more the same reservation does nothing';

	CREATE FUNCTION release_stock(state jsonb, args jsonb) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $f$
	BEGIN
		PERFORM check_args(args, '{reservation_id}');
		IF NOT state -> 'reservations' ? (args ->> 'reservation_id') THEN
			RETURN NULL;
		END IF;
		RETURN event('StockReleased', args || jsonb_build_object('quantity', state -> 'reservations' -> (args ->> 'reservation_id')));
	END $f$;
	COMMENT ON FUNCTION release_stock(jsonb, jsonb) IS 'command: reservation_id; without such a reservation it does nothing';

	CREATE FUNCTION reserve_items(reservation_id text, items jsonb) RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $f$
	DECLARE
		item record;
		loaded record;
		events jsonb;
		appends jsonb;
	BEGIN
		FOR attempt IN 1 .. 5 LOOP
			appends := '[]';
			FOR item IN
				SELECT i ->> 'product_id' AS product_id, sum((i ->> 'quantity')::numeric) AS quantity
				FROM jsonb_array_elements(items) AS i GROUP BY i ->> 'product_id'
			LOOP
				SELECT l.state, l.version INTO loaded FROM evstore.load_aggregate(stock_stream(item.product_id)) AS l;
				events := reserve_stock(loaded.state, jsonb_build_object('reservation_id', reservation_id, 'quantity', item.quantity));
				CONTINUE WHEN events IS NULL;
				PERFORM evstore.check_transitions(stock_stream(item.product_id), events);
				appends := appends || jsonb_build_object('stream', stock_stream(item.product_id),
					'expected_version', loaded.version, 'events', events);
			END LOOP;
			EXIT WHEN appends = '[]';
			BEGIN
				PERFORM evstore.append_streams(appends);
				EXIT;
			EXCEPTION WHEN SQLSTATE 'VS001' THEN
				-- under REPEATABLE READ the next look would be the same
				IF attempt = 5 OR current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
					RAISE;
				END IF;
			END;
		END LOOP;
	END $f$;
	COMMENT ON FUNCTION reserve_items(text, jsonb) IS 'reserve items of several products, [{product_id, quantity}]: all of them or none';
END
$$;
COMMENT ON FUNCTION evstore._sample_stock(name, text) IS 'a part of a sample';
