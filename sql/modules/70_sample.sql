/*
 * The sample: orders, stock and customers, with commands, read models and queries,
 * as SQL in a schema of the user's.
 *
 * The functions _sample_...(schema) create one part each.  They set search_path to
 * the new schema, so that names without a schema are in it; what they set ends with
 * them.  In the schema, functions keep this path (SET search_path FROM CURRENT), but
 * for two kinds: the transitions, which use nothing but their arguments, and the
 * handlers of projections, which evstore calls with the path of the tables they are
 * to write.
 */

-- To be called first by a part: names are in the schema.
CREATE OR REPLACE FUNCTION evstore._sample_path(schema name) RETURNS text
LANGUAGE sql VOLATILE
BEGIN ATOMIC
	SELECT pg_catalog.set_config('search_path', pg_catalog.format('%I, pg_temp', schema), true);
END;
COMMENT ON FUNCTION evstore._sample_path(name) IS 'makes a schema the one of names without a schema, until the calling function ends';

-- Types of events, with examples of their data.
CREATE OR REPLACE FUNCTION evstore._sample_event_types(schema name) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM evstore._sample_path(schema);

	CREATE TABLE event_types (
		type text COLLATE "C" PRIMARY KEY,
		kind text NOT NULL CHECK (kind IN ('domain', 'integration', 'notification', 'system')),
		example jsonb NOT NULL,
		description text NOT NULL);
	COMMENT ON TABLE event_types IS 'types of events: what they mean, and an example of their data';

	INSERT INTO event_types VALUES
	('UserRegistered', 'domain', '{"user_id": "user-456", "email": "ann@example.com", "first_name": "Ann", "last_name": "Lee", "registration_source": "web", "email_verified": false}',
		'a customer has registered'),
	('UserUpdated', 'domain', '{"user_id": "user-456", "email": "ann.lee@example.com"}', 'a customer has another name or address'),
	('OrderCreated', 'domain', '{"customer_id": "user-456", "items": [{"product_id": "prod-1", "quantity": 2, "price": 29.99}, {"product_id": "prod-2", "quantity": 1, "price": 49.99}], "total_amount": 109.97, "currency": "USD", "shipping_address": {"street": "123 Main St", "city": "Springfield"}}',
		'an order that can still be changed'),
	('OrderPlaced', 'domain', '{"customer_id": "user-456", "items": [{"product_id": "laptop", "quantity": 1, "price": 999.99}], "total_amount": 999.99, "currency": "USD"}',
		'an order that is created and confirmed at once'),
	('OrderItemAdded', 'domain', '{"product_id": "prod-3", "quantity": 1, "price": 9.50}', 'an item is added to an order'),
	('OrderConfirmed', 'domain', '{"customer_id": "user-456", "total_amount": 109.97}', 'the customer has confirmed the order: it stays as it is'),
	('OrderPaid', 'domain', '{"payment_id": "pay-789", "amount": 109.97, "payment_method": "credit_card"}', 'the order is paid'),
	('PaymentFailed', 'domain', '{"payment_id": "pay-788", "amount": 109.97, "reason": "card declined"}', 'a payment of the order has failed; another one may follow'),
	('OrderShipped', 'domain', '{"tracking_number": "track-789", "carrier": "UPS"}', 'the order is on its way'),
	('OrderDelivered', 'domain', '{"received_by": "Ann Lee"}', 'the order has arrived'),
	('OrderCancelled', 'domain', '{"reason": "changed my mind", "cancelled_from_status": "confirmed"}', 'the order is cancelled'),
	('OrderCompleted', 'domain', '{"customer_id": "user-456", "total_amount": 109.97, "completion_time": "2026-01-07T10:00:00Z", "processing_duration_seconds": 172800}',
		'nothing remains to be done for the order'),
	('StockReceived', 'domain', '{"quantity": 10}', 'units of a product have come in'),
	('StockReserved', 'domain', '{"reservation_id": "order-123", "quantity": 2}', 'units of a product are kept for an order'),
	('StockReleased', 'domain', '{"reservation_id": "order-123", "quantity": 2}', 'a reservation is given up'),
	('PaymentProcessed', 'integration', '{"payment_id": "pay-789", "order_id": "order-123", "amount": 109.97, "payment_method": "credit_card", "gateway_response": {"code": "00"}}',
		'of a payment service: a payment has gone through'),
	('PaymentCompleted', 'integration', '{"payment_id": "pay-789", "order_id": "order-123", "amount": 109.97}', 'of a payment service: the money is there'),
	('InventoryReserved', 'integration', '{"reservation_id": "res-1", "order_id": "order-123", "items": [{"product_id": "prod-1", "quantity": 2}], "expires_at": "2026-01-05T10:15:00Z"}',
		'of an inventory service: all items of an order are reserved'),
	('InventoryInsufficient', 'integration', '{"order_id": "order-123", "requested_items": [{"product_id": "prod-1", "quantity": 2}], "unavailable_items": [{"product_id": "prod-1", "available": 1}]}',
		'of an inventory service: some items cannot be had'),
	('InventoryReservationFailed', 'integration', '{"order_id": "order-123", "reason": "Insufficient inventory"}', 'of an inventory service: nothing is reserved'),
	('DailyReportGenerated', 'notification', '{"date": "2026-01-05", "orders": 27, "revenue": 2969.19}', 'a report can be looked at'),
	('SystemAlert', 'notification', '{"alert_type": "payment_spike", "message": "more than 100 payments in 5 minutes", "severity": "warning"}', 'somebody should look at something'),
	('SagaCompleted', 'system', '{"saga_id": "saga-1", "saga_type": "order_processing", "completion_time": "2026-01-05T10:00:05Z"}', 'all steps of a saga are done'),
	('SagaCompensated', 'system', '{"saga_id": "saga-2", "saga_type": "order_processing", "compensation_time": "2026-01-05T10:00:07Z"}', 'all steps of a saga are undone'),
	('WindowAggregation', 'system', '{"window_key": "OrderPaid:2026-01-05T10:00:00Z", "event_type": "OrderPaid", "window_size": 300, "event_count": 12, "aggregation_data": {"total": 1200.50}}',
		'events of a window of time, counted'),
	('ServiceStarted', 'system', '{"service": "order-service", "version": "1.4.0"}', 'a service has started'),
	('DeploymentCompleted', 'system', '{"service": "order-service", "version": "1.4.0", "environment": "production"}', 'a new version of a service is in place');
