-- A row of the view is an event: where a function wants one, it may be given.

CREATE FUNCTION evstore._event(row_of_events evstore.events) RETURNS evstore.event
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ROW((row_of_events)."position", (row_of_events).stream, (row_of_events).version,
	(row_of_events).event_id, (row_of_events).type, (row_of_events).schema_version,
	(row_of_events).data, (row_of_events).metadata, (row_of_events).correlation_id,
	(row_of_events).causation_id, (row_of_events).source, (row_of_events).occurred_at,
	(row_of_events).recorded_at, (row_of_events).tags)::evstore.event;
COMMENT ON FUNCTION evstore._event(evstore.events) IS 'a row of the view as an event';

CREATE CAST (evstore.events AS evstore.event)
	WITH FUNCTION evstore._event(evstore.events) AS IMPLICIT;

