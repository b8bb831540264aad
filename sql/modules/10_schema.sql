-- Schema and types.  A plain CREATE SCHEMA: a squatted one is an error.

CREATE SCHEMA evstore;
COMMENT ON SCHEMA evstore IS 'event store: streams, subscriptions, projections, relays, sagas';

CREATE TYPE evstore.event AS (
	"position"		bigint,
	stream			text,
	version			bigint,
	event_id		uuid,
	type			text,
	schema_version	integer,
	data			jsonb,
	metadata		jsonb,
	correlation_id	text,
	causation_id	uuid,
	source			text,
	occurred_at		timestamptz,
	recorded_at		timestamptz,
	tags			text[]
);
COMMENT ON TYPE evstore.event IS 'an event as readers and handlers see it';

