-- The sample's projections: which handler gets which events, and which tables it
-- writes.

/*
 * _sample_object_name(schema, what, size) -> text
 *
 * <schema>_<what>.  A schema that leaves too few of so many bytes is cut, and six
 * digits of its MD5 tell it from others.
 */
CREATE OR REPLACE FUNCTION evstore._sample_object_name(schema name, what text, size integer) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	room CONSTANT integer := size - octet_length(what) - 1;
	start text := schema;
BEGIN
	IF octet_length(start) > room THEN
		WHILE octet_length(start) > room - 7 LOOP
			start := left(start, -1);
		END LOOP;
		start := start || '_' || left(md5(schema), 6);
	END IF;
	RETURN start || '_' || what;
END
$$;
COMMENT ON FUNCTION evstore._sample_object_name(name, text, integer) IS 'the name of a projection or saga of a sample';

CREATE OR REPLACE FUNCTION evstore._sample_projections(schema name, category text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p record;
	orders CONSTANT text[] := '{OrderCreated,OrderPlaced,OrderItemAdded,OrderConfirmed,OrderPaid,PaymentFailed,OrderShipped,OrderDelivered,OrderCompleted,OrderCancelled}';
	categories text[];
BEGIN
	PERFORM evstore._sample_path(schema);

	CREATE TABLE projection (
		read_model text COLLATE "C" PRIMARY KEY,
		name text NOT NULL UNIQUE);
	COMMENT ON TABLE projection IS 'projections of this sample: their names in evstore';

	FOR p IN SELECT * FROM (VALUES
		('order_summary', 'project_order_summary(evstore.event)', orders, '{order_summary}'::text[]),
		('customer_stats', 'project_customer_stats(evstore.event)', '{OrderCreated,OrderPlaced,OrderPaid}', '{customer_stats,customer_stats_order}'),
		('orders', 'project_orders(evstore.event)', orders || '{UserRegistered,UserUpdated}', '{order_details,orders_by_customer,daily_totals,order_customer}'),
		('analytics', 'project_analytics(evstore.event)', '{OrderCreated,OrderPlaced,OrderItemAdded,OrderPaid,OrderCancelled}', '{daily_revenue,product_sales,unpaid_item}'),
		('search', 'project_search(evstore.event)', orders, '{order_search}'),
		('board', 'project_board(evstore.event[])', '{OrderCreated,OrderPlaced}', '{orders_per_minute}'))
		AS v (read_model, handler, types, tables)
	LOOP
		categories := ARRAY[category];
		IF 'UserRegistered' = ANY (p.types) THEN
			categories := categories || (category || '_customer');
		END IF;
		INSERT INTO projection VALUES (p.read_model, evstore._sample_object_name(schema, p.read_model, 51));
		PERFORM evstore.create_projection(evstore._sample_object_name(schema, p.read_model, 51), p.handler::regprocedure,
			filter => jsonb_build_object('categories', categories, 'types', p.types),
			options => jsonb_build_object('schema', schema, 'tables', p.tables));
	END LOOP;

	CREATE FUNCTION catch_up() RETURNS bigint
	LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $f$
	DECLARE
		name text;
		handled bigint;
		total bigint := 0;
	BEGIN
		FOR name IN SELECT p.name FROM projection AS p ORDER BY p.read_model LOOP
			LOOP
				handled := evstore.run_projection(name);
				EXIT WHEN handled = 0;
				total := total + handled;
			END LOOP;
		END LOOP;
		RETURN total;
	END $f$;
	COMMENT ON FUNCTION catch_up() IS 'have all projections handle what there is, in this session, for servers without workers: how many events they have handled';
END
$$;
COMMENT ON FUNCTION evstore._sample_projections(name, text) IS 'a part of a sample';
