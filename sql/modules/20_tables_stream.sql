-- Tables of the log.  They are private: users read the views, and write with
-- functions.  C code names the columns of stream and event_log; a test compares
-- the two.

CREATE SEQUENCE evstore.stream_id_seq AS bigint;
COMMENT ON SEQUENCE evstore.stream_id_seq IS 'ids of streams';

CREATE TABLE evstore.stream (
	id					bigint NOT NULL,
	first_position		bigint NOT NULL,
	last_leaf			bigint NOT NULL,
	truncate_before		bigint NOT NULL,
	scavenged_version	bigint NOT NULL,
	created_at			timestamptz NOT NULL,
	deleted				boolean NOT NULL,
	tombstoned			boolean NOT NULL,
	restricted			boolean NOT NULL,
	name				text COLLATE "C" NOT NULL,
	max_count			bigint,
	max_age				interval,
	metadata			jsonb,
	tombstone_reason	text,
	begun_version		bigint,
	CONSTRAINT stream_pkey PRIMARY KEY (id)
);
CREATE UNIQUE INDEX stream_name_key ON evstore.stream (name);
CREATE INDEX stream_restricted_idx ON evstore.stream (id) WHERE restricted;
COMMENT ON TABLE evstore.stream IS 'one row a stream; an append locks it, and changes it only when it enters a newer partition';
COMMENT ON COLUMN evstore.stream.first_position IS 'position of the first event';
COMMENT ON COLUMN evstore.stream.last_leaf IS 'first position of the newest partition that holds events of the stream';
COMMENT ON COLUMN evstore.stream.truncate_before IS 'events of lower versions are hidden';
COMMENT ON COLUMN evstore.stream.scavenged_version IS 'newest version that was removed from disk, or -1';
COMMENT ON COLUMN evstore.stream.begun_version IS 'first version since it was deleted and begun again; null: 0';
COMMENT ON COLUMN evstore.stream.restricted IS 'some of the stream''s events may be hidden';

CREATE SEQUENCE evstore.position_seq AS bigint CACHE 1;
COMMENT ON SEQUENCE evstore.position_seq IS 'positions in the log; CACHE must stay 1';

-- The parent has no index, no key and no partition: pg_dump could not restore
-- them.  src/stream/partition.c makes the partitions, each with its own.
CREATE TABLE evstore.event_log (
	"position"		bigint NOT NULL,
	stream_id		bigint NOT NULL,
	version			bigint NOT NULL,
	category_hash	integer NOT NULL,
	schema_version	integer NOT NULL,
	event_id		uuid NOT NULL,
	recorded_at		timestamptz NOT NULL,
	type			text COLLATE "C" NOT NULL,
	data			jsonb NOT NULL,
	metadata		jsonb,
	correlation_id	text COLLATE "C",
	causation_id	uuid,
	source			text,
	occurred_at		timestamptz,
	tags			text[]
) PARTITION BY RANGE ("position");
COMMENT ON TABLE evstore.event_log IS 'all events, by position';
COMMENT ON COLUMN evstore.event_log.category_hash IS 'FNV-1a of the stream''s category';
COMMENT ON COLUMN evstore.event_log.occurred_at IS 'null: as recorded_at';

CREATE TABLE evstore.early_id (
	event_id		uuid NOT NULL,
	CONSTRAINT early_id_pkey PRIMARY KEY (event_id)
);
COMMENT ON TABLE evstore.early_id IS 'ids of the form of a UUIDv7 whose time was still to come when they were stored, so that it does not say where they are';

CREATE TABLE evstore.sealed (
	sealed_at		timestamptz NOT NULL
);
COMMENT ON TABLE evstore.sealed IS 'a row: the first append has been made, INSERT is refused from now on; never dumped';

CREATE TABLE evstore.instance (
	system_identifier	bigint NOT NULL,
	database_oid		oid NOT NULL,
	adopted_at			timestamptz NOT NULL
);
COMMENT ON TABLE evstore.instance IS 'the database that this store acts in; never dumped, so a copy stays quiet until adopt()';

CREATE TABLE evstore.safe_point (
	"position"		bigint NOT NULL,
	recorded_at		timestamptz NOT NULL
);
COMMENT ON TABLE evstore.safe_point IS 'safe position for standbys; never dumped';

CREATE TABLE evstore.audit (
	id				bigint GENERATED ALWAYS AS IDENTITY,
	at				timestamptz NOT NULL DEFAULT clock_timestamp(),
	actor			name NOT NULL,
	action			text NOT NULL,
	stream			text NOT NULL,
	detail			jsonb NOT NULL,
	CONSTRAINT audit_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE evstore.audit IS 'who deleted, closed, truncated or scavenged what';

-- Guards: DML on the log is refused to everybody, at every
-- session_replication_role.  evstore's own writes do not pass triggers.
CREATE FUNCTION evstore._guard() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'evs_guard';
COMMENT ON FUNCTION evstore._guard() IS 'refuses DML on evstore''s tables';
REVOKE ALL ON FUNCTION evstore._guard() FROM PUBLIC;

CREATE TRIGGER evstore_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON evstore.event_log
	FOR EACH STATEMENT EXECUTE FUNCTION evstore._guard();
ALTER TABLE evstore.event_log ENABLE ALWAYS TRIGGER evstore_guard;
CREATE TRIGGER evstore_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON evstore.stream
	FOR EACH STATEMENT EXECUTE FUNCTION evstore._guard();
ALTER TABLE evstore.stream ENABLE ALWAYS TRIGGER evstore_guard;
CREATE TRIGGER evstore_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON evstore.early_id
	FOR EACH STATEMENT EXECUTE FUNCTION evstore._guard();
ALTER TABLE evstore.early_id ENABLE ALWAYS TRIGGER evstore_guard;
CREATE TRIGGER evstore_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON evstore.sealed
	FOR EACH STATEMENT EXECUTE FUNCTION evstore._guard();
ALTER TABLE evstore.sealed ENABLE ALWAYS TRIGGER evstore_guard;

