-- Tables of sagas: definitions, instances, their steps, and what has come in for them.

CREATE TABLE evstore.saga (
	id				bigint GENERATED ALWAYS AS IDENTITY,
	name			text COLLATE "C" NOT NULL,
	owner			text COLLATE "C" NOT NULL,
	version			integer NOT NULL,
	paused			boolean NOT NULL DEFAULT false,
	trigger_id		bigint,
	created_at		timestamptz NOT NULL,
	CONSTRAINT saga_pkey PRIMARY KEY (id),
	CONSTRAINT saga_name_key UNIQUE (name)
);
COMMENT ON TABLE evstore.saga IS 'sagas that are defined';
COMMENT ON COLUMN evstore.saga.owner IS 'name of the role that steps run as';
COMMENT ON COLUMN evstore.saga.version IS 'that new instances get';
COMMENT ON COLUMN evstore.saga.trigger_id IS 'the projection that starts instances and brings them events';

CREATE TABLE evstore.saga_version (
	saga_id			bigint NOT NULL,
	version			integer NOT NULL,
	definition		jsonb NOT NULL,
	created_at		timestamptz NOT NULL,
	CONSTRAINT saga_version_pkey PRIMARY KEY (saga_id, version)
);
COMMENT ON TABLE evstore.saga_version IS 'definitions of sagas: an instance keeps the one that it began with';
COMMENT ON COLUMN evstore.saga_version.definition IS 'the envelope {asl, compensation, options}';

