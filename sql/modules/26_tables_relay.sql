-- Tables of relays.  A relay is a subscription of the same id, with one slot, that
-- a worker consumes: its filter, ordering key, checkpoint, retries and parked
-- events are those of subscriptions.

CREATE TABLE evstore.relay (
	id				bigint NOT NULL,
	owner			text COLLATE "C" NOT NULL,
	sink			text COLLATE "C" NOT NULL,
	config			jsonb NOT NULL,
	options			jsonb NOT NULL,
	transform		text,
	trust_from		bigint NOT NULL,
	token			uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
	faulted			boolean NOT NULL DEFAULT false,
	resumed_at		timestamptz,
	created_at		timestamptz NOT NULL,
	CONSTRAINT relay_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE evstore.relay IS 'what sends events to brokers';
COMMENT ON COLUMN evstore.relay.id IS 'that of its subscription';
COMMENT ON COLUMN evstore.relay.owner IS 'name of the role that the transform runs as';
COMMENT ON COLUMN evstore.relay.sink IS 'name of the sink module';
COMMENT ON COLUMN evstore.relay.options IS 'all of them, with their defaults';
COMMENT ON COLUMN evstore.relay.transform IS 'quoted name with schema of a function; an OID would not survive pg_upgrade';
COMMENT ON COLUMN evstore.relay.trust_from IS 'what the other side says to have counts only if it is beyond this position: before, it may have it from another time';
COMMENT ON COLUMN evstore.relay.token IS 'tells it from all others, also from that of a copy of the store';
COMMENT ON COLUMN evstore.relay.faulted IS 'stopped by the sink, until resume_relay()';

-- What a relay has done, and what keeps it from going on.  Written by its worker,
-- once a second at most while it is sending; never dumped.
CREATE TABLE evstore.relay_status (
	id				bigint NOT NULL,
	circuit			text NOT NULL DEFAULT 'closed',
	circuit_since	timestamptz NOT NULL,
	open_until		timestamptz,
	outages			integer NOT NULL DEFAULT 0,
	failing			boolean NOT NULL DEFAULT false,
	opened			bigint NOT NULL DEFAULT 0,
	sent			bigint NOT NULL DEFAULT 0,
	duplicates		bigint NOT NULL DEFAULT 0,
	failures		bigint NOT NULL DEFAULT 0,
	bytes			bigint NOT NULL DEFAULT 0,
	latency_ms		double precision,
	last_sent_at	timestamptz,
	error			text,
	error_at		timestamptz,
	CONSTRAINT relay_status_pkey PRIMARY KEY (id),
	CONSTRAINT relay_status_circuit CHECK (circuit IN ('closed', 'open', 'half_open'))
) WITH (fillfactor = 50);
COMMENT ON TABLE evstore.relay_status IS 'what relays have done, and what keeps them from going on';
COMMENT ON COLUMN evstore.relay_status.outages IS 'in a row';
COMMENT ON COLUMN evstore.relay_status.failing IS 'its worker comes back with the same error again and again';
COMMENT ON COLUMN evstore.relay_status.opened IS 'how often the circuit has opened';
COMMENT ON COLUMN evstore.relay_status.failures IS 'of messages, each attempt';
COMMENT ON COLUMN evstore.relay_status.latency_ms IS 'from submission to acknowledgement, moving average';

CREATE TRIGGER evstore_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON evstore.relay
	FOR EACH STATEMENT EXECUTE FUNCTION evstore._subscription_changed();
ALTER TABLE evstore.relay ENABLE ALWAYS TRIGGER evstore_changed;
