/*
 * The sample's read models: tables, and the handlers that write them.
 *
 * Each projection writes tables of its own and reads no others, so none depends on
 * how far another one is.  A handler takes its values from the event and from these
 * tables, times from occurred_at, and never from a clock or a setting: after a
 * rebuild the tables are as they were.  Days and minutes are those of UTC.
 */

CREATE OR REPLACE FUNCTION evstore._sample_tables(schema name) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM evstore._sample_path(schema);

	-- order_summary: lists of orders
	CREATE TABLE order_summary (
		order_id text COLLATE "C" PRIMARY KEY,
		customer_id text NOT NULL,
		total_amount numeric NOT NULL,
		currency text NOT NULL,
		status text NOT NULL,
		item_count integer NOT NULL,
		payment_id text,
		tracking_number text,
		carrier text,
		cancellation_reason text,
		created_at timestamptz NOT NULL,
		updated_at timestamptz NOT NULL);
	COMMENT ON TABLE order_summary IS 'a row for each order, for lists';
	CREATE INDEX ON order_summary (created_at, order_id);
	CREATE INDEX ON order_summary (customer_id, created_at, order_id);

	-- customer_stats
	CREATE TABLE customer_stats (
		customer_id text PRIMARY KEY,
		total_orders bigint NOT NULL,
		total_spent numeric NOT NULL,
		last_order_at timestamptz,
		last_purchase_at timestamptz);
	COMMENT ON TABLE customer_stats IS 'what each customer has ordered and paid';
	CREATE TABLE customer_stats_order (
		order_id text COLLATE "C" PRIMARY KEY,
		customer_id text NOT NULL);
	COMMENT ON TABLE customer_stats_order IS 'whose order it is, for customer_stats';

	-- orders: details, by customer, and totals of days
	CREATE TABLE order_details (
		order_id text COLLATE "C" PRIMARY KEY,
		customer_id text NOT NULL,
		total numeric NOT NULL,
		status text NOT NULL,
		placed_at timestamptz,
		detail jsonb NOT NULL);
	COMMENT ON TABLE order_details IS 'each order with all that is known about it, as one document';
	CREATE INDEX ON order_details (customer_id);
	CREATE TABLE orders_by_customer (
		customer_id text NOT NULL,
		order_id text COLLATE "C" NOT NULL,
		created_at timestamptz NOT NULL,
		PRIMARY KEY (customer_id, order_id));
	COMMENT ON TABLE orders_by_customer IS 'the orders of each customer';
	CREATE TABLE daily_totals (
		day date PRIMARY KEY,
		orders bigint NOT NULL,
		total numeric NOT NULL);
	COMMENT ON TABLE daily_totals IS 'orders that were placed or confirmed on each day';
	CREATE TABLE order_customer (
		customer_id text PRIMARY KEY,
		customer jsonb NOT NULL);
	COMMENT ON TABLE order_customer IS 'names and addresses of customers, for order_details';

	-- analytics: what was paid
	CREATE TABLE daily_revenue (
		day date PRIMARY KEY,
		orders bigint NOT NULL,
		revenue numeric NOT NULL);
	COMMENT ON TABLE daily_revenue IS 'orders that were paid on each day, and the amounts';
	CREATE TABLE product_sales (
		day date NOT NULL,
		product_id text NOT NULL,
		quantity numeric NOT NULL,
		revenue numeric NOT NULL,
		PRIMARY KEY (day, product_id));
	COMMENT ON TABLE product_sales IS 'products of orders that were paid on each day';
	CREATE TABLE unpaid_item (
		order_id text COLLATE "C" NOT NULL,
		product_id text NOT NULL,
		quantity numeric NOT NULL,
		price numeric NOT NULL);
	COMMENT ON TABLE unpaid_item IS 'items of orders that are not paid yet, for product_sales';
	CREATE INDEX ON unpaid_item (order_id);

	-- search
	CREATE TABLE order_search (
		order_id text COLLATE "C" PRIMARY KEY,
		document text NOT NULL,
		words tsvector NOT NULL);
	COMMENT ON TABLE order_search IS 'the words of each order, for full-text search';
	CREATE INDEX ON order_search USING gin (words);

	-- board
	CREATE TABLE orders_per_minute (
		minute timestamptz PRIMARY KEY,
		orders bigint NOT NULL,
		amount numeric NOT NULL);
	COMMENT ON TABLE orders_per_minute IS 'orders that were created or placed in each minute';
	CREATE INDEX ON orders_per_minute (orders, minute);