CREATE TABLE evstore.saga_instance (
	id				uuid NOT NULL,
	definition_id	bigint NOT NULL,
	version			integer NOT NULL,
	status			text NOT NULL,
	priority		smallint NOT NULL,
	next_due		timestamptz,
	business_key	text COLLATE "C",
	started_after	bigint NOT NULL,
	started_at		timestamptz NOT NULL,
	updated_at		timestamptz NOT NULL,
	ended_at		timestamptz,
	parent_id		uuid,
	parent_step		bigint,
	correlation_id	text,
	causation_id	uuid,
	transitions		integer NOT NULL DEFAULT 0,
	failures		integer NOT NULL DEFAULT 0,
	error			text,
	cause			text,
	last_error		text,
	input			jsonb NOT NULL,
	output			jsonb,
	execution		jsonb NOT NULL,
	CONSTRAINT saga_instance_pkey PRIMARY KEY (id),
	CONSTRAINT saga_instance_status CHECK (status IN ('running', 'compensating', 'succeeded', 'compensated', 'failed',
		'compensation_failed', 'cancelled', 'timed_out'))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX saga_instance_business_key_key ON evstore.saga_instance (definition_id, business_key)
	WHERE business_key IS NOT NULL;
CREATE INDEX saga_instance_due_idx ON evstore.saga_instance (definition_id, priority, next_due) WHERE next_due IS NOT NULL;
CREATE INDEX saga_instance_status_idx ON evstore.saga_instance (definition_id, status)
	WHERE status IN ('running', 'compensating', 'compensation_failed');
CREATE INDEX saga_instance_ended_idx ON evstore.saga_instance (definition_id, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX saga_instance_parent_idx ON evstore.saga_instance (parent_id) WHERE parent_id IS NOT NULL;
COMMENT ON TABLE evstore.saga_instance IS 'instances of sagas';
COMMENT ON COLUMN evstore.saga_instance.priority IS '0: first, 9: last';
COMMENT ON COLUMN evstore.saga_instance.next_due IS 'when there is something to do; null: when something comes in';
COMMENT ON COLUMN evstore.saga_instance.started_after IS 'events up to this position are not for it';
COMMENT ON COLUMN evstore.saga_instance.execution IS 'where it is: see src/saga/README.md';
COMMENT ON COLUMN evstore.saga_instance.failures IS 'transitions in a row that could not be made';
COMMENT ON COLUMN evstore.saga_instance.last_error IS 'of a transition that could not be made: no step''s error';

CREATE TABLE evstore.saga_step (
	saga_id			uuid NOT NULL,
	step			bigint NOT NULL,
	state			text NOT NULL,
	visit			integer NOT NULL,
	attempt			integer NOT NULL,
	kind			text NOT NULL,
	resource		text NOT NULL,
	compensates		bigint,
	status			text NOT NULL,
	outcome			text,
	started_at		timestamptz NOT NULL,
	ended_at		timestamptz,
	timeout_at		timestamptz,
	heartbeat		double precision,
	heartbeat_at	timestamptz,
	token			uuid,
	name			text COLLATE "C",
	key				text COLLATE "C",
	owner			text COLLATE "C",
	worker			text,
	fetched_at		timestamptz,
	"position"		bigint,
	child_id		uuid,
	error			text,
	cause			text,
	input			jsonb,
	output			jsonb,
	CONSTRAINT saga_step_pkey PRIMARY KEY (saga_id, step),
	CONSTRAINT saga_step_status CHECK (status IN ('running', 'reported', 'succeeded', 'failed', 'timed_out', 'cancelled'))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX saga_step_token_key ON evstore.saga_step (token) WHERE token IS NOT NULL;
CREATE INDEX saga_step_activity_idx ON evstore.saga_step (name, started_at)
	WHERE kind = 'activity' AND status = 'running' AND worker IS NULL;
CREATE INDEX saga_step_event_idx ON evstore.saga_step (name, key) WHERE kind IN ('event', 'signal') AND status = 'running';
CREATE INDEX saga_step_relay_idx ON evstore.saga_step (name, "position") WHERE kind = 'relay' AND status = 'running';
CREATE INDEX saga_step_child_idx ON evstore.saga_step (child_id) WHERE child_id IS NOT NULL;
COMMENT ON TABLE evstore.saga_step IS 'what instances of sagas have done, and are doing';
COMMENT ON COLUMN evstore.saga_step.step IS 'number, in the order of their start';
COMMENT ON COLUMN evstore.saga_step.compensates IS 'the step that this one undoes';
COMMENT ON COLUMN evstore.saga_step.status IS 'reported: the reply is there, the saga has not taken it in yet';
COMMENT ON COLUMN evstore.saga_step.outcome IS 'succeeded, no_effect or unknown: what is known about its effect';
COMMENT ON COLUMN evstore.saga_step.heartbeat IS 'seconds between two heartbeats at most';
COMMENT ON COLUMN evstore.saga_step.name IS 'of the activity, relay, saga, signal, or type of events that it waits for';
COMMENT ON COLUMN evstore.saga_step.key IS 'what an event that it waits for is recognised by';
COMMENT ON COLUMN evstore.saga_step.owner IS 'of the saga, when the step began';
COMMENT ON COLUMN evstore.saga_step."position" IS 'of the event that a relay is to deliver';

CREATE TABLE evstore.saga_mail (
	id				bigint GENERATED ALWAYS AS IDENTITY,
	saga_id			uuid NOT NULL,
	definition_id	bigint NOT NULL,
	kind			text NOT NULL,
	step			bigint,
	name			text COLLATE "C",
	payload			jsonb,
	error			text,
	cause			text,
	created_by		text COLLATE "C" NOT NULL,
	created_at		timestamptz NOT NULL,
	CONSTRAINT saga_mail_pkey PRIMARY KEY (id),
	CONSTRAINT saga_mail_kind CHECK (kind IN ('success', 'failure', 'signal', 'cancel', 'retry', 'resolve', 'compensate'))
);
CREATE INDEX saga_mail_saga_idx ON evstore.saga_mail (saga_id, id);
CREATE INDEX saga_mail_definition_idx ON evstore.saga_mail (definition_id, id);
COMMENT ON TABLE evstore.saga_mail IS 'what has come in for instances of sagas, and has not been taken in yet';
COMMENT ON COLUMN evstore.saga_mail.step IS 'that a success or failure is of';
COMMENT ON COLUMN evstore.saga_mail.name IS 'of a signal';
COMMENT ON COLUMN evstore.saga_mail.error IS 'of a failure; for resolve, what becomes of it';

CREATE TABLE evstore.saga_signal (
	saga_id			uuid NOT NULL,
	name			text COLLATE "C" NOT NULL,
	payload			jsonb NOT NULL,
	arrived_at		timestamptz NOT NULL,
	CONSTRAINT saga_signal_pkey PRIMARY KEY (saga_id, name)
);
COMMENT ON TABLE evstore.saga_signal IS 'signals that have come in: the first of each name counts';

CREATE TABLE evstore.saga_arrival (
	definition_id	bigint NOT NULL,
	type			text COLLATE "C" NOT NULL,
	key				text COLLATE "C" NOT NULL,
	"position"		bigint NOT NULL,
	event			jsonb NOT NULL,
	arrived_at		timestamptz NOT NULL,
	CONSTRAINT saga_arrival_pkey PRIMARY KEY (definition_id, type, key, "position")
);
CREATE INDEX saga_arrival_position_idx ON evstore.saga_arrival (definition_id, "position");
COMMENT ON TABLE evstore.saga_arrival IS 'events that instances of a saga may wait for, now or later';

CREATE TABLE evstore.saga_taken (
	saga_id			uuid NOT NULL,
	"position"		bigint NOT NULL,
	CONSTRAINT saga_taken_pkey PRIMARY KEY (saga_id, "position")
);
COMMENT ON TABLE evstore.saga_taken IS 'events that an instance has waited for and got: each counts once';

CREATE TABLE evstore.saga_barrier (
	saga			text COLLATE "C" NOT NULL,
	branch			text COLLATE "C" NOT NULL,
	op				text COLLATE "C" NOT NULL,
	reason			text COLLATE "C" NOT NULL,
	created_at		timestamptz NOT NULL,
	CONSTRAINT saga_barrier_pkey PRIMARY KEY (saga, branch, op)
);
COMMENT ON TABLE evstore.saga_barrier IS 'what participants of sagas have done: see saga_barrier()';

CREATE TRIGGER evstore_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON evstore.saga
	FOR EACH STATEMENT EXECUTE FUNCTION evstore._subscription_changed();
ALTER TABLE evstore.saga ENABLE ALWAYS TRIGGER evstore_changed;
