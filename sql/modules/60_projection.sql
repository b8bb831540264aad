-- Projections: definitions.  Functions whose names begin with _projection_ run as
-- evstore's owner, called from C code that knows who has called it.

-- The names in an array, each once; VS010 for anything else.
CREATE OR REPLACE FUNCTION evstore._projection_names(path text, value jsonb, what text) RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF jsonb_typeof(value) <> 'array' OR EXISTS (SELECT FROM jsonb_array_elements(
			CASE jsonb_typeof(value) WHEN 'array' THEN value ELSE '[]' END) t (value)
			WHERE jsonb_typeof(t.value) <> 'string') THEN
		PERFORM evstore._invalid(path, 'must be an array of names of ' || what);
	END IF;
	RETURN ARRAY(SELECT DISTINCT t FROM jsonb_array_elements_text(value) t ORDER BY t);
END
$$;
COMMENT ON FUNCTION evstore._projection_names(text, jsonb, text) IS 'names in a definition';

/*
 * A projection with the members of options in place of its own.  What belongs to
 * its subscription comes back beside it.
 */
CREATE OR REPLACE FUNCTION evstore._projection_options(INOUT p evstore.projection, INOUT s evstore.subscription,
	options jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
BEGIN
	IF jsonb_typeof(options) <> 'object' THEN
		PERFORM evstore._invalid('$.options', 'must be an object');
	END IF;
	FOR item IN SELECT o.key, o.value, o.value #>> '{}' AS text, jsonb_typeof(o.value) AS type
			FROM jsonb_each(options) o LOOP
		CASE item.key
		WHEN 'mode' THEN
			IF item.type <> 'string' OR item.text NOT IN ('async', 'inline') THEN
				PERFORM evstore._invalid('$.options.mode', 'must be async or inline');
			END IF;
			p.mode := item.text;
		WHEN 'on_error' THEN
			IF item.type <> 'string' OR item.text NOT IN ('stop', 'park', 'skip') THEN
				PERFORM evstore._invalid('$.options.on_error', 'must be stop, park or skip');
			END IF;
			p.on_error := item.text;
			s.on_failure := CASE item.text WHEN 'skip' THEN 'skip' ELSE 'park_key' END;
		WHEN 'batch_size' THEN
			IF item.type <> 'number' OR item.text::numeric NOT BETWEEN 1 AND 100000
					OR item.text::numeric % 1 <> 0 THEN
				PERFORM evstore._invalid('$.options.batch_size', 'must be a whole number from 1 to 100000');
			END IF;
			p.batch_size := item.text::numeric;
		WHEN 'partitions' THEN
			IF item.type <> 'number' OR item.text::numeric NOT BETWEEN 1 AND 64
					OR item.text::numeric % 1 <> 0 THEN
				PERFORM evstore._invalid('$.options.partitions', 'must be a whole number from 1 to 64');
			END IF;
			s.slots := item.text::numeric;
		WHEN 'retry' THEN
			s.retry := evstore.retry_policy(item.value);
		WHEN 'statement_timeout' THEN
			IF evstore._seconds('$.options.statement_timeout', item.value) > 86400 THEN
				PERFORM evstore._invalid('$.options.statement_timeout', 'must be at most a day');
			END IF;
			p.statement_timeout := ceil(evstore._seconds('$.options.statement_timeout', item.value) * 1000);
		WHEN 'schema' THEN
			IF item.type <> 'string' OR item.text = '' OR octet_length(item.text) > 63 THEN
				PERFORM evstore._invalid('$.options.schema', 'must be the name of a schema');
			END IF;
			p.schema := item.text;
		WHEN 'tables' THEN
			p.tables := evstore._projection_names('$.options.tables', item.value, 'tables');
		WHEN 'depends_on' THEN
			p.depends_on := evstore._projection_names('$.options.depends_on', item.value, 'projections');
		WHEN 'notify' THEN
			IF item.type <> 'boolean' THEN
				PERFORM evstore._invalid('$.options.notify', 'must be true or false');
			END IF;
			p.notify := item.value::boolean;
		ELSE
			PERFORM evstore._invalid('$.options.' || item.key, 'is not known');
		END CASE;
	END LOOP;
	IF p.mode = 'inline' AND cardinality(p.depends_on) > 0 THEN
		PERFORM evstore._invalid('$.options.depends_on', 'has no meaning for an inline projection');
	END IF;
	PERFORM evstore._projection_dependencies(s.name, p.depends_on);
	IF p.mode = 'inline' AND s.slots > 1 THEN
		PERFORM evstore._invalid('$.options.partitions', 'has no meaning for an inline projection');
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._projection_options(evstore.projection, evstore.subscription, jsonb) IS
	'a projection with options applied';

-- VS010 unless a projection may depend on these: they are there, and none of them
-- depends on it.
CREATE OR REPLACE FUNCTION evstore._projection_dependencies(name text, depends_on text[]) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	missing text := (SELECT min(d) FROM unnest(depends_on) d
		WHERE NOT EXISTS (SELECT FROM evstore.subscription s WHERE s.name = d AND s.kind = 'projection'));
BEGIN
	IF missing IS NOT NULL THEN
		PERFORM evstore._invalid('$.options.depends_on', format('names projection "%s", which does not exist', missing));
	END IF;
	IF EXISTS (
			WITH RECURSIVE others (name) AS (
				SELECT unnest(depends_on)
				UNION
				SELECT unnest(p.depends_on)
				FROM others o JOIN evstore.subscription s ON s.name = o.name JOIN evstore.projection p ON p.id = s.id)
			SELECT FROM others o WHERE o.name = _projection_dependencies.name) THEN
		PERFORM evstore._invalid('$.options.depends_on', 'would let the projection depend on itself');
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._projection_dependencies(text, text[]) IS 'raises VS010 unless a projection may depend on these';

-- A function as it is stored; VS010 unless it can be a handler.
CREATE OR REPLACE FUNCTION evstore._projection_handler(INOUT p evstore.projection, fn regprocedure)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	f record;
BEGIN
	SELECT format('%I.%I', n.nspname, x.proname) AS name, n.nspname AS schema,
		x.proargtypes[0] = 'evstore.event[]'::regtype AS batched,
		n.nspname ~ '^pg_(toast_)?temp_' AS temporary,
		x.prokind = 'f' AND NOT x.proretset AND x.prorettype = 'void'::regtype AND x.pronargs = 1
			AND x.proargtypes[0] IN ('evstore.event'::regtype, 'evstore.event[]'::regtype) AS ok
	INTO f
	FROM pg_proc x JOIN pg_namespace n ON n.oid = x.pronamespace
	WHERE x.oid = fn;
	IF NOT FOUND OR NOT f.ok THEN
		RAISE EXCEPTION USING ERRCODE = 'VS010',
			MESSAGE = format('function %s cannot be the handler of a projection', COALESCE(fn::text, 'null')),
			DETAIL = jsonb_build_object('path', 'handler', 'function', fn::text)::text,
			HINT = 'It must have the form f(evstore.event) RETURNS void, or f(evstore.event[]) RETURNS void.';
	ELSIF f.temporary THEN
		PERFORM evstore._invalid('handler', 'must not be temporary');
	END IF;
	p.handler := f.name;
	p.batched := f.batched;
	p.schema := COALESCE(p.schema, f.schema);
END
$$;
COMMENT ON FUNCTION evstore._projection_handler(evstore.projection, regprocedure) IS 'a projection with another handler';

-- The tables of a projection as they are; VS010 for one that is not there.
CREATE OR REPLACE FUNCTION evstore._projection_tables(schema text, tables text[]) RETURNS SETOF regclass
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name text;
	found_oid oid;
BEGIN
	FOREACH name IN ARRAY tables LOOP
		SELECT c.oid INTO found_oid
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = _projection_tables.schema AND c.relname = name AND c.relkind IN ('r', 'p');
		IF NOT FOUND THEN
			PERFORM evstore._invalid('$.options.tables', format('names table %s, which does not exist in schema %s',
				quote_ident(name), quote_ident(schema)));
		END IF;
		RETURN NEXT found_oid::regclass;
	END LOOP;
END
$$;
COMMENT ON FUNCTION evstore._projection_tables(text, text[]) IS 'the tables that a projection writes';

CREATE OR REPLACE FUNCTION evstore._projection_store(p evstore.projection, s evstore.subscription) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO evstore.subscription (name, filter, key, slots, lease, retry, on_failure, notify, paused,
		created_at, kind)
	VALUES (s.name, s.filter, 'stream', s.slots, NULL, s.retry, s.on_failure, false, s.paused,
		clock_timestamp(), s.kind)
	ON CONFLICT DO NOTHING
	RETURNING id INTO p.id;
	IF p.id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'VS008',
			MESSAGE = (SELECT format('%s "%s" already exists', x.kind, x.name)
				FROM evstore.subscription x WHERE x.name = s.name),
			DETAIL = jsonb_build_object('projection', s.name)::text;
	END IF;
	p.created_at := clock_timestamp();
	p.faulted := false;
	INSERT INTO evstore.projection SELECT (p).*;
	FOR i IN 0 .. s.slots - 1 LOOP
		PERFORM evstore._slot_reset(p.id, i, p.begins);
	END LOOP;
	PERFORM evstore._kick(p.id);
	RETURN p.id;
END
$$;
COMMENT ON FUNCTION evstore._projection_store(evstore.projection, evstore.subscription) IS 'a new projection, with its slots';

CREATE OR REPLACE FUNCTION evstore._projection_create(name text, owner text, handler regprocedure, filter jsonb,
	start text, options jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p evstore.projection;
	s evstore.subscription;
	changed record;
BEGIN
	IF num_nulls(name, handler, start) > 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
			MESSAGE = format('argument "%s" must not be null',
				CASE WHEN name IS NULL THEN 'name' WHEN handler IS NULL THEN 'handler' ELSE 'start' END);
	END IF;
	IF octet_length(name) NOT BETWEEN 1 AND 51 OR name LIKE '$%' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = 'the name of a projection must have 1 to 51 bytes, and not begin with $';
	END IF;
	PERFORM evstore._check_filter(COALESCE(filter, '{}'));
	s.name := name;
	s.kind := 'projection';
	s.filter := COALESCE(filter, '{}');
	s.slots := 1;
	s.retry := evstore.retry_policy('{"max_attempts": 5, "max": 60}');
	s.on_failure := 'park_key';
	p.owner := owner;
	p.mode := 'async';
	p.on_error := 'stop';
	p.batch_size := 1000;
	p.statement_timeout := 60000;
	p.tables := '{}';
	p.depends_on := '{}';
	p.notify := false;
	changed := evstore._projection_options(p, s, COALESCE(options, '{}'));
	p := changed.p;
	s := changed.s;
	p := evstore._projection_handler(p, handler);
	PERFORM evstore._projection_tables(p.schema, p.tables);
	s.paused := p.mode = 'inline';
	IF p.mode = 'inline' THEN
		-- appends that do not know of it yet end first, and others wait
		LOCK TABLE ONLY evstore.event_log IN SHARE MODE;
	END IF;
	-- with the log locked, what was appended is safe, though that may not be known yet
	p.begins := CASE WHEN p.mode = 'inline' AND start = 'end' THEN evstore._last_position()
		ELSE evstore._start_position(start) END;
	PERFORM evstore._projection_store(p, s);
	PERFORM evstore._audit('create_projection', jsonb_build_object('projection', name, 'owner', owner,
		'handler', p.handler, 'mode', p.mode));
END
$$;
COMMENT ON FUNCTION evstore._projection_create(text, text, regprocedure, jsonb, text, jsonb) IS 'behind create_projection()';

CREATE OR REPLACE FUNCTION evstore._projection_is_rebuilt(name text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
		MESSAGE = format('projection "%s" is being rebuilt', name),
		HINT = 'Wait for the rebuild to end, or end it with cancel_rebuild().';
END
$$;
COMMENT ON FUNCTION evstore._projection_is_rebuilt(text) IS 'raises 55000';

CREATE OR REPLACE FUNCTION evstore._projection_alter(name text, owner text, handler regprocedure, options jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name, 'projection');
	o evstore.subscription := s;
	p evstore.projection;
	q evstore.projection;
	changed record;
BEGIN
	SELECT * INTO p FROM evstore.projection x WHERE x.id = s.id;
	q := p;
	IF NOT EXISTS (SELECT FROM evstore.route r WHERE r.id = s.id) THEN
		PERFORM evstore._projection_apart(s);
	END IF;
	IF options IS NOT NULL THEN
		changed := evstore._projection_options(p, s, options);
		p := changed.p;
		s := changed.s;
		IF p.mode <> q.mode THEN
			PERFORM evstore._invalid('$.options.mode', 'cannot be changed: create another projection');
		ELSIF s.slots <> o.slots THEN
			PERFORM evstore._invalid('$.options.partitions', 'cannot be changed: create another projection');
		END IF;
	END IF;
	IF handler IS NOT NULL THEN
		p := evstore._projection_handler(p, handler);
		IF p.batched AND EXISTS (SELECT FROM evstore.route r WHERE r.id = s.id) THEN
			PERFORM evstore._route_handler(handler);
		END IF;
	END IF;
	PERFORM evstore._projection_tables(p.schema, p.tables);
	IF EXISTS (SELECT FROM evstore.projection r WHERE r.rebuild_of = p.id)
			AND (p.schema, p.tables, p.handler) IS DISTINCT FROM (q.schema, q.tables, q.handler) THEN
		PERFORM evstore._projection_is_rebuilt(name);
	END IF;
	IF owner <> q.owner AND EXISTS (SELECT FROM evstore.projection r WHERE r.rebuild_of = p.id) THEN
		-- the shadows are the old owner's; where he has been renamed they follow
		IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = q.owner) THEN
			PERFORM evstore._projection_is_rebuilt(name);
		END IF;
		UPDATE evstore.projection r SET owner = _projection_alter.owner WHERE r.rebuild_of = p.id;
	END IF;
	UPDATE evstore.projection x
	SET owner = COALESCE(_projection_alter.owner, x.owner), handler = p.handler, batched = p.batched,
		on_error = p.on_error, batch_size = p.batch_size, statement_timeout = p.statement_timeout,
		schema = p.schema, tables = p.tables, depends_on = p.depends_on, notify = p.notify
	WHERE x.id = p.id;
	IF (s.retry, s.on_failure) IS DISTINCT FROM (o.retry, o.on_failure) THEN
		UPDATE evstore.subscription x SET retry = s.retry, on_failure = s.on_failure WHERE x.id = s.id;
	END IF;
	IF s.on_failure <> o.on_failure THEN
		PERFORM evstore._slots_rearrange(s.id, s.slots);
	END IF;
	PERFORM evstore._audit('alter_projection', jsonb_build_object('projection', name, 'owner', p.owner,
		'handler', p.handler));
	PERFORM evstore._kick(s.id);
END
$$;
COMMENT ON FUNCTION evstore._projection_alter(text, text, regprocedure, jsonb) IS 'behind alter_projection()';

/*
 * Write down what keeps a slot from going on, and when to try again.  With a
 * position the event failed, and after so many attempts the projection stops.
 */
CREATE OR REPLACE FUNCTION evstore._projection_failed(sub bigint, slot integer, at_position bigint,
	attempts integer, sqlstate text, error text, OUT retry_at timestamptz, OUT faulted boolean)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	policy jsonb := (SELECT x.retry FROM evstore.subscription x WHERE x.id = sub);
	n integer := COALESCE(attempts, (SELECT e.attempts + 1 FROM evstore.projection_error e
		WHERE e.projection_id = sub AND e.slot = _projection_failed.slot AND e."position" IS NULL), 1);
BEGIN
	faulted := false;
	IF policy IS NULL THEN
		RETURN;
	END IF;
	retry_at := evstore._now() + evstore.retry_delay(policy, n);
	IF at_position IS NOT NULL AND n >= (policy ->> 'max_attempts')::integer THEN
		-- who has the slot must not wait for who may wait for the slot
		PERFORM FROM evstore.subscription x WHERE x.id = sub FOR NO KEY UPDATE SKIP LOCKED;
		IF FOUND THEN
			UPDATE evstore.subscription x SET paused = true WHERE x.id = sub;
			UPDATE evstore.projection x SET faulted = true WHERE x.id = sub;
			faulted := true;
		END IF;
	END IF;
	INSERT INTO evstore.projection_error
	VALUES (sub, slot, at_position, n, CASE WHEN NOT faulted THEN retry_at END, sqlstate, error, evstore._now())
	ON CONFLICT ON CONSTRAINT projection_error_pkey
	DO UPDATE SET "position" = excluded."position", attempts = excluded.attempts, retry_at = excluded.retry_at,
		sqlstate = excluded.sqlstate, error = excluded.error, failed_at = excluded.failed_at;
END
$$;
COMMENT ON FUNCTION evstore._projection_failed(bigint, integer, bigint, integer, text, text) IS
	'writes down what keeps a projection from going on';

-- Projections: what users call.

/*
 * create_projection(name, handler, filter, start, options)
 *
 * name: 1 to 51 bytes, that no subscription has.  handler: f(evstore.event), or
 * f(evstore.event[]) for batches, RETURNS void.  It runs as the role that calls
 * this function, with search_path = the option schema, pg_temp.  filter, start: as
 * for create_subscription().
 * options: mode (async, the default: in a worker; inline: in the append's
 * transaction), batch_size (1 to 100000 events a transaction, default 1000),
 * on_error (stop, the default; park, skip), retry (see retry_policy(); default 5
 * attempts, up to a minute apart), statement_timeout (of one call: seconds, or an
 * interval as text; default 60, 0: none), partitions (1 to 64, default 1), schema
 * (default: the handler's), tables (those in the schema that the handler writes;
 * rebuild and reset need them), depends_on (names of projections: an event is handled
 * after they have, or have parked it; default none), notify (on channel evstore_prj_<name> with each
 * checkpoint; default false).
 * With mode inline and a start in the past, the events that are there are handled
 * now, and appends wait.
 * Errors: VS008, VS010, VS012, 22004, 22023, 42501.
 */
CREATE OR REPLACE FUNCTION evstore.create_projection(name text, handler regprocedure, filter jsonb DEFAULT '{}',
	start text DEFAULT 'beginning', options jsonb DEFAULT '{}')
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_create_projection';
COMMENT ON FUNCTION evstore.create_projection(text, regprocedure, jsonb, text, jsonb) IS
	'keep a read model up to date by a function';

/*
 * alter_projection(name, handler, options, owner): what is null stays.
 *
 * mode and partitions cannot be changed.  The caller must be able to act as the
 * projection's owner, and as the new one.  Errors: VS009, VS010, 42501, 55000.
 */
CREATE OR REPLACE FUNCTION evstore.alter_projection(name text, handler regprocedure DEFAULT NULL,
	options jsonb DEFAULT NULL, owner regrole DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_alter_projection';
COMMENT ON FUNCTION evstore.alter_projection(text, regprocedure, jsonb, regrole) IS
	'change a projection''s handler, options or owner';

CREATE OR REPLACE FUNCTION evstore.pause_projection(name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name, 'projection');
BEGIN
	PERFORM evstore._projection_async(s.id, name);
	UPDATE evstore.subscription x SET paused = true WHERE x.id = s.id AND NOT x.paused;
	PERFORM evstore._audit('pause_projection', jsonb_build_object('projection', name));
	PERFORM evstore._kick(s.id);
END
$$;
COMMENT ON FUNCTION evstore.pause_projection(text) IS 'handle no more events until resume_projection()';

-- 55000 for one that runs in appends.
CREATE OR REPLACE FUNCTION evstore._projection_async(id bigint, name text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (SELECT FROM evstore.projection p WHERE p.id = _projection_async.id AND p.mode = 'inline') THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('projection "%s" is inline', name),
			HINT = 'An inline projection misses no event as long as it is there: drop it, or rebuild it.';
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._projection_async(bigint, text) IS 'raises 55000 for an inline projection';

-- Nothing is known any more of errors, so the next attempt is the first one.
CREATE OR REPLACE FUNCTION evstore._projection_resume(sub bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	FOR i IN 0 .. (SELECT s.slots FROM evstore.subscription s WHERE s.id = sub) - 1 LOOP
		PERFORM evstore._slot_forgive(sub, i);
	END LOOP;
	DELETE FROM evstore.projection_error e WHERE e.projection_id = sub;
	UPDATE evstore.projection p SET faulted = false WHERE p.id = sub AND p.faulted;
	UPDATE evstore.subscription x SET paused = false WHERE x.id = sub AND x.paused;
	PERFORM evstore._kick(sub);
END
$$;
COMMENT ON FUNCTION evstore._projection_resume(bigint) IS 'lets a projection go on';

CREATE OR REPLACE FUNCTION evstore._slot_forgive(subscription_id bigint, slot integer) RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'evs_slot_forgive';
COMMENT ON FUNCTION evstore._slot_forgive(bigint, integer) IS 'forgets failed attempts at a slot''s next event';

/*
 * resume_projection(name): go on after pause_projection(), or after an error has
 * stopped it, beginning with the event that failed.
 */
CREATE OR REPLACE FUNCTION evstore.resume_projection(name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name, 'projection');
BEGIN
	PERFORM evstore._projection_async(s.id, name);
	PERFORM evstore._projection_resume(s.id);
	PERFORM evstore._audit('resume_projection', jsonb_build_object('projection', name));
END
$$;
COMMENT ON FUNCTION evstore.resume_projection(text) IS 'go on after a pause, or after an error has stopped it';

/*
 * reset_projection(name): empty its tables, and begin anew.
 *
 * The tables are those of the option tables; others are the caller's to empty,
 * in the same transaction.  Readers see nothing until the events have been
 * handled again: rebuild_projection() has them see the old rows meanwhile.
 * Errors: VS009, VS010 (a table is gone), 55000 (inline, or being rebuilt).
 */
CREATE OR REPLACE FUNCTION evstore.reset_projection(name text) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_reset_projection';
COMMENT ON FUNCTION evstore.reset_projection(text) IS 'empty its tables, and begin anew';

CREATE OR REPLACE FUNCTION evstore._projection_reset(name text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name, 'projection');
BEGIN
	PERFORM evstore._projection_async(s.id, name);
	PERFORM evstore._projection_apart(s);
	IF EXISTS (SELECT FROM evstore.projection p WHERE p.rebuild_of = s.id) THEN
		PERFORM evstore._projection_is_rebuilt(name);
	END IF;
	PERFORM evstore._slots_lock(s.id, s.slots);
	DELETE FROM evstore.failed_event f WHERE f.subscription_id = s.id;
	DELETE FROM evstore.projection_error e WHERE e.projection_id = s.id;
	UPDATE evstore.projection p SET faulted = false WHERE p.id = s.id AND p.faulted;
	UPDATE evstore.subscription x SET paused = false WHERE x.id = s.id AND x.paused;
	FOR i IN 0 .. s.slots - 1 LOOP
		PERFORM evstore._slot_reset(s.id, i, (SELECT p.begins FROM evstore.projection p WHERE p.id = s.id));
	END LOOP;
	PERFORM evstore._audit('reset_projection', jsonb_build_object('projection', name));
	PERFORM evstore._kick(s.id);
END
$$;
COMMENT ON FUNCTION evstore._projection_reset(text) IS 'behind reset_projection()';

-- As the projection's owner.
CREATE OR REPLACE FUNCTION evstore._projection_truncate(schema text, tables text[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	names text := (SELECT string_agg(t::text, ', ') FROM evstore._projection_tables(schema, tables) t);
BEGIN
	IF names IS NOT NULL THEN
		EXECUTE 'TRUNCATE ' || names;
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._projection_truncate(text, text[]) IS 'empties the tables of a projection';

/*
 * 55000 for a projection that is part of something that has functions of its own:
 * of a saga, or a route.  Nothing may be emptied and begun anew of which events come.
 */
CREATE OR REPLACE FUNCTION evstore._projection_apart(s evstore.subscription) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	saga text := (SELECT g.name FROM evstore.saga g WHERE g.trigger_id = s.id);
BEGIN
	IF saga IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('projection "%s" belongs to saga "%s"', s.name, saga),
			HINT = 'Change it with create_saga(), remove it with drop_saga().';
	ELSIF EXISTS (SELECT FROM evstore.route r WHERE r.id = s.id) THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('projection "%s" is a route', s.name),
			HINT = 'Remove it with drop_route().';
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._projection_apart(evstore.subscription) IS 'raises 55000 for a projection of a saga, or a route';

CREATE OR REPLACE FUNCTION evstore._projection_needed(name text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (SELECT FROM evstore.projection p WHERE name = ANY (p.depends_on)) THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('projection "%s" depends on projection "%s"', (SELECT min(x.name)
				FROM evstore.projection p JOIN evstore.subscription x ON x.id = p.id WHERE _projection_needed.name = ANY (p.depends_on)), name),
			HINT = 'Drop it first, or change its option "depends_on".';
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._projection_needed(text) IS 'raises 55000 if others depend on a projection';

-- Everything about a projection or a rebuild, but its tables.  Its slots are locked.
CREATE OR REPLACE FUNCTION evstore._projection_remove(sub bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM evstore._slots_lock(sub, (SELECT s.slots FROM evstore.subscription s WHERE s.id = sub));
	DELETE FROM evstore.projection_error e WHERE e.projection_id = sub;
	DELETE FROM evstore.projection p WHERE p.id = sub;
	DELETE FROM evstore.route r WHERE r.id = sub;
	DELETE FROM evstore.route_observed o WHERE o.route_id = sub;
	DELETE FROM evstore.failed_event f WHERE f.subscription_id = sub;
	DELETE FROM evstore.slot_state t WHERE t.subscription_id = sub;
	PERFORM evstore._kick(sub);
	DELETE FROM evstore.subscription x WHERE x.id = sub;
END
$$;
COMMENT ON FUNCTION evstore._projection_remove(bigint) IS 'removes a projection or a rebuild';

CREATE OR REPLACE FUNCTION evstore._projection_drop(name text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name, 'projection');
BEGIN
	IF name LIKE '$%' THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('projection "%s" belongs to an aggregate', name),
			HINT = 'Set the aggregate''s option "snapshot_every" to null.';
	END IF;
	PERFORM evstore._projection_apart(s);
	PERFORM evstore._projection_needed(name);
	PERFORM evstore._projection_remove(s.id);
	PERFORM evstore._audit('drop_projection', jsonb_build_object('projection', name));
END
$$;
COMMENT ON FUNCTION evstore._projection_drop(text) IS 'behind drop_projection()';

CREATE OR REPLACE FUNCTION evstore.drop_projection(name text) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_drop_projection';
COMMENT ON FUNCTION evstore.drop_projection(text) IS
	'remove a projection, its parked events, and a rebuild that is going on; its tables stay';

/*
 * run_projection(name, max_count) -> bigint: how many events were handled
 *
 * One batch a partition, and of a rebuild that is going on, in the caller's
 * transaction: for tests, and for servers without workers.  max_count: events a
 * partition, 1 or more; null: the option batch_size.  An event that fails is a
 * warning, and dealt with as the projection says.  Errors: VS009, 22023, 55000 (in
 * a transaction that has appended, or is not READ COMMITTED), and those that say
 * nothing about an event.
 */
CREATE OR REPLACE FUNCTION evstore.run_projection(name text, max_count bigint DEFAULT NULL) RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_run_projection';
COMMENT ON FUNCTION evstore.run_projection(text, bigint) IS
	'have a projection handle a batch of events now, in this session';

/*
 * wait_for_projection(name, up_to, timeout) -> boolean: has it got there?
 *
 * True as soon as the projection has handled, or parked, all its events up to the
 * position; null: all that was appended before the call.  timeout null: for ever.
 * Errors: VS009, VS012 (it has been stopped by an error), 55000 (in the
 * transaction that has appended).
 */
CREATE OR REPLACE FUNCTION evstore.wait_for_projection(name text, up_to bigint DEFAULT NULL,
	timeout interval DEFAULT '10 seconds')
RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_wait_for_projection';
COMMENT ON FUNCTION evstore.wait_for_projection(text, bigint, interval) IS
	'wait until a projection has got to a position: read your writes';

CREATE OR REPLACE FUNCTION evstore.wait_for_projections(names text[], up_to bigint DEFAULT NULL,
	timeout interval DEFAULT '10 seconds')
RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_wait_for_projections';
COMMENT ON FUNCTION evstore.wait_for_projections(text[], bigint, interval) IS
	'wait until several projections have got to a position';
