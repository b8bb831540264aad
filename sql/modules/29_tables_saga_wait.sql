-- Tables of what sagas have to do with events: which start instances, which are brought
-- to them, and which of those steps wait for.

CREATE TABLE evstore.saga_trigger (
	saga_id			bigint NOT NULL,
	kind			text NOT NULL,
	n				integer NOT NULL,
	entry			jsonb NOT NULL,
	since			bigint NOT NULL,
	CONSTRAINT saga_trigger_pkey PRIMARY KEY (saga_id, kind, n),
	CONSTRAINT saga_trigger_kind CHECK (kind IN ('start', 'correlate'))
);
COMMENT ON TABLE evstore.saga_trigger IS 'what the projection of a saga looks for: of its definition, and of those that instances still have';
COMMENT ON COLUMN evstore.saga_trigger.entry IS 'of options.start_on; or {"type", "key"}: the path to whom an event is for';
COMMENT ON COLUMN evstore.saga_trigger.since IS 'position of the newest event when the saga was given it: older ones are not its';

CREATE TABLE evstore.saga_wait (
	saga_id			uuid NOT NULL,
	step			bigint NOT NULL,
	definition_id	bigint NOT NULL,
	after			bigint NOT NULL,
	fails			boolean NOT NULL,
	type			text COLLATE "C" NOT NULL,
	key				text COLLATE "C" NOT NULL,
	CONSTRAINT saga_wait_pkey PRIMARY KEY (saga_id, step, type)
);
CREATE INDEX saga_wait_key_idx ON evstore.saga_wait (definition_id, type, key);
COMMENT ON TABLE evstore.saga_wait IS 'events that steps of sagas wait for: a row a type, any of which ends the step';
COMMENT ON COLUMN evstore.saga_wait.after IS 'as started_after of the instance';
COMMENT ON COLUMN evstore.saga_wait.fails IS 'such an event is a failure of the step';

-- For the oldest arrival that anybody can need.
CREATE INDEX saga_instance_started_idx ON evstore.saga_instance (definition_id, started_after)
	WHERE status IN ('running', 'compensating', 'compensation_failed');