END
$$;
COMMENT ON FUNCTION evstore._sample_event_types(name) IS 'a part of a sample';

/*
 * install_sample(schema, category)
 *
 * Create a schema with the sample: orders, stock and customers, and its projections.
 *
 * schema: any name that no schema has yet.  category: of the streams of orders;
 * those of stock and customers are <category>_stock and <category>_customer.  No
 * aggregate of these may exist, so a second sample in the same database needs another
 * category.  Names of projections begin with the schema's.  All objects belong to the caller, who needs the right CREATE on the
 * database and access of level admin.
 * Errors: 42P06 if the schema exists, 42939 for a reserved name, 42501, 22004, 22023
 * for a category that cannot be one, VS008 for an aggregate or a projection that exists.
 */
CREATE OR REPLACE FUNCTION evstore.install_sample(schema name DEFAULT 'sample', category text DEFAULT 'order')
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF num_nulls(schema, category) > 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
			MESSAGE = format('argument "%s" must not be null', CASE WHEN schema IS NULL THEN 'schema' ELSE 'category' END);
	END IF;
	IF schema = '' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'argument "schema" must not be empty';
	END IF;
	EXECUTE format('CREATE SCHEMA %I', schema);
	EXECUTE format('COMMENT ON SCHEMA %I IS %L', schema, 'sample of evstore: orders');
	PERFORM evstore._sample_event_types(schema);
	PERFORM evstore._sample_names(schema, category);
	PERFORM evstore._sample_orders(schema, category);
	PERFORM evstore._sample_order_commands(schema);
	PERFORM evstore._sample_stock(schema, category);
	PERFORM evstore._sample_tables(schema);
	PERFORM evstore._sample_handlers(schema);
	PERFORM evstore._sample_queries(schema);
	PERFORM evstore._sample_projections(schema, category);
	PERFORM evstore._sample_services(schema);
	PERFORM evstore._sample_sagas(schema);
END
$$;
COMMENT ON FUNCTION evstore.install_sample(name, text) IS 'create a schema with the sample: orders, stock and customers';

/*
 * uninstall_sample(schema)
 *
 * Drop the schema of a sample with all that is in it, its projections, its saga and
 * aggregates.  The events stay.
 * Errors: VS009 if there is no sample in the schema, 42501.
 */
CREATE OR REPLACE FUNCTION evstore.uninstall_sample(schema name DEFAULT 'sample') RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- without a notice for each object
SET client_min_messages = warning
AS $$
DECLARE
	of_orders text;
	name text;
BEGIN
	IF to_regclass(format('%I.sample', schema)) IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'VS009',
			MESSAGE = format('there is no sample in schema "%s"', schema),
			DETAIL = jsonb_build_object('schema', schema)::text;
	END IF;
	EXECUTE format('SELECT s.category FROM %I.sample s', schema) INTO STRICT of_orders;
	-- but for what was dropped already
	FOR name IN EXECUTE format('SELECT p.name FROM %I.projection p JOIN evstore.projections e ON e.projection = p.name', schema) LOOP
		PERFORM evstore.drop_projection(name);
	END LOOP;
	FOR name IN SELECT a.category FROM evstore.aggregates a WHERE a.category IN (of_orders, of_orders || '_stock') LOOP
		PERFORM evstore.drop_aggregate(name);
	END LOOP;
	IF EXISTS (SELECT FROM evstore.saga_definitions d WHERE d.saga = evstore._sample_object_name(schema, 'order', 46)) THEN
		PERFORM evstore.drop_saga(evstore._sample_object_name(schema, 'order', 46), force => true);
	END IF;
	EXECUTE format('DROP SCHEMA %I CASCADE', schema);
END
$$;
COMMENT ON FUNCTION evstore.uninstall_sample(name) IS 'drop the schema and the aggregates of a sample';
