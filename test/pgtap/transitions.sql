-- Transitions of aggregates, and commands: the order of the four source documents,
-- with the rules of all of them.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS dblink;
CREATE EXTENSION IF NOT EXISTS evstore;

SELECT plan(75);

CREATE SCHEMA shop;
CREATE FUNCTION shop.apply(state jsonb, e evstore.event) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE e.type
		WHEN 'OrderCreated' THEN state || jsonb_build_object('status', 'draft', 'items', coalesce(e.data -> 'items', '[]'), 'total', coalesce(e.data -> 'total', '0'))
		WHEN 'ItemAdded' THEN state || jsonb_build_object('items', (state -> 'items') || jsonb_build_array(e.data -> 'sku'),
			'total', (state ->> 'total')::numeric + (e.data ->> 'price')::numeric)
		WHEN 'OrderConfirmed' THEN state || '{"status": "confirmed"}'
		WHEN 'OrderPaid' THEN state || '{"status": "paid"}'
		WHEN 'PaymentFailed' THEN state || '{"status": "payment_failed"}'
		WHEN 'OrderShipped' THEN state || '{"status": "shipped"}'
		WHEN 'OrderDelivered' THEN state || '{"status": "delivered"}'
		WHEN 'OrderCancelled' THEN state || '{"status": "cancelled"}'
		WHEN 'OrderLost' THEN state
		WHEN 'NoteAdded' THEN state
	END $$;
SELECT evstore.create_aggregate('order', '{"status": null}', 'shop.apply(jsonb,evstore.event)', options => '{"transitions": [
	{"type": "OrderCreated", "from": null, "to": "draft"},
	{"type": "ItemAdded", "from": "draft", "to": "draft", "guard": "$.event.data.price >= 0", "message": "Price must not be negative"},
	{"type": "OrderConfirmed", "from": "draft", "to": "confirmed", "guard": "$.state.items.size() > 0", "message": "Cannot confirm empty order"},
	{"type": "OrderPaid", "from": ["confirmed", "payment_failed"], "to": "paid", "guard": "$.event.data.amount == $.state.total", "message": "Payment amount must equal order total"},
	{"type": "PaymentFailed", "from": "confirmed", "to": "payment_failed"},
	{"type": "OrderShipped", "from": "paid", "to": "shipped"},
	{"type": "OrderDelivered", "from": "shipped", "to": "delivered"},
	{"type": "OrderCancelled", "from": ["draft", "confirmed", "paid", "payment_failed"], "to": "cancelled"},
	{"type": "OrderLost", "from": "shipped", "to": "lost"},
	{"type": "NoteAdded", "guard": "$.event.data.text ? (@ != \"\")"}]}') \g /dev/null

