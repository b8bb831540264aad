-- Sagas: definitions and instances.  Functions whose names begin with _saga_ run as
-- evstore's owner, called from C code that knows who has called it.

/*
 * The next version of a saga's definition, or its first.  The same definition again
 * changes nothing.  owner: as whom the caller was found to be able to act; steps of the
 * version run as the saga's owner, so it must be the same.  Errors: 22023, 40001.
 */
CREATE OR REPLACE FUNCTION evstore._saga_create(name text, owner text, definition jsonb) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.saga;
	current jsonb;
BEGIN
	INSERT INTO evstore.saga (name, owner, version, created_at)
	VALUES (_saga_create.name, _saga_create.owner, 0, clock_timestamp())
	ON CONFLICT ON CONSTRAINT saga_name_key DO NOTHING;
	SELECT * INTO STRICT s FROM evstore.saga x WHERE x.name = _saga_create.name FOR UPDATE;
	IF s.owner <> _saga_create.owner THEN
		RAISE EXCEPTION USING ERRCODE = 'serialization_failure',
			MESSAGE = format('saga "%s" has been created by another role, or given to one, at the same time', s.name),
			HINT = 'Try again.';
	END IF;
	SELECT v.definition INTO current FROM evstore.saga_version v WHERE v.saga_id = s.id AND v.version = s.version;
	IF current = _saga_create.definition THEN
		RETURN s.version;
	END IF;
	s.version := s.version + 1;
	INSERT INTO evstore.saga_version (saga_id, version, definition, created_at)
	VALUES (s.id, s.version, _saga_create.definition, clock_timestamp());
	UPDATE evstore.saga x SET version = s.version WHERE x.id = s.id;
	PERFORM evstore._saga_trigger_set(s.id);
	PERFORM evstore._kick(s.id);
	PERFORM evstore._audit('create_saga', jsonb_build_object('saga', name, 'owner', s.owner, 'version', s.version));
	RETURN s.version;
END
$$;
COMMENT ON FUNCTION evstore._saga_create(text, text, jsonb) IS 'behind create_saga()';

/*
 * create_saga(name, definition) -> integer: its version
 *
 * definition: {"asl", "compensation", "options"}, a document of the Amazon States Language
 * alone, or {"steps": [...]}; see validate_saga().  The same definition again is the same
 * version; another one is the next, which new instances get.  Those that run keep theirs.
 * The saga belongs to who creates it; only who can act as its owner may replace it.  Steps
 * run as the owner.  What the definition names must exist: functions that the owner may
 * execute, and relays; other sagas may come later.  Errors: VS010, 22023, 42501, 40001
 * (another role makes a saga of this name at the same time).
 */
CREATE OR REPLACE FUNCTION evstore.create_saga(name text, definition jsonb) RETURNS integer
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_create_saga';
COMMENT ON FUNCTION evstore.create_saga(text, jsonb) IS 'define a saga, or its next version';

/*
 * alter_saga(name, owner): give a saga to another role.
 *
 * Steps that begin from now on run as that role, whose rights are looked at then.
 * Errors: VS009, 42501.
 */
CREATE OR REPLACE FUNCTION evstore.alter_saga(name text, owner regrole) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_alter_saga';
COMMENT ON FUNCTION evstore.alter_saga(text, regrole) IS 'give a saga to another role';

