-- Rebuilding projections: into a shadow of the tables, in a schema of its own,
-- while the old ones serve; then the two change places.

-- 55000 with what stands in the way of a rebuild.
CREATE OR REPLACE FUNCTION evstore._rebuild_refused(table_name text, what text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
		MESSAGE = format('table %s cannot be rebuilt: %s', table_name, what),
		HINT = 'Use reset_projection(), which keeps the table.';
END
$$;
COMMENT ON FUNCTION evstore._rebuild_refused(text, text) IS 'raises 55000';

-- What the owner of a projection may not do, but has to when a table is replaced.
CREATE OR REPLACE FUNCTION evstore._rebuild_forbidden(table_id oid, table_owner oid, schema text, owner text)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT x.what FROM (
		SELECT format('does not own it, but %I', pg_get_userbyid(table_owner))
		WHERE NOT pg_has_role(owner, table_owner, 'USAGE')
		UNION ALL
		SELECT format('may not create tables in schema %I', schema)
		WHERE NOT has_schema_privilege(owner, schema, 'CREATE')
		UNION ALL
		SELECT format('may not replace view %s', v.oid::regclass)
		FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v'
		WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = table_id
			AND NOT (pg_has_role(owner, v.relowner, 'USAGE') AND has_schema_privilege(owner, v.relnamespace, 'CREATE'))
		UNION ALL
		SELECT format('may not change publication %I', u.pubname)
		FROM pg_publication_rel l JOIN pg_publication u ON u.oid = l.prpubid
		WHERE l.prrelid = table_id AND NOT pg_has_role(owner, u.pubowner, 'USAGE')
		UNION ALL
		SELECT format('may not execute trigger function %s', g.tgfoid::regprocedure)
		FROM pg_trigger g
		WHERE g.tgrelid = table_id AND NOT g.tgisinternal AND NOT has_function_privilege(owner, g.tgfoid, 'EXECUTE')
	) x (what) ORDER BY 1 LIMIT 1;
END;
COMMENT ON FUNCTION evstore._rebuild_forbidden(oid, oid, text, text) IS 'a right that a role needs to replace a table, and has not';

/*
 * Can the tables be replaced by others of the same form?  What is defined with
 * them is made again (columns, constraints, indexes, triggers, rights, views);
 * what others know of them is not.
 */
CREATE OR REPLACE FUNCTION evstore._rebuild_check(schema text, tables text[], owner text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t record;
	name text;
BEGIN
	FOR t IN SELECT c.oid, c.oid::regclass::text AS name, c.relkind, c.relispartition, c.relrowsecurity, c.relowner
			FROM evstore._projection_tables(schema, tables) x JOIN pg_class c ON c.oid = x LOOP
		-- what role owner is going to do at the end
		name := evstore._rebuild_forbidden(t.oid, t.relowner, schema, owner);
		IF name IS NOT NULL THEN
			PERFORM evstore._rebuild_refused(t.name, format('role %I %s', owner, name));
		END IF;
		SELECT r.rulename INTO name FROM pg_rewrite r WHERE r.ev_class = t.oid LIMIT 1;
		IF FOUND THEN
			PERFORM evstore._rebuild_refused(t.name, format('it has rule %I', name));
		END IF;
		IF t.relkind = 'p' OR t.relispartition
				OR EXISTS (SELECT FROM pg_inherits i WHERE t.oid IN (i.inhrelid, i.inhparent)) THEN
			PERFORM evstore._rebuild_refused(t.name, 'it is partitioned, or inherits');
		END IF;
		IF t.relrowsecurity OR EXISTS (SELECT FROM pg_policy y WHERE y.polrelid = t.oid) THEN
			PERFORM evstore._rebuild_refused(t.name, 'it has row security');
		END IF;
		SELECT k.conname INTO name FROM pg_constraint k
		WHERE k.contype = 'f' AND t.oid IN (k.conrelid, k.confrelid) LIMIT 1;
		IF FOUND THEN
			PERFORM evstore._rebuild_refused(t.name, format('it is part of foreign key %I', name));
		END IF;
		SELECT pg_describe_object(d.classid, d.objid, d.objsubid) INTO name
		FROM pg_depend d LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
			LEFT JOIN pg_class v ON v.oid = r.ev_class
		WHERE d.deptype = 'n'
			AND (d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid
				OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (
					SELECT y.oid FROM pg_type y WHERE y.typrelid = t.oid
					UNION ALL SELECT y.typarray FROM pg_type y WHERE y.typrelid = t.oid))
			AND NOT (d.classid = 'pg_rewrite'::regclass AND v.relkind = 'v')
			AND d.classid NOT IN ('pg_constraint'::regclass, 'pg_trigger'::regclass, 'pg_attrdef'::regclass)
		LIMIT 1;
		IF FOUND THEN
			PERFORM evstore._rebuild_refused(t.name, name || ' depends on it');
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION evstore._rebuild_check(text, text[], text) IS 'raises 55000 for tables that cannot be rebuilt';

-- As evstore's owner: the definition of a rebuild, and its schema.
CREATE OR REPLACE FUNCTION evstore._rebuild_begin(name text, OUT id bigint, OUT shadow text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s evstore.subscription := evstore._subscription(name, 'projection');
	p evstore.projection;
BEGIN
	SELECT * INTO p FROM evstore.projection x WHERE x.id = s.id;
	PERFORM evstore._projection_apart(s);
	IF cardinality(p.tables) = 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('projection "%s" does not say which tables it writes', name),
			HINT = 'Name them in the option "tables" with alter_projection().';
	END IF;
	IF EXISTS (SELECT FROM evstore.projection x WHERE x.rebuild_of = p.id) THEN
		RAISE EXCEPTION USING ERRCODE = 'VS008',
			MESSAGE = format('projection "%s" is being rebuilt already', name),
			DETAIL = jsonb_build_object('projection', name)::text,
			HINT = 'See the view evstore.projections, or end it with cancel_rebuild().';
	END IF;
	IF EXISTS (SELECT FROM pg_proc f, unnest(f.proconfig) c (setting)
			WHERE f.oid = to_regprocedure(format('%s(%s)', p.handler,
					CASE WHEN p.batched THEN 'evstore.event[]' ELSE 'evstore.event' END))
				AND c.setting LIKE 'search_path=%') THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('function %s sets a search_path of its own, so it cannot be pointed at other tables', p.handler),
			HINT = 'Define it without SET search_path: a projection sets one for it.';
	END IF;
	PERFORM evstore._rebuild_check(p.schema, p.tables, p.owner);
	s.kind := 'rebuild';
	s.name := '$rebuild-' || p.id;
	s.paused := false;
	p.rebuild_of := p.id;
	p.base_schema := p.schema;
	p.schema := 'evstore_rebuild_' || p.id;
	IF p.mode = 'inline' THEN
		-- it misses no event, so the new tables must not, either
		p.on_error := 'stop';
		s.on_failure := 'park_key';
	END IF;
	p.mode := 'async';
	p.notify := false;
	id := evstore._projection_store(p, s);
	shadow := p.schema;
	-- one for the new tables, and one for the old ones to move to
	EXECUTE format('CREATE SCHEMA %I AUTHORIZATION %I', shadow, p.owner);
	EXECUTE format('CREATE SCHEMA %I AUTHORIZATION %I', shadow || '_old', p.owner);
	PERFORM evstore._depends_on_extension(shadow), evstore._depends_on_extension(shadow || '_old');
	PERFORM evstore._audit('rebuild_projection', jsonb_build_object('projection', name));
END
$$;
COMMENT ON FUNCTION evstore._rebuild_begin(text) IS 'the definition of a rebuild, and its schema';

CREATE OR REPLACE FUNCTION evstore._depends_on_extension(schema text) RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'evs_depends_on_extension';
COMMENT ON FUNCTION evstore._depends_on_extension(text) IS 'a schema that goes when the extension does';

-- As the projection's owner: tables like those of the projection, with indexes and
-- constraints of the same names.
CREATE OR REPLACE FUNCTION evstore._rebuild_make(schema text, tables text[], shadow text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t record;
	x record;
BEGIN
	FOR t IN SELECT c.oid, c.relname, c.relpersistence,
				c.reloptions || ARRAY(SELECT 'toast.' || o FROM pg_class o1, unnest(o1.reloptions) o
					WHERE o1.oid = c.reltoastrelid) AS reloptions,
				COALESCE((SELECT a.amname FROM pg_am a WHERE a.oid = c.relam), 'heap') AS method
			FROM evstore._projection_tables(schema, tables) y JOIN pg_class c ON c.oid = y LOOP
		EXECUTE format('CREATE %s TABLE %I.%I (LIKE %I.%I INCLUDING ALL EXCLUDING INDEXES EXCLUDING STATISTICS) USING %I %s',
			CASE t.relpersistence WHEN 'u' THEN 'UNLOGGED' END, shadow, t.relname, schema, t.relname, t.method,
			CASE WHEN t.reloptions <> '{}' THEN format('WITH (%s)', (SELECT string_agg(format('%s=%L',
				(SELECT string_agg(quote_ident(q), '.') FROM unnest(string_to_array(split_part(o, '=', 1), '.')) q),
				substr(o, strpos(o, '=') + 1)), ', ')
				FROM unnest(t.reloptions) o)) END);
		FOR x IN SELECT k.conname, pg_get_constraintdef(k.oid) AS definition
				FROM pg_constraint k
				WHERE k.conrelid = t.oid AND k.contype IN ('p', 'u', 'x') ORDER BY k.conname LOOP
			EXECUTE format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s', shadow, t.relname, x.conname, x.definition);
		END LOOP;
		FOR x IN SELECT c.relname, i.indisunique, pg_get_indexdef(i.indexrelid) AS definition
				FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
				WHERE i.indrelid = t.oid AND i.indisvalid
					AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
				ORDER BY c.relname LOOP
			-- the text begins in one way only: CREATE INDEX name ON schema.table USING ...
			EXECUTE format('CREATE %sINDEX %I ON %I.%I %s', CASE WHEN x.indisunique THEN 'UNIQUE ' END, x.relname,
				shadow, t.relname, substr(x.definition, length(format('CREATE %sINDEX %I ON %I.%I ',
					CASE WHEN x.indisunique THEN 'UNIQUE ' END, x.relname, schema, t.relname)) + 1));
		END LOOP;
	END LOOP;
END
$$;
COMMENT ON FUNCTION evstore._rebuild_make(text, text[], text) IS 'shadows of a projection''s tables';

/*
 * As the projection's owner: the shadows take the tables' places, with their
 * triggers, rights, comments, sequences and views.  The old ones go.
 */
CREATE OR REPLACE FUNCTION evstore._rebuild_swap(schema text, tables text[], shadow text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	aside CONSTANT text := shadow || '_old';
	t record;
	x record;
	after text[] := '{}';
	at_end text[] := '{}';
	statement text;
BEGIN
	PERFORM evstore._rebuild_check(schema, tables, current_user);
	-- all locks first: views, as who reads them does; then tables, in the order in which they are named.
	-- LOCK would lock whatever else a view reads; this locks it, and changes nothing.
	FOR t IN SELECT DISTINCT v.oid, v.oid::regclass::text AS name, v.relowner
			FROM evstore._projection_tables(schema, tables) y
				JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = y AND d.classid = 'pg_rewrite'::regclass
				JOIN pg_rewrite r ON r.oid = d.objid
				JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v'
			ORDER BY v.oid DESC LOOP
		EXECUTE format('ALTER VIEW %s OWNER TO %I', t.name, pg_get_userbyid(t.relowner));
	END LOOP;
	FOR t IN SELECT y::text AS name FROM evstore._projection_tables(schema, tables) y LOOP
		EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', t.name);
	END LOOP;
	-- from here on nobody changes what they are
	PERFORM evstore._rebuild_check(schema, tables, current_user);
	-- what is to be said of the new tables, by the names of the old ones
	FOR t IN SELECT c.oid, c.relname, c.relacl, c.relowner, c.relreplident, n.relacl AS new_acl
			FROM evstore._projection_tables(schema, tables) y JOIN pg_class c ON c.oid = y
				JOIN pg_class n ON n.relname = c.relname AND n.relnamespace = quote_ident(shadow)::regnamespace LOOP
		after := after || ARRAY(
			SELECT pg_get_triggerdef(g.oid) FROM pg_trigger g WHERE g.tgrelid = t.oid AND NOT g.tgisinternal
			ORDER BY g.tgname);
		after := after || ARRAY(
			SELECT format('ALTER TABLE %I.%I %s TRIGGER %I', schema, t.relname,
				CASE g.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE REPLICA' END, g.tgname)
			FROM pg_trigger g WHERE g.tgrelid = t.oid AND NOT g.tgisinternal AND g.tgenabled <> 'O' ORDER BY g.tgname);
		IF t.relowner <> current_user::regrole THEN
			after := after || format('ALTER TABLE %I.%I OWNER TO %I', schema, t.relname, pg_get_userbyid(t.relowner));
		END IF;
		-- not those that default privileges have given to the new one
		after := after || ARRAY(
			SELECT DISTINCT format('REVOKE ALL ON %I.%I FROM %s', schema, t.relname,
				CASE a.grantee WHEN 0 THEN 'PUBLIC' WHEN current_user::regrole THEN quote_ident(pg_get_userbyid(t.relowner))
					ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
			FROM aclexplode(CASE WHEN t.relacl IS NOT NULL OR t.new_acl IS NOT NULL
				THEN COALESCE(t.new_acl, acldefault('r', t.relowner)) END) a);
		after := after || ARRAY(
			SELECT format('GRANT %s ON %I.%I TO %s%s', a.privilege_type, schema, t.relname,
				CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
				CASE WHEN a.is_grantable AND a.grantee <> t.relowner THEN ' WITH GRANT OPTION' ELSE '' END)
			FROM aclexplode(COALESCE(t.relacl, CASE WHEN t.new_acl IS NOT NULL THEN acldefault('r', t.relowner) END)) a
			ORDER BY 1);
		after := after || ARRAY(
			SELECT format('GRANT %s (%I) ON %I.%I TO %s%s', a.privilege_type, c.attname, schema, t.relname,
				CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
				CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
			FROM pg_attribute c, aclexplode(c.attacl) a WHERE c.attrelid = t.oid AND NOT c.attisdropped ORDER BY 1);
		after := after || ARRAY(
			SELECT format('COMMENT ON TABLE %I.%I IS %L', schema, t.relname, d)
			FROM obj_description(t.oid, 'pg_class') d WHERE d IS NOT NULL);
		after := after || ARRAY(
			SELECT format('ALTER PUBLICATION %I ADD TABLE %I.%I', u.pubname, schema, t.relname)
			FROM pg_publication_rel r JOIN pg_publication u ON u.oid = r.prpubid WHERE r.prrelid = t.oid);
		after := after || ARRAY(
			SELECT format('COMMENT ON CONSTRAINT %I ON %I.%I IS %L', k.conname, schema, t.relname, d)
			FROM pg_constraint k, obj_description(k.oid, 'pg_constraint') d WHERE k.conrelid = t.oid AND d IS NOT NULL
			UNION ALL
			SELECT format('COMMENT ON TRIGGER %I ON %I.%I IS %L', g.tgname, schema, t.relname, d)
			FROM pg_trigger g, obj_description(g.oid, 'pg_trigger') d WHERE g.tgrelid = t.oid AND d IS NOT NULL
			UNION ALL
			SELECT format('COMMENT ON INDEX %I.%I IS %L', schema, c.relname, d)
			FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid, obj_description(c.oid, 'pg_class') d
			WHERE i.indrelid = t.oid AND d IS NOT NULL
			UNION ALL
			SELECT format('ALTER TABLE %I.%I CLUSTER ON %I', schema, t.relname, c.relname)
			FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = t.oid AND i.indisclustered
			UNION ALL
			SELECT format('ALTER TABLE %I.%I REPLICA IDENTITY USING INDEX %I', schema, t.relname, c.relname)
			FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = t.oid AND i.indisreplident
			UNION ALL
			SELECT format('ALTER TABLE %I.%I ALTER COLUMN %I SET STATISTICS %s', schema, t.relname, c.attname, c.attstattarget)
			FROM pg_attribute c WHERE c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped AND c.attstattarget >= 0);
		IF t.relreplident IN ('f', 'n') THEN
			after := after || format('ALTER TABLE %I.%I REPLICA IDENTITY %s', schema, t.relname,
				CASE t.relreplident WHEN 'f' THEN 'FULL' ELSE 'NOTHING' END);
		END IF;
		-- their names are taken until the old tables are gone
		at_end := at_end || ARRAY(
			SELECT pg_get_statisticsobjdef(e.oid) FROM pg_statistic_ext e WHERE e.stxrelid = t.oid ORDER BY e.oid);
		-- sequences that defaults of both tables draw from
		FOR x IN SELECT q.relname AS sequence, a.attname
				FROM pg_depend d JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S'
					JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
				WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
					AND d.refobjid = t.oid AND d.deptype = 'a' LOOP
			EXECUTE format('ALTER SEQUENCE %I.%I OWNED BY NONE', schema, x.sequence);
			after := after || format('ALTER SEQUENCE %I.%I OWNED BY %I.%I.%I', schema, x.sequence, schema, t.relname, x.attname);
		END LOOP;
	END LOOP;
	-- views keep their identity, and those on views follow
	FOR x IN SELECT DISTINCT v.oid, format('CREATE OR REPLACE VIEW %s%s AS %s', v.oid::regclass,
				CASE WHEN v.reloptions IS NOT NULL THEN format(' WITH (%s)', array_to_string(v.reloptions, ', ')) ELSE '' END,
				pg_get_viewdef(v.oid)) AS statement
			FROM evstore._projection_tables(schema, tables) y
				JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = y AND d.classid = 'pg_rewrite'::regclass
				JOIN pg_rewrite r ON r.oid = d.objid
				JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v'
			ORDER BY v.oid LOOP
		after := after || x.statement;
	END LOOP;

	FOR t IN SELECT c.relname FROM evstore._projection_tables(schema, tables) y JOIN pg_class c ON c.oid = y LOOP
		EXECUTE format('ALTER TABLE %I.%I SET SCHEMA %I', schema, t.relname, aside);
		EXECUTE format('ALTER TABLE %I.%I SET SCHEMA %I', shadow, t.relname, schema);
	END LOOP;
	FOREACH statement IN ARRAY after LOOP
		EXECUTE statement;
	END LOOP;
	-- no CASCADE: what nobody knew of must not go with them
	FOR t IN SELECT y::text AS name FROM evstore._projection_tables(aside, tables) y LOOP
		EXECUTE format('DROP TABLE %s', t.name);
	END LOOP;
	FOREACH statement IN ARRAY at_end LOOP
		EXECUTE statement;
	END LOOP;
	EXECUTE format('DROP SCHEMA %I, %I', aside, shadow);
END
$$;
COMMENT ON FUNCTION evstore._rebuild_swap(text, text[], text) IS 'the shadows of a projection''s tables take their places';

-- As the projection's owner: the shadows go.
CREATE OR REPLACE FUNCTION evstore._rebuild_drop(shadow text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format('DROP SCHEMA IF EXISTS %I, %I CASCADE', shadow, shadow || '_old');
END
$$;
COMMENT ON FUNCTION evstore._rebuild_drop(text) IS 'the shadows of a projection''s tables go';

-- As evstore's owner: the rebuild becomes the projection.  All slots are locked.
CREATE OR REPLACE FUNCTION evstore._rebuild_end(rebuild bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	original bigint := (SELECT p.rebuild_of FROM evstore.projection p WHERE p.id = rebuild);
BEGIN
	DELETE FROM evstore.failed_event f WHERE f.subscription_id = original;
	UPDATE evstore.failed_event f SET subscription_id = original WHERE f.subscription_id = rebuild;
	DELETE FROM evstore.projection_error e WHERE e.projection_id = original;
	PERFORM evstore._projection_remove(rebuild);
	IF EXISTS (SELECT FROM evstore.projection p WHERE p.id = original AND p.faulted) THEN
		UPDATE evstore.projection p SET faulted = false WHERE p.id = original;
		UPDATE evstore.subscription s SET paused = false WHERE s.id = original;
	END IF;
	PERFORM evstore._audit('rebuilt_projection', jsonb_build_object('projection',
		(SELECT s.name FROM evstore.subscription s WHERE s.id = original)));
	PERFORM evstore._kick(original);
END
$$;
COMMENT ON FUNCTION evstore._rebuild_end(bigint) IS 'the rebuild of a projection becomes it';

/*
 * rebuild_projection(name): handle all events again, into tables of their own,
 * while the present ones serve and are kept up to date.  When the new ones have
 * caught up, they take the place of the old ones in one transaction.
 *
 * It needs the option tables, and a handler that finds them by search_path.  The
 * view evstore.projections shows the progress.  An event that the handler fails on
 * is treated as the projection says; where that stops it, the rebuild has failed,
 * and the old tables stay.  Rebuilding again begins anew.
 * Errors: VS008 (one is going on), VS009, VS010, 55000 (the tables cannot be
 * replaced; the message says why).
 */
CREATE OR REPLACE FUNCTION evstore.rebuild_projection(name text) RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_rebuild_projection';
COMMENT ON FUNCTION evstore.rebuild_projection(text) IS
	'handle all events again into new tables, which take the old ones'' place when they have caught up';

CREATE OR REPLACE FUNCTION evstore.cancel_rebuild(name text) RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_cancel_rebuild';
COMMENT ON FUNCTION evstore.cancel_rebuild(text) IS
	'give up a rebuild, with what it has done so far; false if there is none';
