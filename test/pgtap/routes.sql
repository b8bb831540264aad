-- Routes: an order that is choreographed by four of them, what is observed of it,
-- cycles, the graph, and what a route may not be.
\set QUIET 1
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;
LOAD 'evstore';
SET jit = off;

SELECT plan(53);

CREATE FUNCTION pg_temp.outcome(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	message text;
BEGIN
	EXECUTE query;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, message = MESSAGE_TEXT;
	RETURN SQLSTATE || ' ' || COALESCE(NULLIF(detail, ''), message);
END $$;

-- names have collation C, and results_eq() compares rows
CREATE TEMP VIEW edge AS SELECT from_type COLLATE "default" AS from_type, route COLLATE "default" AS route, to_type COLLATE "default" AS to_type, declared, observed FROM evstore.choreography;
CREATE TEMP VIEW appended AS SELECT position, stream COLLATE "default" AS stream, type COLLATE "default" AS type, event_id, correlation_id, causation_id, data FROM evstore.events;

-- ---- services: each has its own tables, and answers events with events ----

CREATE SCHEMA inventory;
CREATE TABLE inventory.stock (sku text PRIMARY KEY, quantity int NOT NULL CHECK (quantity >= 0));
CREATE TABLE inventory.reservation (order_id text PRIMARY KEY, sku text NOT NULL, quantity int NOT NULL);
INSERT INTO inventory.stock VALUES ('book', 10), ('lamp', 1);
CREATE FUNCTION inventory.reserve(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		UPDATE stock SET quantity = quantity - (e.data ->> 'quantity')::int WHERE sku = e.data ->> 'sku';
		INSERT INTO reservation VALUES (e.data ->> 'order_id', e.data ->> 'sku', (e.data ->> 'quantity')::int);
		PERFORM evstore.append('inventory-' || (e.data ->> 'order_id'), 'InventoryReserved', e.data);
	EXCEPTION WHEN check_violation THEN
		PERFORM evstore.append('inventory-' || (e.data ->> 'order_id'), 'InventoryInsufficient', e.data);
	END;
END $$;
CREATE FUNCTION inventory.release(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	r inventory.reservation;
BEGIN
	DELETE FROM reservation WHERE order_id = e.data ->> 'order_id' RETURNING * INTO r;
	IF FOUND THEN
		UPDATE stock SET quantity = quantity + r.quantity WHERE sku = r.sku;
		PERFORM evstore.append('inventory-' || r.order_id, 'InventoryReleased', e.data);
	END IF;
END $$;
CREATE SCHEMA payment;
CREATE FUNCTION payment.charge(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF e.data ->> 'card' IS NULL THEN
		RAISE EXCEPTION 'no card';
	END IF;
	-- a business failure is an event, and said once
	PERFORM evstore.append('payment-' || (e.data ->> 'order_id'), CASE e.data ->> 'card' WHEN 'good' THEN 'PaymentProcessed' ELSE 'PaymentFailed' END, e.data);
END $$;
CREATE SCHEMA orders;
CREATE FUNCTION orders.follow(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evstore.append('order-' || (e.data ->> 'order_id'), CASE e.type WHEN 'PaymentProcessed' THEN 'OrderConfirmed' ELSE 'OrderCancelled' END, e.data - 'card');
END $$;

SELECT lives_ok($$ SELECT evstore.create_route('reserve', '{"types": ["OrderCreated"]}', 'inventory.reserve(evstore.event)', '{InventoryReserved,InventoryInsufficient,InventoryReserved}') $$, 'a route');
SELECT lives_ok($$ SELECT evstore.create_route('release', '{"types": ["PaymentFailed"]}', 'inventory.release(evstore.event)', '{InventoryReleased}') $$, 'one that undoes');
SELECT lives_ok($$ SELECT evstore.create_route('charge', '{"types": ["InventoryReserved"]}', 'payment.charge(evstore.event)', '{PaymentProcessed,PaymentFailed}', '{"retry": "none"}') $$, 'one with an option');
SELECT lives_ok($$ SELECT evstore.create_route('follow', '{"types": ["PaymentProcessed", "PaymentFailed", "InventoryInsufficient"]}', 'orders.follow(evstore.event)') $$, 'one that does not say what it emits');

CREATE FUNCTION pg_temp.place(id text, sku text, quantity int, card text) RETURNS bigint LANGUAGE sql AS $$
	SELECT position FROM evstore.append('order-' || id, 'OrderCreated', jsonb_build_object('order_id', id, 'sku', sku, 'quantity', quantity, 'card', card), correlation_id => 'order-' || id) $$;
SELECT pg_temp.place('1', 'book', 2, 'good'), pg_temp.place('2', 'book', 3, 'bad'), pg_temp.place('3', 'lamp', 2, 'good') \g /dev/null
SELECT evstore.run_projection('reserve') \g /dev/null
SELECT evstore.run_projection('charge') \g /dev/null
SELECT evstore.run_projection('follow') \g /dev/null
SELECT evstore.run_projection('release') \g /dev/null

SELECT results_eq($$ SELECT stream, type FROM appended ORDER BY stream, position $$,
	$$ VALUES ('inventory-1', 'InventoryReserved'), ('inventory-2', 'InventoryReserved'), ('inventory-2', 'InventoryReleased'), ('inventory-3', 'InventoryInsufficient'),
		('order-1', 'OrderCreated'), ('order-1', 'OrderConfirmed'), ('order-2', 'OrderCreated'), ('order-2', 'OrderCancelled'), ('order-3', 'OrderCreated'), ('order-3', 'OrderCancelled'),
		('payment-1', 'PaymentProcessed'), ('payment-2', 'PaymentFailed') $$, 'three orders: one is paid, one is not, one cannot be had');
SELECT results_eq($$ SELECT sku, quantity FROM inventory.stock ORDER BY 1 $$, $$ VALUES ('book', 8), ('lamp', 1) $$, 'what was not paid is back');
SELECT is_empty($$ SELECT stream, type FROM appended WHERE correlation_id IS DISTINCT FROM 'order-' || (data ->> 'order_id') $$, 'all events of an order have its correlation id');
SELECT results_eq($$ SELECT c.type, e.type FROM appended e JOIN appended c ON c.event_id = e.causation_id ORDER BY e.position $$,
	$$ VALUES ('OrderCreated', 'InventoryReserved'), ('OrderCreated', 'InventoryReserved'), ('OrderCreated', 'InventoryInsufficient'), ('InventoryReserved', 'PaymentProcessed'), ('InventoryReserved', 'PaymentFailed'),
		('InventoryInsufficient', 'OrderCancelled'), ('PaymentProcessed', 'OrderConfirmed'), ('PaymentFailed', 'OrderCancelled'), ('PaymentFailed', 'InventoryReleased') $$, 'and each says what it answers');
SELECT is_empty($$ SELECT e.stream FROM appended e WHERE e.type <> 'OrderCreated' AND e.causation_id IS NULL $$, 'none without a cause but the first');

-- ---- what was observed ----

CREATE TEMP VIEW seen AS SELECT from_type, route, to_type, declared, observed FROM edge;
SELECT set_eq('TABLE seen', $$ VALUES ('OrderCreated', 'reserve', 'InventoryReserved', true, 2::bigint), ('OrderCreated', 'reserve', 'InventoryInsufficient', true, 1), ('InventoryReserved', 'charge', 'PaymentProcessed', true, 1),
	('InventoryReserved', 'charge', 'PaymentFailed', true, 1), ('PaymentFailed', 'release', 'InventoryReleased', true, 1), ('PaymentProcessed', 'follow', 'OrderConfirmed', false, 1), ('PaymentFailed', 'follow', 'OrderCancelled', false, 1),
	('InventoryInsufficient', 'follow', 'OrderCancelled', false, 1) $$, 'the view shows what is declared and what was seen');
SELECT results_eq($$ SELECT route COLLATE "default", types COLLATE "default" AS types, emits::text COLLATE "default" AS emits, observed::text COLLATE "default" AS observed, handler, state FROM evstore.routes ORDER BY 1 $$,
	$$ VALUES ('charge', '{InventoryReserved}'::text[], '{PaymentFailed,PaymentProcessed}', '{PaymentFailed,PaymentProcessed}', 'payment.charge', 'running'),
		('follow', '{InventoryInsufficient,PaymentFailed,PaymentProcessed}', '{}', '{OrderCancelled,OrderConfirmed}', 'orders.follow', 'running'),
		('release', '{PaymentFailed}', '{InventoryReleased}', '{InventoryReleased}', 'inventory.release', 'running'),
		('reserve', '{OrderCreated}', '{InventoryInsufficient,InventoryReserved}', '{InventoryInsufficient,InventoryReserved}', 'inventory.reserve', 'running') $$, 'so does the view routes');
SELECT results_eq($$ SELECT projection COLLATE "default", on_error FROM evstore.projections ORDER BY 1 $$, $$ VALUES ('charge', 'park'), ('follow', 'park'), ('release', 'park'), ('reserve', 'park') $$, 'they are projections, which park what fails');
SELECT is_empty($$ SELECT evstore.choreography_cycles() $$, 'nothing leads back');

-- counts go on, in a row that takes the place of the last one
SELECT pg_temp.place('4', 'book', 1, 'good'), pg_temp.place('5', 'book', 1, NULL), pg_temp.place('6', 'book', 1, 'bad') \g /dev/null
SELECT evstore.run_projection('reserve') \g /dev/null
SELECT evstore.run_projection('charge') \g /dev/null
SELECT set_eq($$ SELECT to_type, observed FROM edge WHERE route IN ('reserve', 'charge') $$, $$ VALUES ('InventoryReserved', 5::bigint), ('InventoryInsufficient', 1), ('PaymentProcessed', 2), ('PaymentFailed', 2) $$, 'counts go on, without the event that failed');
SELECT is((SELECT count(*) FROM evstore.route_observed), 8::bigint, 'one row a count');
SELECT results_eq($$ SELECT subscription COLLATE "default", reason, error FROM evstore.parked_events $$, $$ VALUES ('charge', 'max_attempts', 'no card') $$, 'the event is parked');
SELECT is((SELECT evstore.replay_parked('charge', (SELECT position FROM evstore.parked_events), data => '{"order_id": "5", "card": "good"}')), 1, 'replayed with other data');
SELECT evstore.run_projection('charge') \g /dev/null
SELECT is((SELECT observed FROM edge WHERE to_type = 'PaymentProcessed'), 3::bigint, 'it counts, too');

-- a batch that is undone counts nothing, nor does what a handler undoes, nor what is of another cause
CREATE SCHEMA odd;
CREATE FUNCTION odd.undo(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		PERFORM evstore.append('odd-1', 'Undone');
		RAISE EXCEPTION 'no';
	EXCEPTION WHEN raise_exception THEN
		PERFORM evstore.append('odd-1', 'Done');
	END;
	PERFORM evstore.append('odd-1', 'Foreign', causation_id => '00000000-0000-0000-0000-000000000001');
	PERFORM evstore.append('odd-1', 'Repeated', event_id => '00000000-0000-0000-0000-000000000002', causation_id => e.event_id);
	PERFORM evstore.append('odd-1', 'Repeated', event_id => '00000000-0000-0000-0000-000000000002', causation_id => e.event_id);
END $$;
SELECT evstore.create_route('undo', '{"categories": ["strange"]}', 'odd.undo(evstore.event)') \g /dev/null
SELECT set_eq($$ SELECT from_type, to_type, declared, observed FROM edge WHERE route = 'undo' $$, $$ VALUES (NULL::text, NULL::text, false, 0::bigint) $$, 'nothing is known of it');
SELECT evstore.append('strange-1', 'Begun') \g /dev/null
BEGIN;
SELECT evstore.run_projection('undo') \g /dev/null
SELECT set_eq($$ SELECT from_type, to_type, observed FROM edge WHERE route = 'undo' $$, $$ VALUES ('Begun', 'Done', 1::bigint), ('Begun', 'Repeated', 1) $$, 'what was undone, or is of another cause, does not count; a retried append counts once');
ROLLBACK;
SELECT set_eq($$ SELECT from_type, to_type, observed FROM edge WHERE route = 'undo' $$, $$ VALUES (NULL::text, NULL::text, 0::bigint) $$, 'nor does a batch that was rolled back');
SELECT evstore.run_projection('undo') \g /dev/null
SELECT set_eq($$ SELECT from_type, to_type, observed FROM edge WHERE route = 'undo' $$, $$ VALUES ('Begun', 'Done', 1::bigint), ('Begun', 'Repeated', 1) $$, 'and then it does');

-- partitions count apart, and are shown together
CREATE FUNCTION odd.echo(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evstore.append('echo-' || e.stream, 'Echo');
END $$;
SELECT evstore.create_route('echo', '{"pattern": {"detail-type": ["Call", "Cry"]}}', 'odd.echo(evstore.event)', '{Echo}', '{"partitions": 4}') \g /dev/null
SELECT evstore.append('wood-' || i, 'Call') FROM generate_series(1, 40) i \g /dev/null
SELECT evstore.run_projection('echo') \g /dev/null
SELECT ok((SELECT count(*) > 1 AND sum(observed) = 40 FROM evstore.route_observed WHERE to_type = 'Echo'), 'slots count apart');
SELECT set_eq($$ SELECT from_type, to_type, observed FROM edge WHERE route = 'echo' $$, $$ VALUES ('Call', 'Echo', 40::bigint), ('Cry', 'Echo', 0) $$, 'and are shown together; a pattern names types, too');

-- ---- cycles ----

SELECT evstore.drop_route(r) FROM unnest('{undo,echo,reserve,release,charge,follow}'::text[]) r \g /dev/null
SELECT is_empty('SELECT FROM evstore.route_observed UNION ALL SELECT FROM evstore.route UNION ALL SELECT FROM evstore.projection', 'dropped: nothing is left');
SELECT evstore.create_route('a-b', '{"types": ["A"]}', 'odd.echo(evstore.event)', '{B}') \g /dev/null
SELECT evstore.create_route('b-c', '{"types": ["B"]}', 'odd.echo(evstore.event)', '{C,D}') \g /dev/null
SELECT is_empty($$ SELECT evstore.choreography_cycles() $$, 'a chain');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_route('c-a', '{"types": ["C"]}', 'odd.echo(evstore.event)', '{A}') $$), 'ok', 'a cycle is not refused');
SELECT set_eq($$ SELECT evstore.choreography_cycles() $$, $$ VALUES ('{A,a-b,B,b-c,C,c-a,A}'::text[]) $$, 'it is found once, from its least type on');
SELECT evstore.create_route('b-a', '{"types": ["B"]}', 'odd.echo(evstore.event)', '{A}') \g /dev/null
SELECT evstore.create_route('d-d', '{"types": ["D"]}', 'odd.echo(evstore.event)', '{D}') \g /dev/null
SELECT set_eq($$ SELECT evstore.choreography_cycles() $$, $$ VALUES ('{A,a-b,B,b-c,C,c-a,A}'::text[]), ('{A,a-b,B,b-a,A}'), ('{D,d-d,D}') $$, 'a shorter one, and one of a single event');
SELECT is(evstore.choreography_graph(), $$flowchart LR
    t1["A"]
    t2["B"]
    t3["C"]
    t4["D"]
    r1(["a-b"])
    r2(["b-a"])
    r3(["b-c"])
    r4(["c-a"])
    r5(["d-d"])
    t1 -.-> r1
    r1 -.-> t2
    t2 -.-> r2
    r2 -.-> t1
    t2 -.-> r3
    r3 -.-> t3
    r3 -.-> t4
    t3 -.-> r4
    r4 -.-> t1
    t4 -.-> r5
    r5 -.-> t4
    linkStyle 0,1,2,3,4,5,7,8,9,10 stroke:red
$$, 'drawn: what is part of a cycle is red');
SELECT evstore.drop_route(r) FROM unnest('{b-c,c-a,b-a,d-d}'::text[]) r \g /dev/null
SELECT is_empty($$ SELECT evstore.choreography_cycles() $$, 'gone with the routes');
SELECT evstore.create_route('all "of them"', '{}', 'odd.echo(evstore.event)', '{A}') \g /dev/null
SELECT set_eq($$ SELECT evstore.choreography_cycles() $$, $$ VALUES ('{A,"all \"of them\"",A}'::text[]), ('{A,a-b,B,"all \"of them\"",A}') $$, 'a route that answers everything answers itself');
SELECT is(evstore.choreography_graph('dot'), E'digraph choreography {\n\trankdir=LR;
	t1 [label="*", shape=box];
	t2 [label="A", shape=box];
	t3 [label="B", shape=box];
	r1 [label="a-b", shape=ellipse];
	r2 [label="all \\"of them\\"", shape=ellipse];
	t2 -> r1 [style=dashed, color=red];
	r1 -> t3 [style=dashed, color=red];
	t1 -> r2 [style=dashed, color=red];
	r2 -> t2 [style=dashed, color=red];
}
', 'for Graphviz');
SELECT alike(evstore.choreography_graph(), '%r2(["all #quot;of them#quot;"])%', 'names are quoted');
SELECT is(pg_temp.outcome($$ SELECT evstore.choreography_graph('png') $$), '22023 argument "format" must be mermaid or dot', 'no other format');

-- ---- what a route may not be ----

CREATE FUNCTION odd.batch(e evstore.event[]) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
SELECT is(pg_temp.outcome(format('SELECT evstore.create_route(%s)', a)), o, a) FROM (VALUES
	($$'r', '{}', 'odd.batch(evstore.event[])'$$, 'VS010 {"path": "fn", "function": "odd.batch(evstore.event[])"}'),
	($$'r', '{}', 'odd.echo(evstore.event)', options => '{"mode": "inline"}'$$, 'VS010 {"path": "$.options.mode"}'),
	($$'r', '{}', 'odd.echo(evstore.event)', options => '{"start": 5}'$$, 'VS010 {"path": "$.options.start"}'),
	($$'r', '{}', 'odd.echo(evstore.event)', options => '[]'$$, 'VS010 {"path": "$.options"}'),
	($$'r', '{}', 'odd.echo(evstore.event)', options => '{"none": 5}'$$, 'VS010 {"path": "$.options.none"}'),
	($$'r', '{"none": 1}', 'odd.echo(evstore.event)'$$, 'VS010 {"path": "$.none"}'),
	($$'r', '{}', 'odd.echo(evstore.event)', '{NULL}'$$, '22023 argument "emits" must have types of events, of 1 to 512 bytes'),
	($$'r', NULL, 'odd.echo(evstore.event)'$$, '22004 argument "filter" must not be null'),
	($$'a-b', '{}', 'odd.echo(evstore.event)'$$, 'VS008 {"projection": "a-b"}')) AS c (a, o);
SELECT is(pg_temp.outcome(f), '55000 projection "a-b" is a route', f) FROM unnest(ARRAY[
	$$SELECT evstore.drop_projection('a-b')$$, $$SELECT evstore.reset_projection('a-b')$$, $$SELECT evstore.rebuild_projection('a-b')$$]) f;
SELECT is(pg_temp.outcome($$ SELECT evstore.alter_projection('a-b', handler => 'odd.batch(evstore.event[])') $$), 'VS010 {"path": "fn", "function": "odd.batch(evstore.event[])"}', 'nor does it get a handler of batches');
SELECT is(pg_temp.outcome($$ SELECT evstore.alter_projection('a-b', options => '{"batch_size": 10}') $$), 'ok', 'other options can be changed');
SELECT evstore.create_projection('p', 'odd.echo(evstore.event)', options => '{"depends_on": ["a-b"]}') \g /dev/null
SELECT is(pg_temp.outcome($$ SELECT evstore.drop_route('p') $$), '55000 projection "p" is not a route', 'a projection is no route');
SELECT is(pg_temp.outcome($$ SELECT evstore.drop_route('a-b') $$), '55000 projection "p" depends on projection "a-b"', 'one that others wait for is not dropped');
SELECT is(pg_temp.outcome($$ SELECT evstore.drop_route('none') $$), 'VS009 {"projection": "none"}', 'nor is one that is not there');
-- a route that begins with the past
SELECT evstore.create_route('old', '{"types": ["OrderCreated"]}', 'odd.echo(evstore.event)', options => '{"start": "beginning"}') \g /dev/null
SELECT is(evstore.run_projection('old'), 6::bigint, 'a route may begin with what is there');

SELECT finish();