CREATE OR REPLACE FUNCTION evstore._saga_alter(saga_id bigint, owner text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.saga;
BEGIN
	UPDATE evstore.saga x SET owner = _saga_alter.owner WHERE x.id = _saga_alter.saga_id RETURNING * INTO STRICT s;
	UPDATE evstore.projection p SET owner = _saga_alter.owner WHERE p.id = s.trigger_id;
	PERFORM evstore._kick(s.id);
	PERFORM evstore._audit('alter_saga', jsonb_build_object('saga', s.name, 'owner', s.owner));
END
$$;
COMMENT ON FUNCTION evstore._saga_alter(bigint, text) IS 'behind alter_saga()';

-- Remove instances, and all that belongs to them but their history.  The instance first:
-- who has it may be about to write the rest.
CREATE OR REPLACE FUNCTION evstore._saga_remove(ids uuid[]) RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	DELETE FROM evstore.saga_instance i WHERE i.id = ANY (ids);
	DELETE FROM evstore.saga_step s WHERE s.saga_id = ANY (ids);
	DELETE FROM evstore.saga_mail m WHERE m.saga_id = ANY (ids);
	DELETE FROM evstore.saga_signal g WHERE g.saga_id = ANY (ids);
	DELETE FROM evstore.saga_taken t WHERE t.saga_id = ANY (ids);
	DELETE FROM evstore.saga_wait w WHERE w.saga_id = ANY (ids);
END;
COMMENT ON FUNCTION evstore._saga_remove(uuid[]) IS 'removes instances of sagas; their histories stay';

CREATE OR REPLACE FUNCTION evstore._saga_drop(saga_id bigint, force boolean) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.saga;
	running bigint;
BEGIN
	SELECT * INTO STRICT s FROM evstore.saga x WHERE x.id = _saga_drop.saga_id FOR UPDATE;
	-- from here on no event starts an instance
	PERFORM evstore._saga_trigger_drop(s.id);
	SELECT count(*) INTO running FROM evstore.saga_instance i
	WHERE i.definition_id = s.id AND i.status IN ('running', 'compensating', 'compensation_failed');
	IF running > 0 AND NOT force THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('saga "%s" has %s running', s.name,
				CASE running WHEN 1 THEN 'an instance' ELSE running || ' instances' END),
			DETAIL = jsonb_build_object('saga', s.name, 'running', running)::text,
			HINT = 'Wait for their end or cancel them; with force true they are removed as they are, and nothing is compensated.';
	END IF;
	-- steps that wait for one of them wait in vain
	PERFORM evstore._saga_mail(p.id, p.definition_id, 'failure', i.parent_step, 'unknown', NULL,
		'Saga.Dropped', format('saga "%s" has been dropped', s.name))
	FROM evstore.saga_instance i JOIN evstore.saga_instance p ON p.id = i.parent_id
	WHERE i.definition_id = s.id AND i.status IN ('running', 'compensating', 'compensation_failed');
	PERFORM evstore._saga_remove(ARRAY(SELECT i.id FROM evstore.saga_instance i WHERE i.definition_id = s.id));
	DELETE FROM evstore.saga_mail m WHERE m.definition_id = s.id;
	DELETE FROM evstore.saga_version v WHERE v.saga_id = s.id;
	DELETE FROM evstore.saga x WHERE x.id = s.id;
	PERFORM evstore._kick(s.id);
	PERFORM evstore._audit('drop_saga', jsonb_build_object('saga', s.name, 'running', running));
END
$$;
COMMENT ON FUNCTION evstore._saga_drop(bigint, boolean) IS 'behind drop_saga()';

/*
 * drop_saga(name, force): remove a saga with its instances.
 *
 * Refused while any of them runs, or has a compensation that failed, unless force is true;
 * then they are removed as they are.  Histories stay.  In READ COMMITTED only.  Errors:
 * VS009, 55000, 42501.
 */
CREATE OR REPLACE FUNCTION evstore.drop_saga(name text, force boolean DEFAULT false) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_drop_saga';
COMMENT ON FUNCTION evstore.drop_saga(text, boolean) IS 'remove a saga and its instances';

CREATE OR REPLACE FUNCTION evstore._saga_pause(saga_id bigint, paused boolean) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.saga;
BEGIN
	UPDATE evstore.saga x SET paused = _saga_pause.paused
	WHERE x.id = _saga_pause.saga_id AND x.paused <> _saga_pause.paused RETURNING * INTO s;
	IF FOUND THEN
		PERFORM evstore._kick(s.id);
		PERFORM evstore._audit(CASE WHEN s.paused THEN 'pause_saga' ELSE 'resume_saga' END,
			jsonb_build_object('saga', s.name));
	END IF;
END
$$;
COMMENT ON FUNCTION evstore._saga_pause(bigint, boolean) IS 'behind pause_saga() and resume_saga()';

/*
 * pause_saga(name): its instances stand still until resume_saga().
 *
 * A transition that is being made is finished.  Instances can be started, and what comes
 * in for them is kept; time goes on, so what is due meanwhile is so when it is resumed.
 * Errors: VS009, 42501.
 */
CREATE OR REPLACE FUNCTION evstore.pause_saga(name text) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_pause_saga';
COMMENT ON FUNCTION evstore.pause_saga(text) IS 'let no instance of a saga go on, until resume_saga()';

CREATE OR REPLACE FUNCTION evstore.resume_saga(name text) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_resume_saga';
COMMENT ON FUNCTION evstore.resume_saga(text) IS 'let a saga go on after pause_saga()';

/*
 * start_saga(name, input, business_key, ...) -> uuid: the instance
 *
 * It begins when the transaction has committed; no step runs in the caller's session.
 * business_key: 1 to 512 bytes; null: what the option "business_key" finds in the input.
 * Starting a second instance of the saga with the same key returns the first one, whatever
 * has become of it, and changes nothing.  priority: 0 first to 9 last; null: the option
 * "priority".  correlation_id: null, that of the session, or the instance's id.  The caller
 * must be able to act as the saga's owner.  Errors: VS009, 22023, 42501.
 */
CREATE OR REPLACE FUNCTION evstore.start_saga(name text, input jsonb DEFAULT '{}', business_key text DEFAULT NULL,
	priority integer DEFAULT NULL, correlation_id text DEFAULT NULL, causation_id uuid DEFAULT NULL)
RETURNS uuid
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_start_saga';
COMMENT ON FUNCTION evstore.start_saga(text, jsonb, text, integer, text, uuid) IS
	'start an instance of a saga, once for each business key';

/*
 * run_sagas(max, saga) -> bigint: how many transitions were made
 *
 * In the caller's transaction: for tests, and for servers without workers.  Until nothing
 * is due any more, or max transitions have been made; of all sagas whose owner the caller
 * can act as, or of one.  A transition that cannot be made is a warning, and tried again
 * after a while.  Errors: VS009, 42501, 22023, 55000 (not in READ COMMITTED; in a copy that
 * has not been adopted; in a step of a saga).
 */
CREATE OR REPLACE FUNCTION evstore.run_sagas(max bigint DEFAULT NULL, saga text DEFAULT NULL) RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_run_sagas';
COMMENT ON FUNCTION evstore.run_sagas(bigint, text) IS 'let instances of sagas go on now, in this session';

/*
 * current_saga_step() -> jsonb: the step that calls it, or null.
 *
 * {"saga_id", "saga", "step", "state", "visit", "attempt", "compensates", "idempotency_key"};
 * the key is the same in all attempts.
 */
CREATE OR REPLACE FUNCTION evstore.current_saga_step() RETURNS jsonb
LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'evs_current_saga_step';
COMMENT ON FUNCTION evstore.current_saga_step() IS 'the step of a saga that this function is called by';

-- saga_history(saga_id) -> setof evstore.event: what has become of an instance, in order.
CREATE OR REPLACE FUNCTION evstore.saga_history(saga_id uuid) RETURNS SETOF evstore.event
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF saga_id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'argument "saga_id" must not be null';
	END IF;
	RETURN QUERY SELECT * FROM evstore.read_stream('saga-' || saga_id);
END
$$;
COMMENT ON FUNCTION evstore.saga_history(uuid) IS 'the events of an instance of a saga';

/*
 * Remove some instances that ended before a time: the oldest, and not those that
 * something has come in for.  How many.
 */
CREATE OR REPLACE FUNCTION evstore._saga_purge(definition_id bigint, before timestamptz, max_count integer)
RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ids uuid[] := ARRAY(
		SELECT i.id FROM evstore.saga_instance i
		WHERE i.definition_id = _saga_purge.definition_id AND i.ended_at < before
			AND NOT EXISTS (SELECT FROM evstore.saga_mail m WHERE m.saga_id = i.id)
		ORDER BY i.ended_at LIMIT max_count
		FOR UPDATE SKIP LOCKED);
BEGIN
	PERFORM evstore._saga_remove(ids);
	RETURN cardinality(ids);
END
$$;
COMMENT ON FUNCTION evstore._saga_purge(bigint, timestamptz, integer) IS 'removes instances that ended before a time';

/*
 * purge_sagas(older_than, saga) -> bigint: how many instances were removed
 *
 * Those that ended that long ago, of all sagas whose owner the caller can act as, or of
 * one.  older_than null: as the option "retention" says.  With them go their steps, and
 * their business keys, which can be used again; their histories stay.  Workers do the
 * same for sagas that have the option.  Errors: VS009, 22023, 42501.
 */
CREATE OR REPLACE FUNCTION evstore.purge_sagas(older_than interval DEFAULT NULL, saga text DEFAULT NULL) RETURNS bigint
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_purge_sagas';
COMMENT ON FUNCTION evstore.purge_sagas(interval, text) IS 'remove instances of sagas that have ended long ago';
