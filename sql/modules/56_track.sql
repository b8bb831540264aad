/*
 * Tracking: row changes of ordinary tables as events, for applications that
 * keep the current state and nothing else.
 *
 * There is no table of tracked tables.  What a tracked table's triggers need is
 * in their arguments, so it is dumped, restored and dropped with the table, and
 * a restore does not record rows a second time (pg_dump makes triggers last).
 *
 *   evstore_track_row       AFTER INSERT OR UPDATE OR DELETE, for each row
 *   evstore_track_truncate  BEFORE TRUNCATE
 *
 * The triggers do not fire where a subscriber of logical replication applies
 * changes (session_replication_role = replica).
 */

/*
 * _track_key(row, key_columns)
 *
 * The part of a stream's name that tells a row from others.  One column: its
 * value as it is.  Several: the values joined with '/', where '%' and '/' inside
 * a value are %25 and %2F, so that different keys give different texts.
 *
 * Error: VS010 if a key column is gone (renamed or dropped since) or null.
 */
CREATE OR REPLACE FUNCTION evstore._track_key("row" jsonb, key_columns text[])
RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	missing text;
BEGIN
	SELECT k.name INTO missing
	FROM unnest(key_columns) AS k (name)
	WHERE "row" ->> k.name IS NULL;
	IF FOUND THEN
		RAISE EXCEPTION USING
			ERRCODE = 'VS010',
			MESSAGE = format('key column "%s" of the tracked table is gone or null', missing),
			DETAIL = jsonb_build_object('column', missing),
			HINT = 'Call untrack_table() and track_table() again after changing the key of a table.';
	END IF;
	IF cardinality(key_columns) = 1 THEN
		RETURN "row" ->> key_columns[1];
	END IF;
	RETURN (
		SELECT string_agg(replace(replace("row" ->> k.name, '%', '%25'), '/', '%2F'), '/' ORDER BY k.n)
		FROM unnest(key_columns) WITH ORDINALITY AS k (name, n));
END
$$;
REVOKE ALL ON FUNCTION evstore._track_key(jsonb, text[]) FROM PUBLIC;
COMMENT ON FUNCTION evstore._track_key(jsonb, text[]) IS
	'private: the part of a stream''s name that tells a row from others';

/*
 * _track_stream(category, key)
 *
 * <category>-<key>; for a key that no stream's name can have (a control
 * character, or over 512 bytes in all) <category>-sha256:<64 hex digits>.
 */
CREATE OR REPLACE FUNCTION evstore._track_stream(category text, key text)
RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF octet_length(category) + 1 + octet_length(key) <= 512 AND key !~ E'[\\x01-\\x1f\\x7f]' THEN
		RETURN category || '-' || key;
	END IF;
	RETURN category || '-sha256:' || encode(sha256(convert_to(key, 'UTF8')), 'hex');
END
$$;
REVOKE ALL ON FUNCTION evstore._track_stream(text, text) FROM PUBLIC;
COMMENT ON FUNCTION evstore._track_stream(text, text) IS
	'private: the stream of a tracked row';

/*
 * _track_change()
 *
 * The row trigger of tracked tables.  Its arguments: category, first part of the
 * event types, then the key columns.  See track_table() for what it appends.
 *
 * The settings make the text of a value the same in every session.
 */
CREATE OR REPLACE FUNCTION evstore._track_change()
RETURNS trigger
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET intervalstyle = 'postgres'
SET bytea_output = 'hex'
SET extra_float_digits = 1
AS $$
DECLARE
	category CONSTANT text := TG_ARGV[0];
	name CONSTANT text := TG_ARGV[1];
	key_columns text[];
	-- for a partition the table that it belongs to
	origin CONSTANT text := 'table:' || coalesce(pg_partition_root(TG_RELID), TG_RELID::regclass)::text;
	old_row jsonb;
	new_row jsonb;
	old_stream text;
	new_stream text;
	changed jsonb;
