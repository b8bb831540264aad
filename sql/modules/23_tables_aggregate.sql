-- Tables of aggregates and snapshots.  C code names the columns of snapshot; a
-- test compares the two.

CREATE TABLE evstore.aggregate (
	category		text COLLATE "C" NOT NULL,
	initial			jsonb NOT NULL,
	transition		text NOT NULL,
	state_version	integer NOT NULL,
	highest_version	integer NOT NULL,
	keep			integer NOT NULL,
	unknown_event	text NOT NULL,
	lost_events		text NOT NULL,
	state_path		jsonpath NOT NULL,
	transitions		jsonb,
	snapshot_every	integer,
	created_at		timestamptz NOT NULL,
	CONSTRAINT aggregate_pkey PRIMARY KEY (category),
	CONSTRAINT aggregate_unknown_event CHECK (unknown_event IN ('ignore', 'error')),
	CONSTRAINT aggregate_lost_events CHECK (lost_events IN ('ignore', 'error'))
);
COMMENT ON TABLE evstore.aggregate IS 'how the events of a category''s streams are folded into a state';
COMMENT ON COLUMN evstore.aggregate.transition IS 'quoted name with schema of a function (jsonb, evstore.event); an OID would not survive pg_upgrade';
COMMENT ON COLUMN evstore.aggregate.state_version IS 'snapshots with another one do not count';
COMMENT ON COLUMN evstore.aggregate.highest_version IS 'highest state version so far; the next one is above';
COMMENT ON COLUMN evstore.aggregate.lost_events IS 'what to do when a stream''s first events are gone and no snapshot has them';
COMMENT ON COLUMN evstore.aggregate.snapshot_every IS 'a worker saves a snapshot after so many events; null: none does';
COMMENT ON COLUMN evstore.aggregate.keep IS 'how many snapshots of a stream are kept';
COMMENT ON COLUMN evstore.aggregate.state_path IS 'where in the state the name of the state is that transitions speak of';
COMMENT ON COLUMN evstore.aggregate.transitions IS 'which events are allowed in which state; null: all';

CREATE TRIGGER evstore_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON evstore.aggregate
	FOR EACH STATEMENT EXECUTE FUNCTION evstore._subscription_changed();
ALTER TABLE evstore.aggregate ENABLE ALWAYS TRIGGER evstore_changed;

CREATE TABLE evstore.snapshot (
	stream_id		bigint NOT NULL,
	version			bigint NOT NULL,
	recorded_at		timestamptz NOT NULL,
	created_at		timestamptz NOT NULL,
	state_version	integer NOT NULL,
	state			jsonb NOT NULL,
	CONSTRAINT snapshot_pkey PRIMARY KEY (stream_id, state_version, version)
);
COMMENT ON TABLE evstore.snapshot IS 'states of aggregates at versions of their streams; can be computed again';
COMMENT ON COLUMN evstore.snapshot.recorded_at IS 'of the event with this version';

-- A server that was built without lz4 keeps its default compression.
DO $$
BEGIN
	ALTER TABLE evstore.snapshot ALTER COLUMN state SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
	NULL;
END
$$;