-- Which states an order gets to by these events; "!" where one is refused.
CREATE FUNCTION shop.run(VARIADIC types text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	s text := 'order-' || gen_random_uuid();
	t text;
	path text := '';
BEGIN
	FOREACH t IN ARRAY types LOOP
		BEGIN
			PERFORM evstore.append_events(s, e.events, expected_version => c.version)
			FROM (SELECT jsonb_build_array(jsonb_build_object('type', t, 'data', '{"sku": "a", "price": 5, "amount": 5, "text": "x"}'::jsonb)) AS events) AS e,
				evstore.check_transitions(s, e.events) AS c;
			path := path || ' ' || coalesce((SELECT l.state ->> 'status' FROM evstore.load_aggregate(s) AS l), '-');
		EXCEPTION WHEN SQLSTATE 'VS013' THEN
			path := path || ' !';
		END;
	END LOOP;
	RETURN ltrim(path);
END $$;
-- SQLSTATE and message of a refusal
CREATE FUNCTION pg_temp.refusal(query text, OUT code text, OUT message text, OUT detail jsonb) LANGUAGE plpgsql AS $$
DECLARE
	d text;
BEGIN
	EXECUTE query;
	code := 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL;
	detail := CASE WHEN d LIKE '{%' THEN d::jsonb END;
END $$;

SELECT is(shop.run(VARIADIC types), path, array_to_string(types, ', ')) FROM (VALUES
	('{OrderCreated,ItemAdded,OrderConfirmed,OrderPaid,OrderShipped,OrderDelivered}'::text[], 'draft draft confirmed paid shipped delivered'),
	('{OrderCreated,ItemAdded,OrderConfirmed,PaymentFailed,OrderPaid,OrderShipped}', 'draft draft confirmed payment_failed paid shipped'),
	('{ItemAdded}', '!'),
	('{OrderCreated,OrderCreated}', 'draft !'),
	('{OrderCreated,OrderConfirmed,ItemAdded,OrderConfirmed}', 'draft ! draft confirmed'),
	('{OrderCreated,ItemAdded,OrderShipped}', 'draft draft !'),
	('{OrderCreated,ItemAdded,OrderConfirmed,OrderShipped}', 'draft draft confirmed !'),
	('{OrderCreated,ItemAdded,OrderConfirmed,ItemAdded}', 'draft draft confirmed !'),
	('{OrderCreated,OrderCancelled,OrderCancelled}', 'draft cancelled !'),
	('{OrderCreated,OrderCancelled,ItemAdded}', 'draft cancelled !'),
	('{OrderCreated,ItemAdded,OrderConfirmed,OrderPaid,OrderCancelled}', 'draft draft confirmed paid cancelled'),
	('{OrderCreated,ItemAdded,OrderConfirmed,OrderPaid,OrderShipped,OrderCancelled}', 'draft draft confirmed paid shipped !'),
	('{OrderCreated,ItemAdded,OrderConfirmed,OrderPaid,OrderPaid}', 'draft draft confirmed paid !'),
	('{NoteAdded,OrderCreated,NoteAdded}', '- draft draft'),
	('{OrderCreated,Misspelled}', 'draft !')) AS t (types, path);

-- ---- what a refusal says ----

SELECT evstore.append('order-1', 'OrderCreated', '{}') \g /dev/null
SELECT results_eq($$ SELECT * FROM pg_temp.refusal($q$ SELECT evstore.check_transitions('order-1', '[{"type": "OrderConfirmed"}]') $q$) $$,
	$$ VALUES ('VS013', 'Cannot confirm empty order', '{"stream": "order-1", "index": 0, "type": "OrderConfirmed", "state": "draft", "from": ["draft"]}'::jsonb) $$, 'the message of the transition');
SELECT results_eq($$ SELECT code, message, detail -> 'from' FROM pg_temp.refusal($q$ SELECT evstore.check_transitions('order-1', '[{"type": "OrderPaid", "data": {"amount": 0}}]') $q$) $$,
	$$ VALUES ('VS013', 'event type "OrderPaid" is refused in state "draft"', '["confirmed", "payment_failed"]'::jsonb) $$, 'where it would be allowed');
SELECT results_eq($$ SELECT code, message FROM pg_temp.refusal($q$ SELECT evstore.check_transitions('order-none', '[{"type": "OrderShipped"}]') $q$) $$,
	$$ VALUES ('VS013', 'event type "OrderShipped" is refused in state "null"') $$, 'a stream that is not there');
SELECT results_eq($$ SELECT code, message FROM pg_temp.refusal($q$ SELECT evstore.check_transitions('order-1', '[{"type": "Misspelled"}]') $q$) $$,
	$$ VALUES ('VS013', 'event type "Misspelled" is in no transition of the aggregate') $$, 'a type that is in none');
SELECT results_eq($$ SELECT code, message FROM pg_temp.refusal($q$ SELECT evstore.check_transitions('order-1', '[{"type": "NoteAdded", "data": {"text": ""}}]') $q$) $$,
	$$ VALUES ('VS013', 'event type "NoteAdded" is refused in state "draft": its guard does not hold') $$, 'a guard without a message');
SELECT results_eq($$ SELECT code, detail -> 'index' FROM pg_temp.refusal($q$ SELECT evstore.check_transitions('order-1', '[{"type": "ItemAdded", "data": {"sku": "a", "price": 1}}, {"type": "OrderShipped"}]') $q$) $$,
	$$ VALUES ('VS013', '1'::jsonb) $$, 'which event of several');
SELECT results_eq($$ SELECT state, version FROM evstore.check_transitions('order-1', '[{"type": "ItemAdded", "data": {"sku": "a", "price": 7.5}}, {"type": "OrderConfirmed"}]') $$,
	$$ VALUES ('{"status": "confirmed", "items": ["a"], "total": 7.5}'::jsonb, 0::bigint) $$, 'each is checked in the state after those before it');
SELECT is(evstore.stream_version('order-1'), 0::bigint, 'and nothing is stored');
SELECT results_eq($$ SELECT code FROM pg_temp.refusal($q$ SELECT evstore.check_transitions('order-1', '[{"type": "ItemAdded", "data": {"sku": "a", "price": "cheap"}}]') $q$) $$,
	$$ VALUES ('VS013') $$, 'a guard that fails on the data does not hold');
SELECT evstore.append_events('order-lost', '[{"type": "OrderCreated"}, {"type": "OrderShipped"}]') \g /dev/null
SELECT results_eq($$ SELECT code, message FROM pg_temp.refusal($q$ SELECT evstore.check_transitions('order-lost', '[{"type": "OrderLost"}]') $q$) $$,
	$$ VALUES ('VS013', 'event type "OrderLost" leads to state "shipped" instead of "lost"') $$, 'a transition function that does not agree');

-- a refusal with a message of its own for some states
SELECT evstore.create_aggregate('parcel', '{"status": "sent"}', 'shop.apply(jsonb,evstore.event)', options => '{"transitions": [
	{"type": "OrderCancelled", "from": "draft"},
	{"type": "OrderCancelled", "from": "sent", "guard": "false", "message": "Too late"},
	{"type": "OrderCancelled", "guard": "false", "message": "Not now"}]}') \g /dev/null