BEGIN
	FOR i IN 2 .. TG_NARGS - 1 LOOP
		key_columns := key_columns || TG_ARGV[i];
	END LOOP;
	IF TG_OP <> 'INSERT' THEN
		old_row := to_jsonb(OLD);
		old_stream := evstore._track_stream(category, evstore._track_key(old_row, key_columns));
	END IF;
	IF TG_OP <> 'DELETE' THEN
		new_row := to_jsonb(NEW);
		new_stream := evstore._track_stream(category, evstore._track_key(new_row, key_columns));
	END IF;

	IF TG_OP = 'INSERT' THEN
		PERFORM evstore.append(new_stream, name || 'Inserted', source => origin,
			data => jsonb_build_object('old', NULL, 'new', new_row));
	ELSIF TG_OP = 'DELETE' THEN
		PERFORM evstore.append(old_stream, name || 'Deleted', source => origin,
			data => jsonb_build_object('old', old_row, 'new', NULL));
	ELSIF old_stream <> new_stream THEN
		PERFORM evstore.append(old_stream, name || 'Deleted', source => origin,
			data => jsonb_build_object('old', old_row, 'new', NULL, 'moved_to', new_stream));
		PERFORM evstore.append(new_stream, name || 'Inserted', source => origin,
			data => jsonb_build_object('old', NULL, 'new', new_row, 'moved_from', old_stream));
	ELSE
		-- as text: 1.0 is not 1.00
		SELECT jsonb_agg(n.key ORDER BY n.key)
		INTO changed
		FROM jsonb_each(new_row) AS n
		WHERE n.value::text IS DISTINCT FROM (old_row -> n.key)::text;
		IF changed IS NOT NULL THEN
			PERFORM evstore.append(new_stream, name || 'Updated', source => origin,
				data => jsonb_build_object('old', old_row, 'new', new_row, 'changed', changed));
		END IF;
	END IF;
	RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION evstore._track_change() FROM PUBLIC;
COMMENT ON FUNCTION evstore._track_change() IS
	'private: row trigger of tracked tables';

/*
 * _track_truncate()
 *
 * The TRUNCATE trigger of tracked tables: refuse it.  No event could tell the
 * streams of the rows that they are gone.
 *
 * Error: 0A000.
 */
CREATE OR REPLACE FUNCTION evstore._track_truncate()
RETURNS trigger
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION USING
		ERRCODE = 'feature_not_supported',
		MESSAGE = format('table "%s" is tracked and cannot be truncated', TG_TABLE_NAME),
		DETAIL = jsonb_build_object('table', format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME)),
		HINT = 'Use DELETE, which records what became of each row, or call untrack_table() first.';
END
$$;
REVOKE ALL ON FUNCTION evstore._track_truncate() FROM PUBLIC;
COMMENT ON FUNCTION evstore._track_truncate() IS
	'private: TRUNCATE trigger of tracked tables';

/*
 * _track_definition_error(table_name, path, message, hint)
 *
 * Throw VS010 about an argument of track_table().
 */
CREATE OR REPLACE FUNCTION evstore._track_definition_error(
	table_name regclass, path text, message text, hint text)
RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION USING
		ERRCODE = 'VS010',
		MESSAGE = message,
		DETAIL = jsonb_build_object('table', table_name::text, 'path', path),
		HINT = hint;
