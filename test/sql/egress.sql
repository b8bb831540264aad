-- evstore.egress_allow: what it may be, and what it allows.
\set SHOW_CONTEXT never
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_egress;
CREATE DATABASE evstore_egress;
\c evstore_egress
\set VERBOSITY terse
CREATE EXTENSION evstore;
LOAD 'evstore';

-- ---- values ----

CREATE TEMP TABLE list (n int GENERATED ALWAYS AS IDENTITY, value text);
INSERT INTO list (value) VALUES (''), (' '), ('*'), ('*:443'), ('unix'), ('UNIX'), ('unix:1'), ('broker'), ('Broker.Example.COM.'), ('a_b-c.example:9092'), ('*.example.com:443'),
	('10.0.0.1'), ('10.0.0.1:80'), ('10.1.2.3/8'), ('10.0.0.0/8:80'), ('0.0.0.0/0'), ('2001:db8::1'), ('2001:db8::/32'), ('[2001:db8::1]'), ('[2001:db8::1]:443'), ('[::/0]:1'), ('::ffff:10.0.0.1'),
	(' a , b:1 ,10.0.0.0/8,unix'),
	(','), ('a,'), (',a'), ('a,,b'), ('a b'), ('a:'), ('a:0'), ('a:65536'), ('a:65535'), ('a:-1'), ('a:+1'), ('a:1x'), ('http://a'), ('a/8'), ('.'), ('.a'), ('a..b'), ('*.'), ('*.*'), ('*a'), ('a.*'), ('*.10.0.0.1'), ('ä'),
	('10.0.0'), ('10.0.0.256'), ('10'), ('1.2.3.4.5'), ('10.0.0.0/33'), ('10.0.0.0/-1'), ('10.0.0.0/'), ('10.0.0.0/8/8'), ('2001:db8::/129'), ('2001:db8::1%eth0'), ('::ffff:10.0.0.0/104'), ('[2001:db8::1'), ('[10.0.0.1]'), ('[a]:1'), ('[]'), ('[::1]x'), (':::'), ('@a'),
	(repeat('a.', 126) || 'a'), (repeat('a.', 127) || 'a'), ('*.' || repeat('a', 252) || ':65535'), ('*.' || repeat('a', 253));