SELECT results_eq($$ SELECT message, detail -> 'from' FROM pg_temp.refusal($q$ SELECT evstore.check_transitions('parcel-1', '[{"type": "OrderCancelled"}]') $q$) $$,
	$$ VALUES ('Too late', '["draft"]'::jsonb) $$, 'the first transition of the state has the message; "from" is where it is allowed');
SELECT evstore.alter_aggregate('parcel', initial => '{"status": "lost"}') \g /dev/null
SELECT is((pg_temp.refusal($$ SELECT evstore.check_transitions('parcel-1', '[{"type": "OrderCancelled"}]') $$)).message, 'Not now', 'one for all other states');
SELECT evstore.drop_aggregate('parcel') \g /dev/null

SELECT is((pg_temp.refusal(format('SELECT evstore.check_transitions(%L, %L)', stream, events))).code, code, what) FROM (VALUES
	('no array', 'order-1', '{"type": "ItemAdded"}', 'VS005'),
	('no object', 'order-1', '[1]', 'VS005'),
	('no type', 'order-1', '[{"data": {}}]', 'VS005'),
	('nothing', 'order-1', '[]', 'ok'),
	('null', 'order-1', NULL, 'ok'),
	('null in JSON', 'order-1', 'null', 'ok'),
	('no aggregate', 'other-1', '[]', 'VS009'),
	('no stream', NULL, '[]', '22004')) AS t (what, stream, events, code);

-- ---- definitions ----

SELECT results_eq(format('SELECT code, detail ->> ''path'' FROM pg_temp.refusal(%L)', format('SELECT evstore.alter_aggregate(''order'', options => %L)', options)),
	format('VALUES (%L, %L)', 'VS010', path), what)
FROM (VALUES
	('transitions as an object', '{"transitions": {}}', '$.options.transitions'),
	('as numbers', '{"transitions": [1]}', '$.options.transitions[0]'),
	('without a type', '{"transitions": [{"type": "A"}, {"from": "a"}]}', '$.options.transitions[1].type'),
	('with a type that is no string', '{"transitions": [{"type": 1}]}', '$.options.transitions[0].type'),
	('with a member that is not known', '{"transitions": [{"type": "A", "form": "a"}]}', '$.options.transitions[0].form'),
	('with a number to come from', '{"transitions": [{"type": "A", "from": 1}]}', '$.options.transitions[0].from'),
	('with one in an array', '{"transitions": [{"type": "A", "from": ["a", 1]}]}', '$.options.transitions[0].from'),
	('with null to go to', '{"transitions": [{"type": "A", "to": null}]}', '$.options.transitions[0].to'),
	('with a guard that is no path', '{"transitions": [{"type": "A", "guard": "$."}]}', '$.options.transitions[0].guard'),
	('with a variable', '{"transitions": [{"type": "A", "guard": "$.a == $b"}]}', '$.options.transitions[0].guard'),
	('with a wrong regular expression', '{"transitions": [{"type": "A", "guard": "$.a like_regex \"(\""}]}', '$.options.transitions[0].guard'),
	('a state path that is none', '{"state_path": "]"}', '$.options.state_path'),
	('one that is no string', '{"state_path": 1}', '$.options.state_path')) AS t (what, options, path);
