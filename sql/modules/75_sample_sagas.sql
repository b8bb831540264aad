-- The sample's saga: an order is reserved, paid, shipped and confirmed, or all of it is undone.

/*
 * Participants of the saga: what each service of a shop would keep, as a table, and its
 * functions.  A step gets the input of the saga with the results so far; its compensator
 * {"input", "output", "error", "outcome"} of the step.
 */
CREATE OR REPLACE FUNCTION evstore._sample_services(schema name) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM evstore._sample_path(schema);

	CREATE TABLE outage (
		service text COLLATE "C" PRIMARY KEY,
		error text NOT NULL DEFAULT 'ServiceUnavailable');
	COMMENT ON TABLE outage IS 'steps that are to fail, for trying it out: ReserveInventory, RefundPayment, ...';

	CREATE TABLE payment (
		payment_id text PRIMARY KEY,
		order_id text NOT NULL,
		amount numeric NOT NULL,
		status text NOT NULL CHECK (status IN ('taken', 'refunded')));
	COMMENT ON TABLE payment IS 'of the payment service';

	CREATE TABLE shipment (
		tracking_number text PRIMARY KEY,
		order_id text NOT NULL,
		status text NOT NULL CHECK (status IN ('sent', 'cancelled')));
	COMMENT ON TABLE shipment IS 'of the shipping service';

	CREATE TABLE notice (
		order_id text NOT NULL,
		kind text NOT NULL CHECK (kind IN ('confirmation', 'cancellation')),
		PRIMARY KEY (order_id, kind));
	COMMENT ON TABLE notice IS 'of the notification service: what customers have been told';

	CREATE FUNCTION check_service(service text) RETURNS void
	LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $f$
	DECLARE
		failure text := (SELECT o.error FROM outage AS o WHERE o.service = check_service.service);
	BEGIN
		IF failure IS NOT NULL THEN
			PERFORM evstore.fail_step(failure, service || ' does not work');
		END IF;
	END $f$;
	COMMENT ON FUNCTION check_service(text) IS 'fails the step if its service is out of order';

	CREATE FUNCTION reserve_inventory(p jsonb) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $f$
	BEGIN
		PERFORM check_service('ReserveInventory');
		IF NOT coalesce((p ->> 'items_available')::boolean, true) THEN
			PERFORM evstore.fail_step('InsufficientInventory', 'items are not available');
		END IF;
		PERFORM reserve_items(p ->> 'order_id',
			(SELECT l.state -> 'items' FROM evstore.load_aggregate(order_stream(p ->> 'order_id')) AS l));
		RETURN jsonb_build_object('reservation_id', p ->> 'order_id');
	EXCEPTION WHEN SQLSTATE 'VS013' THEN
		-- the stock's transitions: nothing is reserved, of no item
		PERFORM evstore.fail_step('InsufficientInventory', SQLERRM);
		RETURN NULL;
	END $f$;
	COMMENT ON FUNCTION reserve_inventory(jsonb) IS 'step: reserve all items of the order';

	CREATE FUNCTION release_inventory(p jsonb) RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $f$
	BEGIN
		PERFORM check_service('ReleaseInventory');
		PERFORM evstore.execute_command(stock_stream(i.product_id), format('%I.release_stock(jsonb,jsonb)', current_schema())::regprocedure,
			jsonb_build_object('reservation_id', p #>> '{input,order_id}'))
		FROM (SELECT DISTINCT j ->> 'product_id' AS product_id
			FROM evstore.load_aggregate(order_stream(p #>> '{input,order_id}')) AS l, jsonb_array_elements(l.state -> 'items') AS j) AS i;
	END $f$;
	COMMENT ON FUNCTION release_inventory(jsonb) IS 'compensates reserve_inventory(); without a reservation it does nothing';

	CREATE FUNCTION process_payment(p jsonb) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $f$
	DECLARE
		id text := 'pay-' || (p ->> 'order_id');
		total numeric := (SELECT (l.state ->> 'total')::numeric FROM evstore.load_aggregate(order_stream(p ->> 'order_id')) AS l);
	BEGIN
		PERFORM check_service('ProcessPayment');
		IF NOT coalesce((p ->> 'payment_valid')::boolean, true) THEN
			PERFORM evstore.fail_step('PaymentFailed', 'card declined');
		END IF;
		INSERT INTO payment VALUES (id, p ->> 'order_id', total, 'taken');
		PERFORM evstore.execute_command(order_stream(p ->> 'order_id'), format('%I.pay_order(jsonb,jsonb)', current_schema())::regprocedure,
			jsonb_build_object('payment_id', id, 'amount', total));
		RETURN jsonb_build_object('payment_id', id);
	END $f$;
	COMMENT ON FUNCTION process_payment(jsonb) IS 'step: take the money';

	CREATE FUNCTION refund_payment(p jsonb) RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $f$
	BEGIN
		PERFORM check_service('RefundPayment');
		UPDATE payment SET status = 'refunded' WHERE order_id = p #>> '{input,order_id}';
	END $f$;
	COMMENT ON FUNCTION refund_payment(jsonb) IS 'compensates process_payment(); without a payment it does nothing';

	CREATE FUNCTION ship(p jsonb) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $f$
	DECLARE
		number text := 'TN-' || (p ->> 'order_id');
	BEGIN
		PERFORM check_service('ShipOrder');
		INSERT INTO shipment VALUES (number, p ->> 'order_id', 'sent');
		RETURN jsonb_build_object('tracking_number', number);
	END $f$;
	COMMENT ON FUNCTION ship(jsonb) IS 'step: send the order';

	CREATE FUNCTION cancel_shipment(p jsonb) RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $f$
	BEGIN
		PERFORM check_service('CancelShipment');
		UPDATE shipment SET status = 'cancelled' WHERE order_id = p #>> '{input,order_id}';
	END $f$;
	COMMENT ON FUNCTION cancel_shipment(jsonb) IS 'compensates ship(); without a shipment it does nothing';

	CREATE FUNCTION send_confirmation(p jsonb) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $f$
	BEGIN
		PERFORM check_service('SendConfirmation');
		INSERT INTO notice VALUES (p ->> 'order_id', 'confirmation');
		PERFORM evstore.execute_command(order_stream(p ->> 'order_id'), format('%I.ship_order(jsonb,jsonb)', current_schema())::regprocedure,
			jsonb_build_object('tracking_number', p #> '{shipment,tracking_number}', 'carrier', 'UPS'));
		RETURN '{"confirmation_sent": true}';
	END $f$;
	COMMENT ON FUNCTION send_confirmation(jsonb) IS 'step: tell the customer, and the order that it is on its way';

	CREATE FUNCTION cancel_processing(p jsonb) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $f$
	BEGIN
		PERFORM check_service('CancelOrder');
		PERFORM evstore.execute_command(order_stream(p #>> '{input,order_id}'), format('%I.cancel_order(jsonb,jsonb)', current_schema())::regprocedure,
			'{"reason": "it could not be processed"}');
		INSERT INTO notice VALUES (p #>> '{input,order_id}', 'cancellation') ON CONFLICT DO NOTHING;
		RETURN NULL;
	END $f$;
	COMMENT ON FUNCTION cancel_processing(jsonb) IS 'compensates accept(): the order is cancelled, the customer is told';

	CREATE FUNCTION accept(p jsonb) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $f$
	BEGIN
		PERFORM check_service('AcceptOrder');
		IF (SELECT l.state ->> 'status' FROM evstore.load_aggregate(order_stream(p ->> 'order_id')) AS l) IS DISTINCT FROM 'confirmed' THEN
			PERFORM evstore.fail_step('OrderNotConfirmed', format('order %s is not confirmed', p ->> 'order_id'));
		END IF;
		RETURN NULL;
	END $f$;
	COMMENT ON FUNCTION accept(jsonb) IS 'step: is it an order that can be processed?';
END
$$;
COMMENT ON FUNCTION evstore._sample_services(name) IS 'a part of a sample';

-- The saga itself, and what starts it.
CREATE OR REPLACE FUNCTION evstore._sample_sagas(schema name) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name CONSTANT text := evstore._sample_object_name(schema, 'order', 46);
	-- as it stands within a string of JSON
	functions CONSTANT text := btrim(to_json(format('evstore:sql:%I.', schema))::text, '"');
BEGIN
	PERFORM evstore._sample_path(schema);

	PERFORM evstore.create_saga(name, jsonb_build_object(
		'asl', replace($j${
			"Comment": "An order that is confirmed",
			"StartAt": "AcceptOrder",
			"States": {
				"AcceptOrder": {"Type": "Task", "Resource": "FUNCTIONS accept", "ResultPath": null, "Next": "ReserveInventory"},
				"ReserveInventory": {"Type": "Task", "Resource": "FUNCTIONS reserve_inventory", "ResultPath": "$.reservation", "Next": "ProcessPayment",
					"Retry": [{"ErrorEquals": ["ServiceUnavailable"], "IntervalSeconds": 1, "MaxAttempts": 2}]},
				"ProcessPayment": {"Type": "Task", "Resource": "FUNCTIONS process_payment", "ResultPath": "$.payment", "Next": "ShipOrder",
					"Retry": [{"ErrorEquals": ["ServiceUnavailable"], "IntervalSeconds": 1, "MaxAttempts": 2}]},
				"ShipOrder": {"Type": "Task", "Resource": "FUNCTIONS ship", "ResultPath": "$.shipment", "Next": "SendConfirmation",
					"Retry": [{"ErrorEquals": ["ServiceUnavailable"], "IntervalSeconds": 1, "MaxAttempts": 2}]},
				"SendConfirmation": {"Type": "Task", "Resource": "FUNCTIONS send_confirmation", "ResultPath": "$.confirmation", "End": true,
					"Retry": [{"ErrorEquals": ["ServiceUnavailable"], "IntervalSeconds": 1, "MaxAttempts": 2}]}
			}}$j$, 'FUNCTIONS ', functions)::jsonb,
		'compensation', replace($j${"states": {
			"AcceptOrder": {"Resource": "FUNCTIONS cancel_processing"},
			"ReserveInventory": {"Resource": "FUNCTIONS release_inventory"},
			"ProcessPayment": {"Resource": "FUNCTIONS refund_payment"},
			"ShipOrder": {"Resource": "FUNCTIONS cancel_shipment"}}}$j$, 'FUNCTIONS ', functions)::jsonb,
		'options', '{"business_key": "$.order_id"}'::jsonb));

	EXECUTE format($f$
		CREATE FUNCTION process_order(order_id text, options jsonb DEFAULT '{}') RETURNS uuid LANGUAGE sql VOLATILE AS %L $f$,
		format($f$ SELECT evstore.start_saga(%L, options || pg_catalog.jsonb_build_object('order_id', order_id)) $f$, name));
	COMMENT ON FUNCTION process_order(text, jsonb) IS
		'process an order that is confirmed; options: items_available, payment_valid (false: that step fails).  The saga''s id, the same for the same order';
END
$$;
COMMENT ON FUNCTION evstore._sample_sagas(name) IS 'a part of a sample';