CREATE FUNCTION pg_temp.try(value text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('evstore.egress_allow', value, true);
	RETURN 'good';
EXCEPTION WHEN invalid_parameter_value THEN
	RETURN 'refused';
END
$$;
SELECT left(value, 30) AS value, pg_temp.try(value) FROM list ORDER BY n;
\set VERBOSITY default
SET evstore.egress_allow = 'a, b, c:d';
\set VERBOSITY terse
SHOW evstore.egress_allow;

-- ---- what is allowed ----

CREATE FUNCTION pg_temp.allowed(list text, host text, address text, port int) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('evstore.egress_allow', list, true);
	RETURN evstore._egress_allowed(host, address, port);
END
$$;
CREATE TEMP TABLE question (n int GENERATED ALWAYS AS IDENTITY, list text, host text, address text, port int, expected boolean);
INSERT INTO question (list, host, address, port, expected) VALUES
	('', 'a', NULL, 1, false), ('', 'a', '10.0.0.1', 1, false), ('', '10.0.0.1', '10.0.0.1', 1, false), ('', '/tmp', NULL, 1, false),
	-- names: exact, without regard to case and a dot at the end, whatever they are resolved to
	('a.example', 'a.example', NULL, 1, true), ('a.example', 'A.Example.', '10.0.0.1', 1, true), ('A.example.', 'a.EXAMPLE', '2001:db8::1', 1, true),
	('a.example', 'b.example', NULL, 1, false), ('a.example', 'b.a.example', NULL, 1, false), ('a.example', 'a.example.org', '10.0.0.1', 1, false), ('a.example', '10.0.0.1', '10.0.0.1', 1, false),
	('*.example', 'a.example', NULL, 1, true), ('*.example', 'b.A.example.', '10.0.0.1', 1, true), ('*.example', 'example', NULL, 1, false), ('*.example', 'aexample', NULL, 1, false), ('*.example', '.example', '10.0.0.1', 1, false),
	('*', 'a', NULL, 1, true), ('*', 'a', '10.0.0.1', 1, true), ('*', '10.0.0.1', NULL, 1, true), ('*', '::1', '::1', 1, true), ('*', '', NULL, 1, false), ('*', NULL, NULL, 1, false), ('*', NULL, '10.0.0.1', 1, true), ('*', 'a', 'b', 1, false), ('*', 'a', '', 1, false),
	-- ports
	('a:443', 'a', NULL, 443, true), ('a:443', 'a', '10.0.0.1', 443, true), ('a:443', 'a', NULL, 80, false), ('*:443', 'a', '10.0.0.1', 80, false), ('a:443,a:80', 'a', NULL, 80, true), ('10.0.0.0/8:443', 'a', '10.0.0.1', 443, true), ('10.0.0.0/8:443', 'a', '10.0.0.1', 80, false), ('10.0.0.0/8:443', 'a', NULL, 80, false), ('[::1]:443', '::1', '::1', 443, true), ('[::1]:443', '::1', '::1', 80, false),
	-- addresses: what a name is resolved to counts; before that anything may come
	('10.0.0.1', 'a', NULL, 1, true), ('10.0.0.1', 'a', '10.0.0.1', 1, true), ('10.0.0.1', 'a', '10.0.0.2', 1, false), ('10.0.0.1', '10.0.0.1', NULL, 1, true), ('10.0.0.1', '10.0.0.2', NULL, 1, false), ('10.0.0.1', '10.0.0.1', '10.0.0.1', 1, true), ('10.0.0.1', '10.0.0.1', '10.0.0.2', 1, false),
	('10.1.2.3/8', 'a', '10.255.0.1', 1, true), ('10.0.0.0/8', 'a', '11.0.0.1', 1, false), ('10.0.0.128/25', 'a', '10.0.0.127', 1, false), ('10.0.0.128/25', 'a', '10.0.0.200', 1, true), ('0.0.0.0/0', 'a', '192.0.2.1', 1, true), ('0.0.0.0/0', 'a', '2001:db8::1', 1, false), ('::/0', 'a', '2001:db8::1', 1, true), ('::/0', 'a', '192.0.2.1', 1, false),
	('2001:db8::/33', 'a', '2001:db8:7fff::1', 1, true), ('2001:db8::/33', 'a', '2001:db8:8000::1', 1, false), ('2001:DB8::1', 'a', '2001:db8:0:0::1', 1, true), ('10.0.0.1', 'a', '::ffff:10.0.0.1', 1, true), ('::ffff:10.0.0.1', 'a', '10.0.0.1', 1, true), ('::/0', 'a', '::ffff:10.0.0.1', 1, false),
	('10.0.0.1', 'b.example', '10.0.0.1.example', 1, false),
	-- link-local addresses and metadata services: only if an entry names them
	('*', 'a', '169.254.169.254', 80, false), ('a', 'a', '169.254.169.254', 80, false), ('*.example', 'a.example', '::ffff:169.254.169.254', 80, false), ('*', '169.254.169.254', NULL, 80, false), ('0.0.0.0/0', 'a', '169.254.169.254', 80, false), ('169.0.0.0/8', 'a', '169.254.0.1', 80, false),
	('169.254.0.0/16', 'a', '169.254.169.254', 80, true), ('169.254.169.254', '169.254.169.254', NULL, 80, true), ('169.254.169.254', 'a', '169.254.169.253', 80, false), ('169.254.169.254:80', 'a', '169.254.169.254', 81, false), ('*,169.254.169.254', 'a', '169.254.169.254', 80, true), ('*', 'a', '169.255.0.1', 80, true),
	('*', 'a', 'fe80::1', 80, false), ('*', 'a', 'fe80::1%eth0', 80, false), ('*', 'fe80::1%eth0', NULL, 80, false), ('*', 'a', 'febf::1', 80, false), ('*', 'a', 'fec0::1', 80, true), ('::/0', 'a', 'fe80::1', 80, false), ('fe80::/10', 'a', 'fe80::1%2', 80, true), ('fe80::/10', 'fe80::1%eth0', NULL, 80, true),
	('*', 'a', 'fd00:ec2::254', 80, false), ('fd00::/8', 'a', 'fd00:ec2::254', 80, false), ('fd00:ec2::254', 'a', 'fd00:ec2::254', 80, true), ('*', 'a', 'fd20:ce::254', 80, false), ('*', 'a', '100.100.100.200', 80, false), ('*', 'a', '100.100.100.201', 80, true),
	-- sockets
	('unix', '/tmp', NULL, 5432, true), ('unix', '@abstract', NULL, 0, true), ('a,unix', '/var/run/postgresql', NULL, NULL, true), ('*,0.0.0.0/0', '/tmp', NULL, 5432, false), ('unix', 'a', NULL, 1, false), ('unix', 'a', '127.0.0.1', 1, false), ('unix', 'unix', NULL, 1, false);
SELECT list, host, address, port, expected FROM question WHERE pg_temp.allowed(list, host, address, port) <> expected ORDER BY n;
SELECT expected, count(*) FROM question GROUP BY expected ORDER BY expected;
-- the list is asked each time
SELECT pg_temp.allowed('a', 'a', NULL, 1) AS before, pg_temp.allowed('b', 'a', NULL, 1) AS after;

-- ---- who may change it, and the other settings of relays ----

CREATE ROLE regress_evstore_egress;
SET ROLE regress_evstore_egress;
SET evstore.egress_allow = '*';
SET evstore.sink_path = '/tmp';
SET evstore.file_directory = '/tmp';
RESET ROLE;
DROP ROLE regress_evstore_egress;
SET evstore.sink_path = '';
SET evstore.file_directory = '';
SHOW evstore.sink_path;
SHOW evstore.file_directory;

\c :main
DROP DATABASE evstore_egress;
