-- Tables of projections.  A projection is a subscription of the same id that
-- workers consume: its filter, slots, checkpoints, retries and parked events are
-- those of subscriptions.

CREATE TABLE evstore.projection (
	id					bigint NOT NULL,
	owner				text COLLATE "C" NOT NULL,
	handler				text NOT NULL,
	batched				boolean NOT NULL,
	mode				text NOT NULL,
	on_error			text NOT NULL,
	batch_size			integer NOT NULL,
	statement_timeout	integer NOT NULL,
	schema				text COLLATE "C" NOT NULL,
	tables				text[] NOT NULL,
	depends_on			text[] NOT NULL,
	notify				boolean NOT NULL,
	begins				bigint NOT NULL,
	faulted				boolean NOT NULL DEFAULT false,
	rebuild_of			bigint,
	base_schema			text COLLATE "C",
	created_at			timestamptz NOT NULL,
	CONSTRAINT projection_pkey PRIMARY KEY (id),
	CONSTRAINT projection_mode CHECK (mode IN ('async', 'inline')),
	CONSTRAINT projection_on_error CHECK (on_error IN ('stop', 'park', 'skip'))
);
CREATE UNIQUE INDEX projection_rebuild_of_key ON evstore.projection (rebuild_of) WHERE rebuild_of IS NOT NULL;
COMMENT ON TABLE evstore.projection IS 'read models that are kept up to date by a function, and rebuilds of them';
COMMENT ON COLUMN evstore.projection.id IS 'that of its subscription';
COMMENT ON COLUMN evstore.projection.owner IS 'name of the role that the handler runs as';
COMMENT ON COLUMN evstore.projection.handler IS 'quoted name with schema of a function; an OID would not survive pg_upgrade';
COMMENT ON COLUMN evstore.projection.batched IS 'the handler takes an array of events';
COMMENT ON COLUMN evstore.projection.statement_timeout IS 'of one call, in milliseconds; 0: none';
COMMENT ON COLUMN evstore.projection.schema IS 'where the handler finds and makes its tables';
COMMENT ON COLUMN evstore.projection.depends_on IS 'names of projections that handle an event before this one';
COMMENT ON COLUMN evstore.projection.begins IS 'position after which it begins';
COMMENT ON COLUMN evstore.projection.faulted IS 'stopped by an error, until resume_projection()';
COMMENT ON COLUMN evstore.projection.rebuild_of IS 'the projection that this one is going to replace';
COMMENT ON COLUMN evstore.projection.base_schema IS 'of a rebuild: the projection''s own schema, searched after the shadow';

CREATE TABLE evstore.projection_error (
	projection_id	bigint NOT NULL,
	slot			integer NOT NULL,
	"position"		bigint,
	attempts		integer NOT NULL,
	retry_at		timestamptz,
	sqlstate		text NOT NULL,
	error			text NOT NULL,
	failed_at		timestamptz NOT NULL,
	CONSTRAINT projection_error_pkey PRIMARY KEY (projection_id, slot)
);
COMMENT ON TABLE evstore.projection_error IS 'what keeps a projection from going on';
COMMENT ON COLUMN evstore.projection_error."position" IS 'of the event that the handler fails on; null: it is not the event''s fault';

CREATE TRIGGER evstore_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON evstore.projection
	FOR EACH STATEMENT EXECUTE FUNCTION evstore._subscription_changed();
ALTER TABLE evstore.projection ENABLE ALWAYS TRIGGER evstore_changed;
