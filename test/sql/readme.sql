-- The quick start of README.md.  Made by test/tools/readme_sql.sh: do not edit.
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_readme;
CREATE DATABASE evstore_readme;
\c evstore_readme

CREATE EXTENSION evstore;

-- An order is a stream. Its first event is version 0.
SELECT * FROM evstore.append('order-1', 'OrderPlaced', '{"total": 40}',
    expected_version => evstore.no_stream());

SELECT * FROM evstore.append('order-1', 'OrderPaid', '{"amount": 40}', expected_version => 0);

SELECT * FROM evstore.append('order-1', 'OrderCancelled', expected_version => 0);

SELECT * FROM evstore.append('order-2', 'OrderPlaced', '{"total": 15}',
    event_id => '0190b1a0-6c00-7000-8000-000000000001');
SELECT * FROM evstore.append('order-2', 'OrderPlaced', '{"total": 15}',
    event_id => '0190b1a0-6c00-7000-8000-000000000001');

SELECT version, type, data FROM evstore.read_stream('order-1');
SELECT position, stream, type FROM evstore.read_all(after => 1);

SELECT evstore.create_subscription('mailer', '{"categories": ["order"]}');
SELECT slot, epoch, position, stream, type FROM evstore.fetch('mailer', 'mailer-1');

BEGIN;
CREATE TABLE mail AS SELECT 'order-1' AS stream, 'your order is paid' AS text;
SELECT evstore.ack('mailer', slot => 0, epoch => 2, up_to => 2) AS checkpoint;
COMMIT;

SELECT slot, epoch, position, stream, type FROM evstore.fetch('mailer', 'mailer-1');

CREATE TABLE stock (product text PRIMARY KEY, available int NOT NULL);
INSERT INTO stock VALUES ('pen', 5);
CREATE FUNCTION reserve(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE public.stock SET available = available - 1 WHERE product = p ->> 'product' $$;
CREATE FUNCTION release(p jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE public.stock SET available = available + 1 WHERE product = p #>> '{input,product}' $$;
CREATE FUNCTION charge(p jsonb) RETURNS void LANGUAGE sql AS $$
	SELECT evstore.fail_step('Card.Declined', 'the card has expired') $$;

SELECT evstore.create_saga('order', '{"steps": [
	{"name": "Reserve", "resource": "evstore:sql:public.reserve", "compensate": "evstore:sql:public.release"},
	{"name": "Charge", "resource": "evstore:sql:public.charge"}
]}') AS version;
SELECT evstore.start_saga('order', '{"product": "pen"}') IS NOT NULL AS started;
SELECT evstore.run_sagas() > 0 AS went_on;    -- workers do it where the library is preloaded
SELECT status, error, cause FROM evstore.sagas;
SELECT * FROM stock;

CREATE TABLE order_view (id text PRIMARY KEY, status text, total numeric);
CREATE FUNCTION apply_order(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF e.type = 'OrderPlaced' THEN
		INSERT INTO order_view VALUES (e.stream, 'placed', (e.data ->> 'total')::numeric);
	ELSIF e.type = 'OrderPaid' THEN
		UPDATE order_view SET status = 'paid' WHERE id = e.stream;
	END IF;
END $$;

SELECT evstore.create_projection('orders', 'apply_order(evstore.event)', '{"categories": ["order"]}');
SELECT evstore.start();    -- not needed where the library is preloaded
SELECT evstore.wait_for_projection('orders');
SELECT * FROM order_view ORDER BY id;

\c :main
DROP DATABASE evstore_readme;