SELECT is(jsonb_array_length(transitions), 10, 'none of them has changed anything') FROM evstore.aggregates;

-- names with all sorts of characters, and a state deep down
SELECT evstore.create_aggregate('Größe', '{}', 'shop.apply(jsonb,evstore.event)',
	options => '{"state_path": "$.a.\"is it?\"", "transitions": [{"type": "NoteAdded", "from": null}, {"type": "OrderLost", "from": "日本"}]}') \g /dev/null
SELECT lives_ok($$ SELECT evstore.check_transitions('Größe-1', '[{"type": "NoteAdded"}]') $$, 'a state path with other characters');
SELECT evstore.alter_aggregate('Größe', initial => '{"a": {"is it?": "日本"}}') \g /dev/null
SELECT lives_ok($$ SELECT evstore.check_transitions('Größe-1', '[{"type": "OrderLost"}]') $$, 'finds a name with others');
SELECT is((pg_temp.refusal($$ SELECT evstore.check_transitions('Größe-1', '[{"type": "NoteAdded"}]') $$)).code, 'VS013', 'and refuses by it');
SELECT evstore.alter_aggregate('Größe', options => '{"transitions": null}') \g /dev/null
SELECT lives_ok($$ SELECT evstore.check_transitions('Größe-1', '[{"type": "Anything"}]') $$, 'without transitions everything is allowed');
SELECT is(state_version, 2, 'transitions are no part of the state version') FROM evstore.aggregates WHERE category = 'Größe';

-- ---- commands ----

SELECT dblink_connect('other', format('host=%s port=%s dbname=%L user=%L',
	split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), current_database(), current_user)) \g /dev/null

