-- Tables of routes.  A route is a projection of the same id whose handler appends events.

CREATE TABLE evstore.route (
	id				bigint NOT NULL,
	emits			text[] COLLATE "C" NOT NULL,
	CONSTRAINT route_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE evstore.route IS 'projections that answer events with events';
COMMENT ON COLUMN evstore.route.id IS 'that of its projection';
COMMENT ON COLUMN evstore.route.emits IS 'types of events that it appends, as whoever made it says';

-- A new count is a new row, as with slot_state, and takes the place of the last one.
CREATE TABLE evstore.route_observed (
	route_id		bigint NOT NULL,
	slot			integer NOT NULL,
	seq				bigint NOT NULL,
	observed		bigint NOT NULL,
	from_type		text COLLATE "C" NOT NULL,
	to_type			text COLLATE "C" NOT NULL,
	CONSTRAINT route_observed_pkey PRIMARY KEY (route_id, slot, from_type, to_type, seq)
);
COMMENT ON TABLE evstore.route_observed IS 'how many events routes have appended, by what types have led to what types';
COMMENT ON COLUMN evstore.route_observed.slot IS 'who holds it counts alone';