END
$$;
REVOKE ALL ON FUNCTION evstore._track_definition_error(regclass, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION evstore._track_definition_error(regclass, text, text, text) IS
	'private: throw VS010 about an argument of track_table()';

/*
 * _track_key_columns(table_name, key_columns)
 *
 * The key columns, checked: those given, or the primary key's in its order.
 */
CREATE OR REPLACE FUNCTION evstore._track_key_columns(table_name regclass, key_columns text[])
RETURNS text[]
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	columns text[] := key_columns;
	name text;
	nullable boolean;
BEGIN
	IF columns IS NULL THEN
		SELECT array_agg(a.attname::text ORDER BY k.n)
		INTO columns
		FROM pg_constraint AS c
		CROSS JOIN unnest(c.conkey) WITH ORDINALITY AS k (attnum, n)
		JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
		WHERE c.conrelid = table_name AND c.contype = 'p';
		IF columns IS NULL THEN
			PERFORM evstore._track_definition_error(table_name, 'key_columns',
				format('table %s has no primary key', table_name),
				'Name the columns that make the streams in argument key_columns.');
		END IF;
		RETURN columns;
	END IF;

	IF cardinality(columns) = 0 OR array_ndims(columns) > 1
		OR cardinality(columns) <> (SELECT count(DISTINCT u.c) FROM unnest(columns) AS u (c)) THEN
		PERFORM evstore._track_definition_error(table_name, 'key_columns',
			'argument "key_columns" must name one or more different columns', 'Leave it out to use the primary key.');
	END IF;
	FOREACH name IN ARRAY columns LOOP
		SELECT NOT a.attnotnull
		INTO nullable
		FROM pg_attribute AS a
		WHERE a.attrelid = table_name AND a.attname = name AND a.attnum > 0 AND NOT a.attisdropped;
		IF NOT FOUND THEN
			PERFORM evstore._track_definition_error(table_name, 'key_columns',
				format('table %s has no column "%s"', table_name, name), 'Column names are case-sensitive here.');
		ELSIF nullable THEN
			PERFORM evstore._track_definition_error(table_name, 'key_columns',
				format('key column "%s" of table %s may be null', name, table_name),
				'A null names no stream: declare the column NOT NULL, or choose other columns.');
		END IF;
	END LOOP;
	RETURN columns;
END
$$;
REVOKE ALL ON FUNCTION evstore._track_key_columns(regclass, text[]) FROM PUBLIC;
COMMENT ON FUNCTION evstore._track_key_columns(regclass, text[]) IS
	'private: the checked key columns of a table to track';

/*
 * _track_category(table_name, category)
 *
 * The category, checked: the one given, or the table's name, which then must not
 * be the category of another tracked table already.
 */
CREATE OR REPLACE FUNCTION evstore._track_category(table_name regclass, category text)
RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result text := category;
	other regclass;
BEGIN
	IF result IS NULL THEN
		SELECT replace(c.relname, '-', '_') INTO result FROM pg_class AS c WHERE c.oid = table_name;
		-- a trigger's arguments are stored with a zero byte after each
		SELECT t.tgrelid::regclass
		INTO other
		FROM pg_trigger AS t
		WHERE t.tgname = 'evstore_track_row'
			AND t.tgfoid = 'evstore._track_change()'::regprocedure
			AND t.tgparentid = 0
			AND starts_with(encode(t.tgargs, 'hex'),
				encode(convert_to(result, getdatabaseencoding()) || E'\\x00'::bytea, 'hex'))
		LIMIT 1;
		IF FOUND THEN
			PERFORM evstore._track_definition_error(table_name, 'category',
				format('category "%s" is that of tracked table %s', result, other),
				'Pass another category, or this one explicitly to share its streams.');
		END IF;
	END IF;
	IF result = '' OR octet_length(result) > 400 OR result ~ E'[-\\x01-\\x1f\\x7f]' THEN
		PERFORM evstore._track_definition_error(table_name, 'category',
			'argument "category" must have 1 to 400 bytes and neither "-" nor control characters',
			'The category of a stream is its name up to the first "-".');
	END IF;
	RETURN result;
END
$$;
REVOKE ALL ON FUNCTION evstore._track_category(regclass, text) FROM PUBLIC;
COMMENT ON FUNCTION evstore._track_category(regclass, text) IS
	'private: the checked category of a table to track';

/*
 * _track_type_name(table_name)
 *
 * The table's name as the first part of an event type: order_lines gives
 * OrderLines.  ASCII characters that are no letter or digit part words, all
 * others stay, so the result does not depend on the database's locale.
 */
CREATE OR REPLACE FUNCTION evstore._track_type_name(table_name regclass)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(
		nullif((
			SELECT string_agg(upper(left(w.word, 1)) || substr(w.word, 2), '' ORDER BY w.n)
			FROM regexp_split_to_table(c.relname, E'[\\x01-/:-@[-`{-\\x7f]+') WITH ORDINALITY AS w (word, n)), ''),
		'Row')
	FROM pg_class AS c
	WHERE c.oid = table_name
$$;
REVOKE ALL ON FUNCTION evstore._track_type_name(regclass) FROM PUBLIC;
COMMENT ON FUNCTION evstore._track_type_name(regclass) IS
	'private: a table''s name as the first part of an event type';

/*
 * track_table(table_name, category, key_columns)
 *
 * From now on append an event for every row of the table that is inserted, changed
 * or deleted, in the same transaction: both happen or neither does.
 *
 * table_name   an ordinary or partitioned table; the caller must be its owner or
 *              have the TRIGGER privilege, and whoever changes rows needs the right
 *              to append
 * category     default: the table's name, '-' as '_'.  Tables may share a category
 *              if it is passed explicitly: with the same key they share streams
 * key_columns  default: the primary key; need not be unique, must be NOT NULL
 *
 * Stream: <category>-<key>, see _track_key() and _track_stream().
 * Types and data, for a table order_lines (rows as to_jsonb() gives them; times in
 * UTC; numbers exact):
 *
 * OrderLinesInserted  {"old": null, "new": row}
 * OrderLinesUpdated   {"old": row, "new": row, "changed": [column, ...]}; none if
 *                     no column changed
 * OrderLinesDeleted   {"old": row, "new": null}
 *
 * A change of the key is a Deleted with "moved_to" in the one stream and an
 * Inserted with "moved_from" in the other.  The source is table:<schema>.<table>.
 * TRUNCATE is refused.  Rows that are already there give no events.
 *
 * Errors:
 * VS010  not such a table; no primary key and no key_columns; an unknown or
 *        nullable key column; a category that cannot be one or, as a default, is
 *        taken; DETAIL has "table" and "path", the argument
 * VS008  the table is tracked already
 * 42501  not the owner
 */
CREATE OR REPLACE FUNCTION evstore.track_table(
	table_name regclass,
	category text DEFAULT NULL,
	key_columns text[] DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	arguments text[];
BEGIN
	IF NOT EXISTS (
		SELECT FROM pg_class AS c
		WHERE c.oid = table_name
			AND c.relkind IN ('r', 'p')
			AND c.relnamespace NOT IN ('evstore'::regnamespace, 'pg_catalog'::regnamespace)) THEN
		PERFORM evstore._track_definition_error(table_name, 'table_name',
			format('%s is not a table that can be tracked', coalesce(table_name::text, 'null')),
			'Tables can be tracked, partitioned ones too; views, foreign tables and evstore''s own cannot.');
	END IF;
	IF evstore._is_tracked(table_name) THEN
		RAISE EXCEPTION USING
			ERRCODE = 'VS008',
			MESSAGE = format('table %s is tracked already', table_name),
			DETAIL = jsonb_build_object('table', table_name::text),
			HINT = 'Call untrack_table() first.';
	END IF;

	arguments := ARRAY[evstore._track_category(table_name, category), evstore._track_type_name(table_name)]
		|| evstore._track_key_columns(table_name, key_columns);
	EXECUTE format(
		'CREATE TRIGGER evstore_track_row AFTER INSERT OR UPDATE OR DELETE ON %s'
		' FOR EACH ROW EXECUTE FUNCTION evstore._track_change(%s)',
		table_name,
		(SELECT string_agg(quote_literal(a.value), ', ' ORDER BY a.n)
		 FROM unnest(arguments) WITH ORDINALITY AS a (value, n)));
	EXECUTE format(
		'CREATE TRIGGER evstore_track_truncate BEFORE TRUNCATE ON %s'
		' FOR EACH STATEMENT EXECUTE FUNCTION evstore._track_truncate()',
		table_name);
END
$$;
REVOKE ALL ON FUNCTION evstore.track_table(regclass, text, text[]) FROM PUBLIC;
COMMENT ON FUNCTION evstore.track_table(regclass, text, text[]) IS
	'Append an event for every row of a table that is inserted, changed or deleted';

/*
 * _is_tracked(table_name)
 *
 * Does the table have our row trigger, of its own or as a partition?
 */
CREATE OR REPLACE FUNCTION evstore._is_tracked(table_name regclass)
RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (
		SELECT FROM pg_trigger AS t
		WHERE t.tgrelid = table_name
			AND t.tgname = 'evstore_track_row'
			AND t.tgfoid = 'evstore._track_change()'::regprocedure)
$$;
REVOKE ALL ON FUNCTION evstore._is_tracked(regclass) FROM PUBLIC;
COMMENT ON FUNCTION evstore._is_tracked(regclass) IS
	'private: is the table tracked?';

/*
 * untrack_table(table_name)
 *
 * Append no more events for the table's rows.  Its events stay.
 *
 * table_name  a tracked table; the caller must be its owner
 *
 * Errors:
 * VS009  the table is not tracked
 * 42501  not the owner
 */
CREATE OR REPLACE FUNCTION evstore.untrack_table(table_name regclass)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT coalesce(evstore._is_tracked(table_name), false) THEN
		RAISE EXCEPTION USING
			ERRCODE = 'VS009',
			MESSAGE = format('table %s is not tracked', coalesce(table_name::text, 'null')),
			DETAIL = jsonb_build_object('table', table_name::text);
	END IF;
	EXECUTE format('DROP TRIGGER evstore_track_row ON %s', table_name);
	EXECUTE format('DROP TRIGGER evstore_track_truncate ON %s', table_name);
END
$$;
REVOKE ALL ON FUNCTION evstore.untrack_table(regclass) FROM PUBLIC;
COMMENT ON FUNCTION evstore.untrack_table(regclass) IS
	'Append no more events for the rows of a tracked table';