-- "another" writer appends as many notes as args.disturb says, after the load
CREATE SEQUENCE shop.calls;
CREATE FUNCTION shop.pay(state jsonb, args jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF nextval('shop.calls') <= (args ->> 'disturb')::int THEN
		PERFORM evstore.append(args ->> 'stream', 'NoteAdded', '{"text": "me too"}');
	END IF;
	IF state ->> 'status' = 'paid' THEN
		RETURN NULL;
	END IF;
	RETURN jsonb_build_array(jsonb_build_object('type', 'OrderPaid', 'data', jsonb_build_object('amount', args -> 'amount')));
END $$;
SELECT evstore.append_events('order-2', '[{"type": "OrderCreated"}, {"type": "ItemAdded", "data": {"sku": "a", "price": 12}}, {"type": "OrderConfirmed"}]') \g /dev/null
SELECT is((pg_temp.refusal($$ SELECT evstore.execute_command('order-2', 'shop.pay(jsonb,jsonb)', '{"amount": 11}') $$)).message, 'Payment amount must equal order total', 'a command whose event is refused');
SELECT setval('shop.calls', 1, false) \g /dev/null
SELECT results_eq($$ SELECT first_version, version, attempts FROM evstore.execute_command('order-2', 'shop.pay(jsonb,jsonb)', '{"amount": 12, "disturb": 2, "stream": "order-2"}') $$,
	'VALUES (5::bigint, 5::bigint, 3)', 'decided again as often as another writer was quicker');
SELECT results_eq($$ SELECT first_version, version, attempts FROM evstore.execute_command('order-2', 'shop.pay(jsonb,jsonb)', '{"amount": 12}') $$,
	'VALUES (NULL::bigint, 5::bigint, 1)', 'a command that decides on nothing');
SELECT is((SELECT count(*) FROM evstore.read_stream('order-2') WHERE type = 'OrderPaid'), 1::bigint, 'paid once');
CREATE FUNCTION shop.nothing(state jsonb, args jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT args $$;
SELECT is((SELECT version FROM evstore.execute_command('order-2', 'shop.nothing(jsonb,jsonb)', args)), 5::bigint, 'so does one that returns ' || args::text)
FROM unnest('{null,[]}'::jsonb[]) AS args;
SET plpgsql.extra_errors = 'all';
SELECT is((SELECT version FROM evstore.execute_command('order-2', 'shop.nothing(jsonb,jsonb)', '[]')), 5::bigint, 'with all checks of PL/pgSQL');
RESET plpgsql.extra_errors;
SELECT setval('shop.calls', 1, false) \g /dev/null
SELECT evstore.append_events('order-3', '[{"type": "OrderCreated"}, {"type": "ItemAdded", "data": {"sku": "a", "price": 12}}, {"type": "OrderConfirmed"}]') \g /dev/null
SELECT is((pg_temp.refusal($$ SELECT evstore.execute_command('order-3', 'shop.pay(jsonb,jsonb)', '{"amount": 12, "disturb": 9, "stream": "order-3"}', 2) $$)).code, 'VS001', 'no more often than max_attempts says');
SELECT is((SELECT count(*) FROM evstore.read_stream('order-3')), 3::bigint, 'then nothing is appended');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT evstore.stream_version('order-3') \g /dev/null
SELECT * FROM dblink('other', $$ SELECT version FROM evstore.append('order-3', 'NoteAdded', '{"text": "late"}') $$) AS t (version bigint) \g /dev/null
SELECT setval('shop.calls', 100, false) \g /dev/null
SELECT is((pg_temp.refusal($$ SELECT evstore.execute_command('order-3', 'shop.pay(jsonb,jsonb)', '{"amount": 12, "disturb": 0}') $$)).code, 'VS001', 'under REPEATABLE READ a conflict is one at once');
ROLLBACK;
SELECT is((pg_temp.refusal(format('SELECT evstore.execute_command(%L, %s, %L, %s)', stream, command, '{}', attempts))).code, code, what) FROM (VALUES
	('a function of another form', 'order-3', $$'jsonb_typeof(jsonb)'$$, '5', 'VS010'),
	('one whose arguments are others', 'order-3', $$'jsonb_extract_path(jsonb,text[])'$$, '5', 'VS010'),
	('none', 'order-3', 'NULL', '5', 'VS010'),
	('no attempt', 'order-3', $$'shop.pay(jsonb,jsonb)'$$, '0', '22023'),
	('no aggregate', 'other-1', $$'shop.pay(jsonb,jsonb)'$$, '5', 'VS009'),
	('an empty name', '', $$'shop.pay(jsonb,jsonb)'$$, '5', '22023')) AS t (what, stream, command, attempts, code);

SELECT dblink_disconnect('other') \g /dev/null

-- the command and the transition run with the caller's search_path
CREATE SCHEMA hidden;
CREATE TABLE hidden.price (cents int);
INSERT INTO hidden.price VALUES (42);
CREATE FUNCTION hidden.quote(state jsonb, args jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	RETURN jsonb_build_array(jsonb_build_object('type', 'ItemAdded', 'data', jsonb_build_object('sku', 'q', 'price', (SELECT cents FROM price))));
END $$;
SET search_path = hidden, public;
SELECT evstore.execute_command('order-1', 'quote(jsonb,jsonb)') \g /dev/null
RESET search_path;
SELECT is((SELECT state -> 'total' FROM evstore.load_aggregate('order-1')), '42', 'a command finds what is on the caller''s search_path');

-- ---- rights ----

CREATE ROLE shop_reader;
CREATE ROLE shop_writer;
SELECT evstore.grant_access('shop_reader', 'reader'), evstore.grant_access('shop_writer', 'writer') \g /dev/null
GRANT USAGE ON SCHEMA shop TO shop_reader, shop_writer;
GRANT USAGE ON SEQUENCE shop.calls TO shop_writer;
SET ROLE shop_reader;
SELECT lives_ok($$ SELECT evstore.check_transitions('order-1', '[{"type": "OrderConfirmed"}]') $$, 'a reader may check');
SELECT throws_ok($$ SELECT evstore.execute_command('order-1', 'shop.pay(jsonb,jsonb)') $$, '42501', NULL, 'and not execute');
SET ROLE shop_writer;
SELECT lives_ok($$ SELECT evstore.execute_command('order-3', 'shop.pay(jsonb,jsonb)', '{"amount": 12, "disturb": 0}') $$, 'a writer may');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION shop.pay(jsonb, jsonb) FROM PUBLIC;
SET ROLE shop_writer;
SELECT throws_ok($$ SELECT evstore.execute_command('order-3', 'shop.pay(jsonb,jsonb)', '{"amount": 12}') $$, '42501', NULL, 'unless it may not execute the command');
RESET ROLE;

SELECT finish();
