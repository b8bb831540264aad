/*
 * Envelopes: events as other systems write them.
 *
 * One idea serves all of them.  An event that comes in is put into evstore's
 * own columns as far as they go; then the envelope that those columns would
 * give back is computed and compared with the one that came in, and only what
 * differs is kept beside them, in the metadata: under "cloudevent" for
 * CloudEvents, under "envelope" for the dialects.  So an envelope comes out as
 * it came in, to the digit, and a usual one costs no extra byte.
 *
 * Functions whose name begins with an underscore are private.
 */

-- ---- text forms ----

/*
 * _rfc3339(at)
 *
 * A time as RFC 3339 writes it, in UTC, with as many digits of a second as it
 * has (0 to 6): 2025-11-17T10:30:00.25Z.  Inlined, so it has no SET clause.
 */
CREATE OR REPLACE FUNCTION evstore._rfc3339(at timestamptz)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN pg_catalog.rtrim(
	pg_catalog.rtrim(
		pg_catalog.to_char(pg_catalog.timezone('UTC', at), 'YYYY-MM-DD"T"HH24:MI:SS.US'),
		'0'),
	'.') || 'Z';
REVOKE ALL ON FUNCTION evstore._rfc3339(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION evstore._rfc3339(timestamptz) IS
	'private: a time in RFC 3339 form, in UTC';

/*
 * _parse_time(value, need_zone)
 *
 * The time that an RFC 3339 or ISO 8601 text means; NULL if it is none.  A text
 * without a zone is UTC, unless need_zone: then it is none.  PostgreSQL's other
 * spellings ("now", "tomorrow", "17.11.2025") are none either: they mean
 * another thing in each session.
 */
CREATE OR REPLACE FUNCTION evstore._parse_time(value text, need_zone boolean)
RETURNS timestamptz
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF value !~ '^[0-9]{4}(-[0-9]{2}){2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)?$' THEN
		RETURN NULL;
	END IF;
	IF value ~ '([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)$' THEN
		RETURN value::timestamptz;
	END IF;
	RETURN CASE WHEN NOT need_zone THEN timezone('UTC', value::timestamp) END;
EXCEPTION
	WHEN datetime_field_overflow OR invalid_datetime_format OR invalid_time_zone_displacement_value THEN
		RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION evstore._parse_time(text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION evstore._parse_time(text, boolean) IS
	'private: the time that an RFC 3339 text means, or NULL';

/*
 * _uri_encode(value, keep)
 *
 * Percent-encode (RFC 3986, section 2.1) the UTF-8 bytes of every character
 * that does not match the bracket expression keep.
 */
CREATE OR REPLACE FUNCTION evstore._uri_encode(value text, keep text)
RETURNS text
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF value ~ ('^' || keep || '*$') THEN
		RETURN value;
	END IF;
	RETURN (
		SELECT string_agg(
			CASE
				WHEN c ~ keep THEN c
				ELSE regexp_replace(upper(encode(convert_to(c, 'UTF8'), 'hex')), '(..)', E'%\\1', 'g')
			END, '' ORDER BY n)
		FROM regexp_split_to_table(value, '') WITH ORDINALITY AS chars (c, n));
END
$$;
REVOKE ALL ON FUNCTION evstore._uri_encode(text, text) FROM PUBLIC;
COMMENT ON FUNCTION evstore._uri_encode(text, text) IS
	'private: percent-encode the characters that do not match keep';

/*
 * _name_uuid(namespace, name)
 *
 * A UUID of version 8 (RFC 9562, section 5.8 and appendix B.2) made of the first
 * bits of SHA-256 over both texts with a zero byte between: equal texts give
 * equal ids, in every database and release.
 */
CREATE OR REPLACE FUNCTION evstore._name_uuid(namespace text, name text)
RETURNS uuid
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	hash bytea := sha256(convert_to(namespace, 'UTF8') || E'\\x00'::bytea || convert_to(name, 'UTF8'));
BEGIN
	hash := set_byte(hash, 6, (get_byte(hash, 6) & 15) | 128);	-- version 8
	hash := set_byte(hash, 8, (get_byte(hash, 8) & 63) | 128);	-- variant
	RETURN encode(substring(hash FROM 1 FOR 16), 'hex')::uuid;
END
$$;
REVOKE ALL ON FUNCTION evstore._name_uuid(text, text) FROM PUBLIC;
COMMENT ON FUNCTION evstore._name_uuid(text, text) IS
	'private: a UUIDv8 that depends on two texts only';

/*
 * _foreign_uuid(namespace, id)
 *
 * Another system's event id as a UUID: itself if it is one in the usual form
 * 8-4-4-4-12, else one made of namespace and id.
 */
CREATE OR REPLACE FUNCTION evstore._foreign_uuid(namespace text, id text)
RETURNS uuid
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF id ~ '^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$' THEN
		RETURN id::uuid;
	END IF;
	RETURN evstore._name_uuid(namespace, id);
END
$$;
REVOKE ALL ON FUNCTION evstore._foreign_uuid(text, text) FROM PUBLIC;
COMMENT ON FUNCTION evstore._foreign_uuid(text, text) IS
	'private: another system''s event id as a UUID';

/*
 * _foreign_schema_version(value)
 *
 * The schema version that 2, "2" or "2.1" means: the number before the first
 * dot, and never less than 1.  NULL if the value is of another form.
 */
CREATE OR REPLACE FUNCTION evstore._foreign_schema_version(value jsonb)
RETURNS int
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	form text := value #>> '{}';
BEGIN
	IF jsonb_typeof(value) NOT IN ('number', 'string') OR form !~ '^[0-9]{1,9}([.][0-9]+)*$' THEN
		RETURN NULL;
	END IF;
	RETURN greatest(1, split_part(form, '.', 1)::int);
END
$$;
REVOKE ALL ON FUNCTION evstore._foreign_schema_version(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION evstore._foreign_schema_version(jsonb) IS
	'private: the schema version that 2, "2" or "2.1" means';

-- ---- CloudEvents ----

/*
 * to_cloudevent(event) returns jsonb
 *
 * The event as a CloudEvents 1.0 object in structured JSON mode (media type
 * application/cloudevents+json).  Terms: CloudEvents specification 1.0.2, its
 * JSON event format, and its extensions sequence, partitioning, correlation and
 * distributed tracing.
 *
 * specversion      '1.0'
 * id               the event id
 * source           the event's source; without one /evstore/<database>/<category>
 * type, subject    the event's type; its stream
 * time             occurred_at (or recorded_at), RFC 3339, UTC, up to microseconds
 * datacontenttype  application/json
 * data             the data, digits of numbers unchanged; or data_base64
 * correlationid, causationid, schemaversion, streamversion (from 0),
 * sequence         the position, zero-padded to 20 digits: compares as text
 * partitionkey     the stream
 * traceparent, tracestate    from the metadata, if there
 *
 * Attributes without a value are left out.  Other metadata and the tags are
 * not part of it: who did something is not published by default.
 *
 * Members of the object metadata.cloudevent are further attributes, and take
 * precedence over those above except specversion: append_cloudevent() keeps there
 * what has no column.  Members whose name is not lower-case alphanumeric, or
 * whose value cannot be that of an attribute, are passed over.
 *
 * Errors: none.  NULL gives NULL.
 */
CREATE OR REPLACE FUNCTION evstore.to_cloudevent(event evstore.event)
RETURNS jsonb
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- unreserved characters of RFC 3986, and those that a URI reference may have
	segment CONSTANT text := '[A-Za-z0-9._~-]';
	reference CONSTANT text := '[]A-Za-z0-9._~:/?#[@!$&''()*+,;=%-]';
	-- a CloudEvents Integer has 32 bits
	max_integer CONSTANT bigint := 2147483647;
	kept jsonb := event.metadata -> 'cloudevent';
	result jsonb;
BEGIN
	result := jsonb_strip_nulls(jsonb_build_object(
		'specversion', '1.0',
		'id', event.event_id,
		'source', coalesce(
			evstore._uri_encode(nullif(event.source, ''), reference),
			'/evstore/' || evstore._uri_encode(current_database()::text, segment) || '/'
			|| evstore._uri_encode(split_part(event.stream, '-', 1), segment)),
		'type', event.type,
		'subject', event.stream,
		'time', evstore._rfc3339(coalesce(event.occurred_at, event.recorded_at)),
		'datacontenttype', 'application/json',
		'correlationid', event.correlation_id,
		'causationid', event.causation_id,
		'sequence', lpad(event."position"::text, 20, '0'),
		'streamversion', CASE
			WHEN event.version <= max_integer THEN to_jsonb(event.version)
			ELSE to_jsonb(event.version::text)
		END,
		'schemaversion', event.schema_version,
		'partitionkey', event.stream,
		'traceparent', CASE WHEN jsonb_typeof(event.metadata -> 'traceparent') = 'string'
			THEN event.metadata -> 'traceparent' END,
		'tracestate', CASE WHEN jsonb_typeof(event.metadata -> 'tracestate') = 'string'
			THEN event.metadata -> 'tracestate' END));

	IF jsonb_typeof(kept) IS DISTINCT FROM 'object' THEN
		RETURN result || jsonb_build_object('data', event.data);
	END IF;

	SELECT result || coalesce(jsonb_object_agg(k.key, k.value), '{}')
	INTO result
	FROM jsonb_each(kept) AS k
	WHERE k.key ~ '^[a-z0-9]+$'
		AND k.key NOT IN ('specversion', 'data')
		AND CASE
			WHEN k.key IN ('id', 'source', 'type', 'subject', 'time', 'datacontenttype', 'dataschema')
			THEN jsonb_typeof(k.value) = 'string' AND k.value <> '""'
			ELSE jsonb_typeof(k.value) IN ('string', 'number', 'boolean')
		END;

	RETURN result || CASE
		WHEN kept ? 'data_base64' THEN jsonb_build_object('data_base64', kept -> 'data_base64')
		WHEN kept -> 'no_data' = 'true' THEN '{}'
		ELSE jsonb_build_object('data', event.data)
	END;
END
$$;
REVOKE ALL ON FUNCTION evstore.to_cloudevent(evstore.event) FROM PUBLIC;
COMMENT ON FUNCTION evstore.to_cloudevent(evstore.event) IS
	'The event as a CloudEvents 1.0 object (structured JSON mode)';

/*
 * _cloudevent_problem(key, value)
 *
 * What is wrong with one member of a CloudEvents object, as the end of the
 * sentence "CloudEvents attribute "x" ..."; NULL if nothing is.  A null value
 * is the same as none, so it is always right.
 */
CREATE OR REPLACE FUNCTION evstore._cloudevent_problem(key text, value jsonb)
RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kind text := jsonb_typeof(value);
	form text := value #>> '{}';
BEGIN
	IF key = 'data' OR kind = 'null' THEN
		RETURN NULL;
	ELSIF key = 'data_base64' THEN
		IF kind <> 'string' THEN
			RETURN 'must be a string';
		END IF;
		PERFORM decode(form, 'base64');
		RETURN NULL;
	ELSIF key !~ '^[a-z0-9]+$' THEN
		RETURN 'has a name that is not lower-case letters and digits';
	ELSIF key = 'specversion' THEN
		RETURN CASE WHEN value <> '"1.0"' THEN 'must be "1.0"' END;
	ELSIF key IN ('id', 'source', 'type', 'subject', 'time', 'datacontenttype', 'dataschema')
		AND (kind <> 'string' OR form = '') THEN
		RETURN 'must be a string that is not empty';
	ELSIF key = 'time' AND evstore._parse_time(form, true) IS NULL THEN
		RETURN 'must be an RFC 3339 time with a zone';
	ELSIF kind NOT IN ('string', 'boolean', 'number') THEN
		RETURN 'must be a string, a boolean or an integer';
	ELSIF kind = 'number' AND (form !~ '^-?[0-9]+$' OR form::numeric NOT BETWEEN -2147483648 AND 2147483647) THEN
		RETURN 'must be an integer of 32 bits';
	END IF;
	RETURN NULL;
EXCEPTION
	WHEN invalid_parameter_value THEN
		RETURN 'must be Base64';
END
$$;
REVOKE ALL ON FUNCTION evstore._cloudevent_problem(text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION evstore._cloudevent_problem(text, jsonb) IS
	'private: what is wrong with one member of a CloudEvents object, or NULL';

/*
 * _check_cloudevent(cloudevent)
 *
 * Throw VS005, with the attribute in the DETAIL as "field", unless the object is
 * a CloudEvents 1.0 event in structured JSON mode.
 */
CREATE OR REPLACE FUNCTION evstore._check_cloudevent(cloudevent jsonb)
RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	missing text[];
	field text;
	problem text;
BEGIN
	IF jsonb_typeof(cloudevent) IS DISTINCT FROM 'object' THEN
		RAISE EXCEPTION USING
			ERRCODE = 'VS005',
			MESSAGE = 'a CloudEvents event must be a JSON object',
			DETAIL = jsonb_build_object('type', jsonb_typeof(cloudevent)),
			HINT = 'Append the events of a batch one by one.';
	END IF;

	missing := ARRAY(
		SELECT required
		FROM unnest('{specversion,id,source,type}'::text[]) WITH ORDINALITY AS r (required, n)
		WHERE coalesce(cloudevent -> required, 'null') = 'null'
		ORDER BY n);
	IF missing <> '{}' THEN
		RAISE EXCEPTION USING
			ERRCODE = 'VS005',
			MESSAGE = format('required CloudEvents attribute "%s" is missing', missing[1]),
			DETAIL = jsonb_build_object('field', missing[1], 'missing', missing);
	END IF;

	SELECT a.key, a.problem
	INTO field, problem
	FROM (
		SELECT e.key, evstore._cloudevent_problem(e.key, e.value) AS problem
		FROM jsonb_each(cloudevent) AS e
	) AS a
	WHERE a.problem IS NOT NULL
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING
			ERRCODE = 'VS005',
			MESSAGE = format('CloudEvents attribute "%s" %s', field, problem),
			DETAIL = jsonb_build_object('field', field, 'value', cloudevent -> field);
	END IF;

	IF cloudevent ? 'data' AND coalesce(cloudevent -> 'data_base64', 'null') <> 'null' THEN
		RAISE EXCEPTION USING
			ERRCODE = 'VS005',
			MESSAGE = 'a CloudEvents event has either "data" or "data_base64"',
			DETAIL = jsonb_build_object('field', 'data_base64');
	END IF;
	IF cloudevent ->> 'datacontenttype' !~* '^[^/; ]+/([^/; ]+[+])?json *(;|$)'
		AND jsonb_typeof(cloudevent -> 'data') NOT IN ('string', 'null') THEN
		RAISE EXCEPTION USING
			ERRCODE = 'VS005',
			MESSAGE = format('data of content type "%s" must be a string', cloudevent ->> 'datacontenttype'),
			DETAIL = jsonb_build_object('field', 'data', 'datacontenttype', cloudevent -> 'datacontenttype');
	END IF;
END
$$;
REVOKE ALL ON FUNCTION evstore._check_cloudevent(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION evstore._check_cloudevent(jsonb) IS
	'private: throw unless the object is a CloudEvents 1.0 event';

/*
 * append_cloudevent(cloudevent, stream, expected_version)
 *     returns version, position
 *
 * Append an event given as a CloudEvents 1.0 object in structured JSON mode.
 *
 * cloudevent        specversion "1.0", id, source and type are required
 * stream            default: the attribute subject
 * expected_version  as for append(); default NULL, any
 *
 * version           the event's version in its stream, from 0
 * position          its position in the log
 *
 * source, type, time, correlationid, causationid, schemaversion, traceparent
 * and tracestate go where append() puts them.  An id that is a UUID becomes the
 * event id; any other gives an event id made of source and id, so a producer's
 * retry returns the first result, as CloudEvents defines duplicates.  A
 * causationid that is no UUID is taken for the id of an event of the same
 * source.  All the rest (the original id and time where another text, content
 * type, dataschema, data_base64, extensions) is kept in metadata.cloudevent,
 * and to_cloudevent() gives back every attribute that came in, as it came in.
 *
 * Errors:
 * VS005  not a CloudEvents 1.0 event, or no stream; DETAIL has "field"
 * VS003  the id has been used for other content
 * and those of append(): VS001, VS002, ...
 */
CREATE OR REPLACE FUNCTION evstore.append_cloudevent(
	cloudevent jsonb,
	stream text DEFAULT NULL,
	expected_version bigint DEFAULT NULL,
	OUT version bigint,
	OUT "position" bigint)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	e evstore.event;
	expressed jsonb;
	kept jsonb;
BEGIN
	PERFORM evstore._check_cloudevent(cloudevent);

	e.stream := coalesce(stream, cloudevent ->> 'subject');
	IF e.stream IS NULL THEN
		RAISE EXCEPTION USING
			ERRCODE = 'VS005',
			MESSAGE = 'a CloudEvents event without attribute "subject" names no stream',
			DETAIL = jsonb_build_object('field', 'subject'),
			HINT = 'Pass argument "stream".';
	END IF;
	e.source := cloudevent ->> 'source';
	e.type := cloudevent ->> 'type';
	e.event_id := evstore._foreign_uuid(e.source, cloudevent ->> 'id');
	e.occurred_at := evstore._parse_time(cloudevent ->> 'time', true);
	e.schema_version := coalesce(evstore._foreign_schema_version(cloudevent -> 'schemaversion'), 1);
	IF jsonb_typeof(cloudevent -> 'correlationid') = 'string' THEN
		e.correlation_id := nullif(cloudevent ->> 'correlationid', '');
	END IF;
	IF jsonb_typeof(cloudevent -> 'causationid') = 'string' THEN
		e.causation_id := evstore._foreign_uuid(e.source, nullif(cloudevent ->> 'causationid', ''));
	END IF;
	SELECT coalesce(jsonb_object_agg(c.key, c.value), '{}')
	INTO e.metadata
	FROM jsonb_each(cloudevent) AS c
	WHERE c.key IN ('traceparent', 'tracestate') AND jsonb_typeof(c.value) = 'string';

	expressed := evstore.to_cloudevent(e);
	SELECT coalesce(jsonb_object_agg(c.key, c.value), '{}')
	INTO kept
	FROM jsonb_each(cloudevent) AS c
	WHERE c.key <> 'data'
		AND c.value <> 'null'
		AND c.value::text IS DISTINCT FROM (expressed -> c.key)::text;
	IF NOT cloudevent ? 'data' AND NOT kept ? 'data_base64' THEN
		kept := kept || '{"no_data": true}';
	END IF;
	IF kept <> '{}' THEN
		e.metadata := e.metadata || jsonb_build_object('cloudevent', kept);
	END IF;

	SELECT a.version, a."position"
	INTO append_cloudevent.version, append_cloudevent."position"
	FROM evstore.append(
		stream => e.stream,
		type => e.type,
		data => cloudevent -> 'data',
		metadata => e.metadata,
		expected_version => append_cloudevent.expected_version,
		event_id => e.event_id,
		correlation_id => e.correlation_id,
		causation_id => e.causation_id,
		schema_version => e.schema_version,
		occurred_at => e.occurred_at,
		source => e.source) AS a;
END
$$;
REVOKE ALL ON FUNCTION evstore.append_cloudevent(jsonb, text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION evstore.append_cloudevent(jsonb, text, bigint) IS
	'Append an event given as a CloudEvents 1.0 object; idempotent by source and id';

-- ---- dialects ----

/*
 * _dialect(dialect)
 *
 * What a dialect calls evstore's columns, which of its members must be there,
 * and how it writes a time (naive: ISO 8601 without a zone, rfc3339, or epoch:
 * seconds) and a schema version (int, or text: "1.0").
 *
 * snake     an aggregate's events; id and type of the aggregate name the stream
 * camel     messages between services; no stream
 * payload   the same in snake case, body under "payload"; no stream
 * epoch     minimal, time in seconds; the stream's version in metadata.version,
 *           counted from 1
 *
 * Error: 22023 for any other name.
 */
CREATE OR REPLACE FUNCTION evstore._dialect(dialect text)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	CASE dialect
		WHEN 'snake' THEN
			RETURN '{
				"event_id": "event_id", "type": "event_type", "schema_version": "event_version",
				"occurred_at": "timestamp", "data": "data", "metadata": "metadata",
				"time_form": "naive", "version_form": "int",
				"required": ["event_id", "event_type", "aggregate_id", "aggregate_type",
							 "event_version", "timestamp"]}';
		WHEN 'camel' THEN
			RETURN '{
				"event_id": "eventId", "type": "eventType", "schema_version": "eventVersion",
				"occurred_at": "timestamp", "source": "source",
				"correlation_id": "correlationId", "causation_id": "causationId",
				"data": "data", "metadata": "metadata",
				"time_form": "rfc3339", "version_form": "text",
				"required": ["eventId", "eventType", "eventVersion", "timestamp", "source"]}';
		WHEN 'payload' THEN
			RETURN '{
				"event_id": "event_id", "type": "event_type", "schema_version": "version",
				"occurred_at": "timestamp", "source": "source_service",
				"correlation_id": "correlation_id", "causation_id": "causation_id",
				"data": "payload", "metadata": "metadata",
				"time_form": "naive", "version_form": "text",
				"required": ["event_id", "event_type", "timestamp", "source_service",
							 "version", "metadata"]}';
		WHEN 'epoch' THEN
			RETURN '{
				"event_id": "event_id", "type": "event_type", "occurred_at": "timestamp",
				"data": "payload", "metadata": "metadata",
				"time_form": "epoch",
				"required": ["event_id", "event_type", "aggregate_id", "payload", "timestamp"]}';
		ELSE
			RAISE EXCEPTION USING
				ERRCODE = 'invalid_parameter_value',
				MESSAGE = format('event dialect %s is not known', coalesce('"' || dialect || '"', 'null')),
				DETAIL = jsonb_build_object('dialect', dialect),
				HINT = 'Use snake, camel, payload or epoch.';
	END CASE;
END
$$;
REVOKE ALL ON FUNCTION evstore._dialect(text) FROM PUBLIC;
COMMENT ON FUNCTION evstore._dialect(text) IS
	'private: the names and forms of an event dialect';

/*
 * _express(event, dialect)
 *
 * The envelope that the event's columns give, before anything that was kept at
 * import is put on top.
 */
CREATE OR REPLACE FUNCTION evstore._express(event evstore.event, dialect text)
RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	names jsonb := evstore._dialect(dialect);
	metadata jsonb := coalesce(event.metadata, '{}') - 'envelope';
	at timestamptz := coalesce(event.occurred_at, event.recorded_at);
	dash int := strpos(event.stream, '-');
	result jsonb;
BEGIN
	result := jsonb_build_object(
		names ->> 'event_id', event.event_id,
		names ->> 'type', event.type,
		names ->> 'data', event.data,
		names ->> 'occurred_at', CASE names ->> 'time_form'
			WHEN 'epoch' THEN to_jsonb(trim_scale(extract(epoch FROM at)))
			WHEN 'rfc3339' THEN to_jsonb(evstore._rfc3339(at))
			-- as Python's isoformat(): six digits of a second or none
			ELSE to_jsonb(replace(to_char(timezone('UTC', at), 'YYYY-MM-DD"T"HH24:MI:SS.US'), '.000000', ''))
		END);
	IF names ? 'schema_version' THEN
		result := result || jsonb_build_object(names ->> 'schema_version',
			CASE names ->> 'version_form'
				WHEN 'int' THEN to_jsonb(event.schema_version)
				ELSE to_jsonb(event.schema_version || '.0')
			END);
	END IF;

	CASE dialect
		WHEN 'snake' THEN
			RETURN result || jsonb_build_object(
				'aggregate_type', split_part(event.stream, '-', 1),
				'aggregate_id', CASE WHEN dash > 0 THEN substr(event.stream, dash + 1) ELSE '' END,
				'metadata', metadata);
		WHEN 'camel' THEN
			RETURN result || jsonb_strip_nulls(jsonb_build_object(
				'source', coalesce(nullif(event.source, ''), split_part(event.stream, '-', 1)),
				'correlationId', event.correlation_id,
				'causationId', event.causation_id))
				|| CASE WHEN metadata = '{}' THEN '{}' ELSE jsonb_build_object('metadata', metadata) END;
		WHEN 'payload' THEN
			RETURN result || jsonb_build_object(
				'source_service', coalesce(nullif(event.source, ''), 'unknown'),
				'correlation_id', event.correlation_id,
				'causation_id', event.causation_id,
				'metadata', metadata);
		WHEN 'epoch' THEN
			IF event.version IS NOT NULL THEN
				metadata := metadata || jsonb_build_object('version', event.version + 1);
			END IF;
			RETURN result || jsonb_build_object(
				'aggregate_id', event.stream,
				'metadata', nullif(metadata, '{}'));
	END CASE;
END
$$;
REVOKE ALL ON FUNCTION evstore._express(evstore.event, text) FROM PUBLIC;
COMMENT ON FUNCTION evstore._express(evstore.event, text) IS
	'private: the envelope that an event''s columns give';

/*
 * _envelope_error(dialect, field, problem, value)
 *
 * Throw VS005 about one member of an envelope.
 */
CREATE OR REPLACE FUNCTION evstore._envelope_error(dialect text, field text, problem text, value jsonb)
RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION USING
		ERRCODE = 'VS005',
		MESSAGE = format('key "%s" of the event envelope %s', field, problem),
		DETAIL = jsonb_strip_nulls(jsonb_build_object('dialect', dialect, 'field', field, 'value', value));
END
$$;
REVOKE ALL ON FUNCTION evstore._envelope_error(text, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION evstore._envelope_error(text, text, text, jsonb) IS
	'private: throw VS005 about one member of an envelope';

/*
 * _envelope_text(envelope, dialect, field)
 *
 * The member as text; NULL if absent, null or empty.  VS005 if it is not a
 * string.
 */
CREATE OR REPLACE FUNCTION evstore._envelope_text(envelope jsonb, dialect text, field text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF jsonb_typeof(envelope -> field) NOT IN ('string', 'null') THEN
		PERFORM evstore._envelope_error(dialect, field, 'must be a string', envelope -> field);
	END IF;
	RETURN nullif(envelope ->> field, '');
END
$$;
REVOKE ALL ON FUNCTION evstore._envelope_text(jsonb, text, text) FROM PUBLIC;
COMMENT ON FUNCTION evstore._envelope_text(jsonb, text, text) IS
	'private: a member of an envelope that must be a string';

/*
 * _envelope_time(value, form)
 *
 * The time that a dialect's timestamp means: a text (UTC unless it says
 * otherwise), or for form epoch a number of seconds since 1970, rounded to
 * microseconds.  NULL if it is none, or outside the years 1 to 9999.
 */
CREATE OR REPLACE FUNCTION evstore._envelope_time(value jsonb, form text)
RETURNS timestamptz
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	seconds numeric;
BEGIN
	IF form <> 'epoch' THEN
		RETURN CASE WHEN jsonb_typeof(value) = 'string'
			THEN evstore._parse_time(value #>> '{}', false) END;
	END IF;
	IF jsonb_typeof(value) <> 'number' THEN
		RETURN NULL;
	END IF;
	seconds := round((value #>> '{}')::numeric, 6);
	IF seconds NOT BETWEEN -62135596800 AND 253402300799 THEN
		RETURN NULL;
	END IF;
	-- in two steps: both factors are whole numbers, exact as double precision
	RETURN timestamptz '1970-01-01 00:00:00+00'
		+ trunc(seconds)::float8 * interval '1 second'
		+ ((seconds - trunc(seconds)) * 1000000)::float8 * interval '1 microsecond';
END
$$;
REVOKE ALL ON FUNCTION evstore._envelope_time(jsonb, text) FROM PUBLIC;
COMMENT ON FUNCTION evstore._envelope_time(jsonb, text) IS
	'private: the time that a dialect''s timestamp means, or NULL';

/*
 * import_event(envelope, dialect, stream) returns jsonb
 *
 * Another system's event in evstore's terms:
 *
 *   {"stream":  the stream that it belongs to,
 *    "event":   an object for append_events(),
 *    "version": its version in that stream, from 0; only if the dialect says it}
 *
 * envelope  a JSON object
 * dialect   snake, camel, payload or epoch; see _dialect() and the reference page
 * stream    default: snake <aggregate_type>-<aggregate_id>; epoch aggregate_id;
 *           camel and payload, which name no aggregate, the source
 *
 * Nothing is appended.  export_event() of the event, once appended or not, gives
 * the envelope back: what the columns cannot express (an id that is no UUID,
 * version "2.1", a time in another zone, unknown keys) is kept in
 * metadata.envelope.  A text without a zone is UTC.  An id that is no UUID gives
 * an event id that depends on it alone, so causation ids still point to their
 * events.  Numbers are numeric throughout: 0.10 stays 0.10.
 *
 * Errors:
 * VS005  a required key is missing or null, or a value cannot be meant; DETAIL
 *        has "dialect" and "field"
 * 22023  the dialect is not known
 */
CREATE OR REPLACE FUNCTION evstore.import_event(envelope jsonb, dialect text, stream text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	names jsonb := evstore._dialect(dialect);
	field text;
	version_number jsonb;
	e evstore.event;
BEGIN
	IF jsonb_typeof(envelope) IS DISTINCT FROM 'object' THEN
		RAISE EXCEPTION USING
			ERRCODE = 'VS005',
			MESSAGE = 'an event envelope must be a JSON object',
			DETAIL = jsonb_build_object('dialect', dialect, 'type', jsonb_typeof(envelope));
	END IF;
	SELECT required
	INTO field
	FROM jsonb_array_elements_text(names -> 'required') WITH ORDINALITY AS r (required, n)
	WHERE coalesce(envelope -> required, 'null') = 'null'
		-- a payload may be null, an id may be empty, but not left out
		AND NOT (envelope ? required AND required = 'payload')
	ORDER BY n
	LIMIT 1;
	IF FOUND THEN
		PERFORM evstore._envelope_error(dialect, field, 'is missing', NULL);
	END IF;

	-- ids, type, source: an empty id or type means nothing
	FOREACH field IN ARRAY ARRAY[names ->> 'event_id', names ->> 'type', names ->> 'source',
		CASE dialect WHEN 'snake' THEN 'aggregate_type' WHEN 'epoch' THEN 'aggregate_id' END]
	LOOP
		IF evstore._envelope_text(envelope, dialect, field) IS NULL AND field IS NOT NULL THEN
			PERFORM evstore._envelope_error(dialect, field, 'must not be empty', NULL);
		END IF;
	END LOOP;
	e.event_id := evstore._foreign_uuid('', envelope ->> (names ->> 'event_id'));
	e.type := envelope ->> (names ->> 'type');
	e.source := envelope ->> (names ->> 'source');
	e.correlation_id := evstore._envelope_text(envelope, dialect, names ->> 'correlation_id');
	e.causation_id := evstore._foreign_uuid('',
		evstore._envelope_text(envelope, dialect, names ->> 'causation_id'));
	e.stream := coalesce(stream, CASE dialect
		WHEN 'snake' THEN concat_ws('-', envelope ->> 'aggregate_type',
			evstore._envelope_text(envelope, dialect, 'aggregate_id'))
		WHEN 'epoch' THEN envelope ->> 'aggregate_id'
		ELSE e.source
	END);

	field := names ->> 'occurred_at';
	e.occurred_at := evstore._envelope_time(envelope -> field, names ->> 'time_form');
	IF e.occurred_at IS NULL THEN
		PERFORM evstore._envelope_error(dialect, field,
			CASE names ->> 'time_form'
				WHEN 'epoch' THEN 'must be a number of seconds since 1970'
				ELSE 'must be an ISO 8601 time'
			END, envelope -> field);
	END IF;

	field := names ->> 'schema_version';
	e.schema_version := 1;
	IF field IS NOT NULL THEN
		e.schema_version := evstore._foreign_schema_version(envelope -> field);
		IF e.schema_version IS NULL THEN
			PERFORM evstore._envelope_error(dialect, field,
				'must be a version such as 1 or "1.0"', envelope -> field);
		END IF;
	END IF;

	e.data := coalesce(envelope -> (names ->> 'data'), '{}');
	field := names ->> 'metadata';
	IF jsonb_typeof(envelope -> field) NOT IN ('object', 'null') THEN
		PERFORM evstore._envelope_error(dialect, field, 'must be an object', envelope -> field);
	END IF;
	e.metadata := coalesce(nullif(envelope -> field, 'null'), '{}');
	IF dialect = 'epoch' THEN
		version_number := e.metadata -> 'version';
		e.version := 0;
		IF jsonb_typeof(version_number) = 'number' AND version_number::text ~ '^[1-9][0-9]{0,17}$' THEN
			e.version := version_number::text::bigint - 1;
			e.metadata := e.metadata - 'version';
		ELSE
			version_number := NULL;
		END IF;
	END IF;

	RETURN jsonb_strip_nulls(jsonb_build_object(
			'stream', e.stream,
			'version', CASE WHEN version_number IS NOT NULL THEN e.version END))
		|| jsonb_build_object('event', jsonb_strip_nulls(jsonb_build_object(
				'type', e.type,
				'event_id', e.event_id,
				'correlation_id', e.correlation_id,
				'causation_id', e.causation_id,
				'schema_version', e.schema_version,
				'occurred_at', evstore._rfc3339(e.occurred_at),
				'source', e.source))
			|| jsonb_build_object(
				'data', e.data,
				'metadata', e.metadata || evstore._envelope_rest(envelope, dialect, e)));
END
$$;
REVOKE ALL ON FUNCTION evstore.import_event(jsonb, text, text) FROM PUBLIC;
COMMENT ON FUNCTION evstore.import_event(jsonb, text, text) IS
	'Another system''s event as stream, event and version, for append_events()';

/*
 * _envelope_rest(envelope, dialect, event)
 *
 * {"envelope": what the event's columns do not say about the envelope that it
 * came in}, or {}.  "set" has the members that differ, "absent" the names of
 * those that were not there.
 */
CREATE OR REPLACE FUNCTION evstore._envelope_rest(envelope jsonb, dialect text, event evstore.event)
RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	expressed jsonb := evstore._express(event, dialect);
	differing jsonb;
	absent jsonb;
BEGIN
	SELECT jsonb_object_agg(m.key, m.value)
	INTO differing
	FROM jsonb_each(envelope) AS m
	WHERE m.value::text IS DISTINCT FROM (expressed -> m.key)::text;

	SELECT jsonb_agg(m.key ORDER BY m.key)
	INTO absent
	FROM jsonb_object_keys(expressed) AS m (key)
	WHERE NOT envelope ? m.key;

	IF differing IS NULL AND absent IS NULL THEN
		RETURN '{}';
	END IF;
	RETURN jsonb_build_object('envelope',
		jsonb_build_object('dialect', dialect)
		|| CASE WHEN differing IS NULL THEN '{}' ELSE jsonb_build_object('set', differing) END
		|| CASE WHEN absent IS NULL THEN '{}' ELSE jsonb_build_object('absent', absent) END);
END
$$;
REVOKE ALL ON FUNCTION evstore._envelope_rest(jsonb, text, evstore.event) FROM PUBLIC;
COMMENT ON FUNCTION evstore._envelope_rest(jsonb, text, evstore.event) IS
	'private: what an event''s columns do not say about its envelope';

/*
 * export_event(event, dialect) returns jsonb
 *
 * The event as another system writes it; the inverse of import_event().
 *
 * event    a row of evstore.events, of read_stream(), ...
 * dialect  snake, camel, payload or epoch
 *
 * What import_event() kept in metadata.envelope is put back if the event came in
 * the same dialect.  Where the dialect has no place for a value it is left out
 * (snake: correlation, causation, source; epoch also the schema version; camel
 * and payload: the stream).
 *
 * Errors: 22023, the dialect is not known.  NULL gives NULL.
 */
CREATE OR REPLACE FUNCTION evstore.export_event(event evstore.event, dialect text)
RETURNS jsonb
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kept jsonb := event.metadata -> 'envelope';
	result jsonb := evstore._express(event, dialect);
BEGIN
	IF kept ->> 'dialect' IS DISTINCT FROM dialect THEN
		RETURN result;
	END IF;
	IF jsonb_typeof(kept -> 'set') = 'object' THEN
		result := result || (kept -> 'set');
	END IF;
	IF jsonb_typeof(kept -> 'absent') = 'array' THEN
		result := result - ARRAY(SELECT jsonb_array_elements_text(kept -> 'absent'));
	END IF;
	RETURN result;
END
$$;
REVOKE ALL ON FUNCTION evstore.export_event(evstore.event, text) FROM PUBLIC;
COMMENT ON FUNCTION evstore.export_event(evstore.event, text) IS
	'The event in another system''s envelope; the inverse of import_event()';
