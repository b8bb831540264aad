-- Tables of subscriptions.  C code names the columns of subscription,
-- slot_state and subscription_member; a test compares the two.

CREATE TABLE evstore.subscription (
	id			bigint GENERATED ALWAYS AS IDENTITY,
	name		text COLLATE "C" NOT NULL,
	filter		jsonb NOT NULL,
	key			text NOT NULL,
	slots		integer NOT NULL,
	lease		integer,
	retry		jsonb NOT NULL,
	on_failure	text NOT NULL,
	notify		boolean NOT NULL,
	paused		boolean NOT NULL,
	next_slots	integer,
	drain_to	bigint,
	created_at	timestamptz NOT NULL,
	kind		text NOT NULL DEFAULT 'subscription',
	CONSTRAINT subscription_pkey PRIMARY KEY (id),
	CONSTRAINT subscription_kind CHECK (kind IN ('subscription', 'projection', 'rebuild', 'relay'))
);
CREATE UNIQUE INDEX subscription_name_key ON evstore.subscription (name);
COMMENT ON TABLE evstore.subscription IS 'named cursors over the log';
COMMENT ON COLUMN evstore.subscription.key IS 'ordering key: stream, correlation, none, or a jsonpath into data';
COMMENT ON COLUMN evstore.subscription.lease IS 'milliseconds; null: evstore.default_lease';
COMMENT ON COLUMN evstore.subscription.kind IS 'who consumes it: clients, a projection, the rebuild of one, or a relay';
COMMENT ON COLUMN evstore.subscription.next_slots IS 'number of slots from position drain_to on';

-- Claims of all subscriptions draw their epochs here: a claim that was rolled
-- back leaves none behind that another one could get.
CREATE SEQUENCE evstore.epoch_seq AS bigint;
COMMENT ON SEQUENCE evstore.epoch_seq IS 'epochs of claims';

-- What a slot's consumers have done so far.  A change is a new row, the newest
-- one is the truth: an update would leave a dead row for each batch, which an
-- old snapshot somewhere would keep, and every look-up would wade through.
CREATE TABLE evstore.slot_state (
	subscription_id	bigint NOT NULL,
	slot			integer NOT NULL,
	seq				bigint NOT NULL,
	cursor			bigint NOT NULL,
	checkpoint		bigint NOT NULL,
	epoch			bigint NOT NULL,
	lease_until		timestamptz NOT NULL,
	head			bigint NOT NULL,
	batch_to		bigint NOT NULL,
	suspect_to		bigint NOT NULL,
	pid				integer NOT NULL,
	attempts		integer NOT NULL,
	batch			integer NOT NULL,
	batch_limit		integer NOT NULL,
	pending			boolean NOT NULL,
	consumer		text COLLATE "C",
	changed_at		timestamptz NOT NULL,
	CONSTRAINT slot_state_pkey PRIMARY KEY (subscription_id, slot, seq)
);
COMMENT ON TABLE evstore.slot_state IS 'states of the slots of subscriptions; the newest row of a slot counts';
COMMENT ON COLUMN evstore.slot_state.cursor IS 'events of the slot up to here are done, or in failed_event';
COMMENT ON COLUMN evstore.slot_state.checkpoint IS 'events of the slot up to here are done or parked';
COMMENT ON COLUMN evstore.slot_state.epoch IS 'grows with each claim; who has an older one is fenced';
COMMENT ON COLUMN evstore.slot_state.head IS 'first event that was delivered with the claim, or 0';
COMMENT ON COLUMN evstore.slot_state.batch_to IS 'last event that was delivered with the claim, or 0';
COMMENT ON COLUMN evstore.slot_state.suspect_to IS 'up to here a batch has at most batch_limit events';
COMMENT ON COLUMN evstore.slot_state.pid IS 'process that showed the last sign of life';
COMMENT ON COLUMN evstore.slot_state.attempts IS 'claims that ended without acknowledging head';
COMMENT ON COLUMN evstore.slot_state.pending IS 'failed_event has rows that matter for the slot';

CREATE TABLE evstore.failed_event (
	subscription_id	bigint NOT NULL,
	"position"		bigint NOT NULL,
	key_hash		bigint NOT NULL,
	key				text NOT NULL,
	state			text NOT NULL,
	replayed		boolean NOT NULL DEFAULT false,
	attempts		integer NOT NULL,
	retry_at		timestamptz,
	delivered_epoch	bigint,
	reason			text,
	error			text,
	behind			bigint,
	data			jsonb,
	first_failed_at	timestamptz NOT NULL,
	last_failed_at	timestamptz NOT NULL,
	CONSTRAINT failed_event_pkey PRIMARY KEY (subscription_id, "position"),
	CONSTRAINT failed_event_state CHECK (state IN ('retry', 'waiting', 'deferred', 'parked', 'done'))
);
CREATE INDEX failed_event_key_idx ON evstore.failed_event (subscription_id, key_hash, "position");
CREATE INDEX failed_event_retry_idx ON evstore.failed_event (retry_at) WHERE state IN ('retry', 'deferred');
COMMENT ON TABLE evstore.failed_event IS 'events that a subscription could not get done: the only ones with a row of their own';
COMMENT ON COLUMN evstore.failed_event.state IS 'retry: at retry_at; waiting: for an earlier event of its key; deferred: until a later one, or retry_at; parked; done: skipped, until the cursor has passed';
COMMENT ON COLUMN evstore.failed_event.replayed IS 'was parked, and so is behind the checkpoint';
COMMENT ON COLUMN evstore.failed_event.delivered_epoch IS 'the claim that it is delivered with now';
COMMENT ON COLUMN evstore.failed_event.behind IS 'position of the parked event of its key that it was parked behind';
COMMENT ON COLUMN evstore.failed_event.data IS 'delivered in place of the event''s data';

CREATE TABLE evstore.subscription_member (
	subscription_id	bigint NOT NULL,
	pid				integer NOT NULL,
	seen_at			timestamptz NOT NULL,
	consumer		text COLLATE "C" NOT NULL,
	CONSTRAINT subscription_member_pkey PRIMARY KEY (subscription_id, consumer)
);
COMMENT ON TABLE evstore.subscription_member IS 'who takes part in a consumer group; never dumped';

-- Sessions keep compiled definitions; this tells them.
CREATE FUNCTION evstore._subscription_changed() RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'evs_subscription_changed';
COMMENT ON FUNCTION evstore._subscription_changed() IS 'makes sessions forget compiled subscriptions';
REVOKE ALL ON FUNCTION evstore._subscription_changed() FROM PUBLIC;
CREATE TRIGGER evstore_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON evstore.subscription
	FOR EACH STATEMENT EXECUTE FUNCTION evstore._subscription_changed();
ALTER TABLE evstore.subscription ENABLE ALWAYS TRIGGER evstore_changed;
