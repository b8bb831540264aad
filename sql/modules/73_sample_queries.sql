-- The sample's queries.  Names of columns are never made of what a caller gives.
-- Those that leave conditions out are planned for each call, and so use the index
-- for those that there are.  No function has the type of a table, so that a table can
-- be replaced by a rebuilt one.

CREATE OR REPLACE FUNCTION evstore._sample_queries(schema name) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM evstore._sample_path(schema);

	CREATE FUNCTION get_order(order_id text) RETURNS jsonb
	LANGUAGE sql STABLE SET search_path FROM CURRENT AS $f$
		SELECT d.detail || jsonb_build_object('order_id', d.order_id, 'customer_id', d.customer_id, 'total', d.total, 'status', d.status)
		FROM order_details AS d WHERE d.order_id = get_order.order_id $f$;
	COMMENT ON FUNCTION get_order(text) IS 'an order with all that is known about it; null if there is none';

	CREATE FUNCTION customer_orders(customer_id text) RETURNS TABLE (order_id text, total numeric, status text, placed_at timestamptz)
	LANGUAGE sql STABLE SET search_path FROM CURRENT AS $f$
		SELECT d.order_id, d.total, d.status, d.placed_at
		FROM orders_by_customer AS o JOIN order_details AS d ON d.order_id = o.order_id
		WHERE o.customer_id = customer_orders.customer_id ORDER BY o.created_at, o.order_id $f$;
	COMMENT ON FUNCTION customer_orders(text) IS 'all orders of a customer, in the order they were created';

	CREATE FUNCTION check_size(size integer) RETURNS integer
	LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $f$
	BEGIN
		IF size IS NULL OR size NOT BETWEEN 1 AND 1000 THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the size of a page must be from 1 to 1000';
		END IF;
		RETURN size;
	END $f$;
	COMMENT ON FUNCTION check_size(integer) IS 'raises 22023 unless pages can have this size';

	CREATE FUNCTION cursor_position(after_cursor text, OUT created_at timestamptz, OUT order_id text)
	LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $f$
	DECLARE
		place jsonb;
	BEGIN
		IF after_cursor IS NULL THEN
			RETURN;
		END IF;
		place := convert_from(decode(after_cursor, 'base64'), 'UTF8');
		created_at := place ->> 0;
		order_id := place ->> 1;
		IF jsonb_array_length(place) <> 2 OR created_at IS NULL OR order_id IS NULL THEN
			RAISE data_exception;
		END IF;
	EXCEPTION WHEN data_exception THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'argument "after_cursor" is no cursor that list_orders() has returned';
	END $f$;
	COMMENT ON FUNCTION cursor_position(text) IS 'the order that a page of list_orders() has ended with';

	CREATE FUNCTION list_orders(page_size integer DEFAULT 20, after_cursor text DEFAULT NULL, customer_id text DEFAULT NULL) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan AS $f$
	DECLARE
		last record;
		place record;
		items jsonb := '[]';
		found_more boolean := false;
		o record;
	BEGIN
		PERFORM check_size(page_size);
		SELECT p.* INTO place FROM cursor_position(after_cursor) AS p;
		FOR o IN
			SELECT s.* FROM order_summary AS s
			WHERE (list_orders.customer_id IS NULL OR s.customer_id = list_orders.customer_id)
				AND (place.order_id IS NULL OR (s.created_at, s.order_id) < (place.created_at, place.order_id))
			ORDER BY s.created_at DESC, s.order_id DESC LIMIT page_size + 1
		LOOP
			IF jsonb_array_length(items) = page_size THEN
				found_more := true;
				EXIT;
			END IF;
			items := items || to_jsonb(o);
			last := o;
		END LOOP;
		RETURN jsonb_build_object('items', items, 'has_next', found_more, 'next_cursor', CASE WHEN found_more THEN
			translate(encode(convert_to(jsonb_build_array(last.created_at, last.order_id)::text, 'UTF8'), 'base64'), chr(10), '') END);
	END $f$;
	COMMENT ON FUNCTION list_orders(integer, text, text) IS 'newest orders first: {"items", "next_cursor", "has_next"}; a page costs the same however far it is';

	CREATE FUNCTION order_page(page integer DEFAULT 1, size integer DEFAULT 20, customer_id text DEFAULT NULL) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan AS $f$
	DECLARE
		skipped CONSTANT bigint := (page - 1)::bigint * check_size(size);
		total bigint;
		orders jsonb;
	BEGIN
		IF page IS NULL OR page < 1 THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'argument "page" must be 1 or more';
		END IF;
		SELECT count(*) INTO total FROM order_summary AS s
		WHERE order_page.customer_id IS NULL OR s.customer_id = order_page.customer_id;
		SELECT coalesce(jsonb_agg(to_jsonb(p) ORDER BY p.created_at DESC, p.order_id DESC), '[]') INTO orders
		FROM (SELECT s.* FROM order_summary AS s
			WHERE order_page.customer_id IS NULL OR s.customer_id = order_page.customer_id
			ORDER BY s.created_at DESC, s.order_id DESC LIMIT size OFFSET skipped) AS p;
		RETURN jsonb_build_object('orders', orders, 'pagination', jsonb_build_object(
			'page', page, 'size', size, 'total', total, 'has_next', skipped + size < total));
	END $f$;
	COMMENT ON FUNCTION order_page(integer, integer, text) IS 'newest orders first, by number of the page: {"orders", "pagination": {"page", "size", "total", "has_next"}}';

	CREATE FUNCTION search_orders(query text DEFAULT NULL, criteria jsonb DEFAULT '{}', max_count integer DEFAULT 20)
	RETURNS TABLE (order_id text, customer_id text, total_amount numeric, currency text, status text, item_count integer, payment_id text,
		tracking_number text, carrier text, cancellation_reason text, created_at timestamptz, updated_at timestamptz)
	LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan AS $f$
	DECLARE
		unknown text;
		wanted CONSTANT tsquery := websearch_to_tsquery('simple', query);
	BEGIN
		PERFORM check_size(max_count);
		IF criteria IS NULL OR jsonb_typeof(criteria) <> 'object' THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'argument "criteria" must be an object';
		END IF;
		SELECT k.name INTO unknown FROM jsonb_object_keys(criteria) AS k (name)
		WHERE k.name NOT IN ('customer_id', 'status', 'min_total', 'max_total', 'from_time', 'to_time') LIMIT 1;
		IF FOUND THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('criterion "%s" is not known', unknown);
		END IF;
		RETURN QUERY
		SELECT s.order_id, s.customer_id, s.total_amount, s.currency, s.status, s.item_count, s.payment_id,
			s.tracking_number, s.carrier, s.cancellation_reason, s.created_at, s.updated_at
		FROM order_summary AS s LEFT JOIN order_search AS t ON t.order_id = s.order_id
		WHERE (query IS NULL OR t.words @@ wanted)
			AND (NOT criteria ? 'customer_id' OR s.customer_id = criteria ->> 'customer_id')
			AND (NOT criteria ? 'status' OR s.status = criteria ->> 'status')
			AND (NOT criteria ? 'min_total' OR s.total_amount >= (criteria ->> 'min_total')::numeric)
			AND (NOT criteria ? 'max_total' OR s.total_amount <= (criteria ->> 'max_total')::numeric)
			AND (NOT criteria ? 'from_time' OR s.created_at >= (criteria ->> 'from_time')::timestamptz)
			AND (NOT criteria ? 'to_time' OR s.created_at < (criteria ->> 'to_time')::timestamptz)
		ORDER BY CASE WHEN query IS NULL THEN 0 ELSE ts_rank(t.words, wanted) END DESC, s.created_at DESC, s.order_id DESC
		LIMIT max_count;
	END $f$;
	COMMENT ON FUNCTION search_orders(text, jsonb, integer) IS 'orders with these words (as in a web search) that meet criteria: customer_id, status, min_total, max_total, from_time (inclusive), to_time (exclusive)';

	CREATE FUNCTION order_analytics(from_day date, to_day date) RETURNS TABLE (day date, orders bigint, revenue numeric)
	LANGUAGE sql STABLE SET search_path FROM CURRENT AS $f$
		SELECT r.day, r.orders, r.revenue FROM daily_revenue AS r WHERE r.day BETWEEN from_day AND to_day ORDER BY r.day $f$;
	COMMENT ON FUNCTION order_analytics(date, date) IS 'orders that were paid and their amounts, a row for each day that has any; both days inclusive';

	CREATE FUNCTION popular_products(from_day date, to_day date, max_count integer DEFAULT 10) RETURNS TABLE (product_id text, quantity numeric, revenue numeric)
	LANGUAGE sql STABLE SET search_path FROM CURRENT AS $f$
		SELECT p.product_id, sum(p.quantity), sum(p.revenue) FROM product_sales AS p WHERE p.day BETWEEN from_day AND to_day
		GROUP BY p.product_id ORDER BY 2 DESC, 3 DESC, p.product_id COLLATE "C" LIMIT max_count $f$;
	COMMENT ON FUNCTION popular_products(date, date, integer) IS 'products that were sold most, in units; both days inclusive';

	CREATE FUNCTION orders_by_minute(from_time timestamptz, to_time timestamptz) RETURNS TABLE (minute timestamptz, orders bigint, amount numeric)
	LANGUAGE sql STABLE SET search_path FROM CURRENT AS $f$
		SELECT m.minute, m.orders, m.amount FROM orders_per_minute AS m WHERE m.minute >= from_time AND m.minute < to_time ORDER BY m.minute $f$;
	COMMENT ON FUNCTION orders_by_minute(timestamptz, timestamptz) IS 'orders in each minute that has any; from_time inclusive, to_time exclusive';

	CREATE FUNCTION busiest_minutes(max_count integer DEFAULT 10) RETURNS TABLE (minute timestamptz, orders bigint, amount numeric)
	LANGUAGE sql STABLE SET search_path FROM CURRENT AS $f$
		SELECT m.minute, m.orders, m.amount FROM orders_per_minute AS m ORDER BY m.orders DESC, m.minute DESC LIMIT max_count $f$;
	COMMENT ON FUNCTION busiest_minutes(integer) IS 'minutes with most orders';
END
$$;
COMMENT ON FUNCTION evstore._sample_queries(name) IS 'a part of a sample';