END
$$;
COMMENT ON FUNCTION evstore._sample_tables(name) IS 'a part of a sample';

/*
 * The handlers.  An order's id is what follows the first "-" of its stream, whatever
 * the data say.
 */
CREATE OR REPLACE FUNCTION evstore._sample_handlers(schema name) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM evstore._sample_path(schema);

	CREATE FUNCTION project_order_summary(e evstore.event) RETURNS void
	LANGUAGE plpgsql AS $f$
	DECLARE
		id CONSTANT text := substr(e.stream, strpos(e.stream, '-') + 1);
	BEGIN
		IF e.type IN ('OrderCreated', 'OrderPlaced') THEN
			INSERT INTO order_summary (order_id, customer_id, total_amount, currency, status, item_count, created_at, updated_at)
			SELECT id, coalesce(e.data ->> 'customer_id', ''), coalesce(sum((i ->> 'price')::numeric * (i ->> 'quantity')::numeric), 0),
				coalesce(e.data ->> 'currency', 'USD'), CASE e.type WHEN 'OrderCreated' THEN 'pending' ELSE 'confirmed' END,
				count(i), e.occurred_at, e.occurred_at
			FROM jsonb_array_elements(e.data -> 'items') AS i
			-- a stream that was deleted and begun again
			ON CONFLICT (order_id) DO UPDATE
			SET (customer_id, total_amount, currency, status, item_count, payment_id, tracking_number, carrier, cancellation_reason, created_at, updated_at)
				= ROW (excluded.customer_id, excluded.total_amount, excluded.currency, excluded.status, excluded.item_count, NULL, NULL, NULL, NULL, excluded.created_at, excluded.updated_at);
		ELSE
			UPDATE order_summary AS s
			SET status = CASE e.type
					WHEN 'OrderConfirmed' THEN 'confirmed'
					WHEN 'OrderPaid' THEN 'paid'
					WHEN 'PaymentFailed' THEN 'payment_failed'
					WHEN 'OrderShipped' THEN 'shipped'
					WHEN 'OrderDelivered' THEN 'delivered'
					WHEN 'OrderCompleted' THEN 'completed'
					WHEN 'OrderCancelled' THEN 'cancelled'
					ELSE s.status END,
				item_count = s.item_count + CASE e.type WHEN 'OrderItemAdded' THEN 1 ELSE 0 END,
				total_amount = s.total_amount + CASE e.type WHEN 'OrderItemAdded' THEN (e.data ->> 'price')::numeric * (e.data ->> 'quantity')::numeric ELSE 0 END,
				payment_id = CASE e.type WHEN 'OrderPaid' THEN e.data ->> 'payment_id' ELSE s.payment_id END,
				tracking_number = CASE e.type WHEN 'OrderShipped' THEN e.data ->> 'tracking_number' ELSE s.tracking_number END,
				carrier = CASE e.type WHEN 'OrderShipped' THEN e.data ->> 'carrier' ELSE s.carrier END,
				cancellation_reason = CASE e.type WHEN 'OrderCancelled' THEN e.data ->> 'reason' ELSE s.cancellation_reason END,
				updated_at = e.occurred_at
			WHERE s.order_id = id;
		END IF;
	END $f$;
	COMMENT ON FUNCTION project_order_summary(evstore.event) IS 'handler: writes order_summary';

	CREATE FUNCTION project_customer_stats(e evstore.event) RETURNS void
	LANGUAGE plpgsql AS $f$
	DECLARE
		id CONSTANT text := substr(e.stream, strpos(e.stream, '-') + 1);
		customer CONSTANT text := coalesce(e.data ->> 'customer_id', '');
	BEGIN
		IF e.type IN ('OrderCreated', 'OrderPlaced') THEN
			INSERT INTO customer_stats_order VALUES (id, customer)
			ON CONFLICT (order_id) DO UPDATE SET customer_id = excluded.customer_id;
			INSERT INTO customer_stats AS s (customer_id, total_orders, total_spent, last_order_at)
			VALUES (customer, 1, 0, e.occurred_at)
			ON CONFLICT (customer_id) DO UPDATE
			SET total_orders = s.total_orders + 1, last_order_at = greatest(s.last_order_at, excluded.last_order_at);
		ELSIF e.type = 'OrderPaid' THEN
			UPDATE customer_stats AS s
			SET total_spent = s.total_spent + (e.data ->> 'amount')::numeric,
				last_purchase_at = greatest(s.last_purchase_at, e.occurred_at)
			FROM customer_stats_order AS o
			WHERE o.order_id = id AND s.customer_id = o.customer_id;
		END IF;
	END $f$;
	COMMENT ON FUNCTION project_customer_stats(evstore.event) IS 'handler: writes customer_stats and customer_stats_order';

	CREATE FUNCTION project_orders(e evstore.event) RETURNS void
	LANGUAGE plpgsql AS $f$
	DECLARE
		id CONSTANT text := substr(e.stream, strpos(e.stream, '-') + 1);
		entry CONSTANT jsonb := jsonb_build_array(jsonb_build_object('type', e.type,
			'at', to_char(e.occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')));
		amount numeric;
	BEGIN
		IF e.type IN ('UserRegistered', 'UserUpdated') THEN
			INSERT INTO order_customer AS c VALUES (id, e.data)
			ON CONFLICT (customer_id) DO UPDATE SET customer = c.customer || excluded.customer;
			UPDATE order_details AS d
			SET detail = d.detail || jsonb_build_object('customer', c.customer)
			FROM order_customer AS c
			WHERE c.customer_id = id AND d.customer_id = id;
		ELSIF e.type IN ('OrderCreated', 'OrderPlaced') THEN
			SELECT coalesce(sum((i ->> 'price')::numeric * (i ->> 'quantity')::numeric), 0) INTO amount
			FROM jsonb_array_elements(e.data -> 'items') AS i;
			DELETE FROM orders_by_customer AS o USING order_details AS d
			WHERE d.order_id = id AND o.customer_id = d.customer_id AND o.order_id = id;
			INSERT INTO order_details (order_id, customer_id, total, status, placed_at, detail)
			SELECT id, coalesce(e.data ->> 'customer_id', ''), amount, CASE e.type WHEN 'OrderCreated' THEN 'pending' ELSE 'confirmed' END,
				CASE e.type WHEN 'OrderPlaced' THEN e.occurred_at END,
				jsonb_build_object('items', coalesce(e.data -> 'items', '[]'), 'shipping_address', e.data -> 'shipping_address',
					'currency', e.data -> 'currency', 'history', entry,
					'customer', (SELECT c.customer FROM order_customer AS c WHERE c.customer_id = e.data ->> 'customer_id'))
			ON CONFLICT (order_id) DO UPDATE
			SET (customer_id, total, status, placed_at, detail)
				= ROW (excluded.customer_id, excluded.total, excluded.status, excluded.placed_at, excluded.detail);
			INSERT INTO orders_by_customer VALUES (coalesce(e.data ->> 'customer_id', ''), id, e.occurred_at);
		ELSE
			UPDATE order_details AS d
			SET status = CASE e.type
					WHEN 'OrderConfirmed' THEN 'confirmed'
					WHEN 'OrderPaid' THEN 'paid'
					WHEN 'PaymentFailed' THEN 'payment_failed'
					WHEN 'OrderShipped' THEN 'shipped'
					WHEN 'OrderDelivered' THEN 'delivered'
					WHEN 'OrderCompleted' THEN 'completed'
					WHEN 'OrderCancelled' THEN 'cancelled'
					ELSE d.status END,
				total = d.total + CASE e.type WHEN 'OrderItemAdded' THEN (e.data ->> 'price')::numeric * (e.data ->> 'quantity')::numeric ELSE 0 END,
				placed_at = CASE e.type WHEN 'OrderConfirmed' THEN e.occurred_at ELSE d.placed_at END,
				detail = d.detail || jsonb_build_object('history', (d.detail -> 'history') || entry) || CASE e.type
					WHEN 'OrderItemAdded' THEN jsonb_build_object('items', (d.detail -> 'items') || jsonb_build_array(e.data))
					WHEN 'OrderPaid' THEN jsonb_build_object('payment', e.data)
					WHEN 'OrderShipped' THEN jsonb_build_object('shipment', e.data)
					WHEN 'OrderCancelled' THEN jsonb_build_object('cancellation', e.data)
					ELSE '{}' END
			WHERE d.order_id = id
			RETURNING d.total INTO amount;
		END IF;
		IF e.type IN ('OrderPlaced', 'OrderConfirmed') AND amount IS NOT NULL THEN
			INSERT INTO daily_totals AS t VALUES ((e.occurred_at AT TIME ZONE 'UTC')::date, 1, amount)
			ON CONFLICT (day) DO UPDATE SET orders = t.orders + 1, total = t.total + excluded.total;
		END IF;
	END $f$;
	COMMENT ON FUNCTION project_orders(evstore.event) IS 'handler: writes order_details, orders_by_customer, daily_totals and order_customer';

	CREATE FUNCTION project_analytics(e evstore.event) RETURNS void
	LANGUAGE plpgsql AS $f$
	DECLARE
		id CONSTANT text := substr(e.stream, strpos(e.stream, '-') + 1);
		today CONSTANT date := (e.occurred_at AT TIME ZONE 'UTC')::date;
	BEGIN
		IF e.type IN ('OrderCreated', 'OrderPlaced', 'OrderItemAdded') THEN
			IF e.type <> 'OrderItemAdded' THEN
				DELETE FROM unpaid_item WHERE order_id = id;
			END IF;
			INSERT INTO unpaid_item
			SELECT id, coalesce(i ->> 'product_id', ''), (i ->> 'quantity')::numeric, (i ->> 'price')::numeric
			FROM jsonb_array_elements(CASE e.type WHEN 'OrderItemAdded' THEN jsonb_build_array(e.data) ELSE e.data -> 'items' END) AS i;
		ELSIF e.type = 'OrderPaid' THEN
			INSERT INTO daily_revenue AS r VALUES (today, 1, (e.data ->> 'amount')::numeric)
			ON CONFLICT (day) DO UPDATE SET orders = r.orders + 1, revenue = r.revenue + excluded.revenue;
			WITH sold AS (
				DELETE FROM unpaid_item WHERE order_id = id RETURNING product_id, quantity, price)
			INSERT INTO product_sales AS p
			SELECT today, s.product_id, sum(s.quantity), sum(s.quantity * s.price) FROM sold AS s GROUP BY s.product_id
			ON CONFLICT (day, product_id) DO UPDATE
			SET quantity = p.quantity + excluded.quantity, revenue = p.revenue + excluded.revenue;
		ELSIF e.type = 'OrderCancelled' THEN
			DELETE FROM unpaid_item WHERE order_id = id;
		END IF;
	END $f$;
	COMMENT ON FUNCTION project_analytics(evstore.event) IS 'handler: writes daily_revenue, product_sales and unpaid_item';

	CREATE FUNCTION project_search(e evstore.event) RETURNS void
	LANGUAGE plpgsql AS $f$
	DECLARE
		id CONSTANT text := substr(e.stream, strpos(e.stream, '-') + 1);
		-- all strings of the data, however deep
		said CONSTANT text := (SELECT string_agg(v #>> '{}', ' ') FROM jsonb_path_query(e.data, 'strict $.**') AS v WHERE jsonb_typeof(v) = 'string');
	BEGIN
		IF e.type IN ('OrderCreated', 'OrderPlaced') THEN
			INSERT INTO order_search VALUES (id, concat_ws(' ', id, said), '')
			ON CONFLICT (order_id) DO UPDATE SET document = excluded.document;
		ELSE
			UPDATE order_search AS s SET document = concat_ws(' ', s.document, said) WHERE s.order_id = id;
		END IF;
		-- a tsvector has a limit
		UPDATE order_search AS s SET words = to_tsvector('simple', left(s.document, 100000)) WHERE s.order_id = id;
	END $f$;
	COMMENT ON FUNCTION project_search(evstore.event) IS 'handler: writes order_search';

	CREATE FUNCTION project_board(es evstore.event[]) RETURNS void
	LANGUAGE plpgsql AS $f$
	BEGIN
		INSERT INTO orders_per_minute AS m
		SELECT date_trunc('minute', e.occurred_at, 'UTC'), count(*), sum(o.amount)
		FROM unnest(es) AS e,
			LATERAL (SELECT coalesce(sum((i ->> 'price')::numeric * (i ->> 'quantity')::numeric), 0) AS amount
				FROM jsonb_array_elements(e.data -> 'items') AS i) AS o
		WHERE e.type IN ('OrderCreated', 'OrderPlaced')
		GROUP BY 1
		ORDER BY 1
		ON CONFLICT (minute) DO UPDATE SET orders = m.orders + excluded.orders, amount = m.amount + excluded.amount;
	END $f$;
	COMMENT ON FUNCTION project_board(evstore.event[]) IS 'handler for batches: writes orders_per_minute';
END
$$;
COMMENT ON FUNCTION evstore._sample_handlers(name) IS 'a part of a sample';
