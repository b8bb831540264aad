-- The hand-written table that evstore is compared with: the columns and indexes of
-- a partition of evstore.event_log, and nothing that looks after versions.

CREATE SCHEMA plain;

CREATE SEQUENCE plain.position_seq;

-- In place of a version: unique, and growing within each stream.
CREATE SEQUENCE plain.version_seq;

CREATE TABLE plain.event (
	"position" bigint NOT NULL DEFAULT nextval('plain.position_seq'),
	stream_id bigint NOT NULL,
	version bigint NOT NULL,
	category_hash int NOT NULL,
	schema_version int NOT NULL,
	event_id uuid NOT NULL,
	recorded_at timestamptz NOT NULL,
	type text COLLATE "C" NOT NULL,
	data jsonb NOT NULL,
	metadata jsonb,
	correlation_id text COLLATE "C",
	causation_id uuid,
	source text,
	occurred_at timestamptz,
	tags text[],
	PRIMARY KEY ("position")
);

CREATE UNIQUE INDEX ON plain.event (stream_id, version);
CREATE UNIQUE INDEX ON plain.event (event_id);
CREATE INDEX ON plain.event (category_hash, "position");
CREATE INDEX ON plain.event (correlation_id, "position") WHERE correlation_id IS NOT NULL;
