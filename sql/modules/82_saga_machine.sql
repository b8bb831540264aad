/*
 * _saga_transition(definition, execution, event)
 *
 * The machine of sagas without tables, for tests.  execution: null for a new one; in, and
 * out, as it is stored.  event: {"kind": "start", "advance", "succeeded", "failed",
 * "heartbeat", "cancel", "retry", "resolve" or "compensate", "now", "started_at": RFC 3339,
 * "input", "saga_id", "saga", "business_key", "step", "data", "error", "cause", "outcome",
 * "compensate", "token", "seed": of random numbers, "steps": {number: {"input", "output",
 * "error"}}}.  due: when "advance" has something to do; -infinity: now, infinity: never.
 */
CREATE OR REPLACE FUNCTION evstore._saga_transition(OUT changed boolean, definition jsonb, INOUT execution jsonb,
	event jsonb, OUT actions jsonb, OUT status text, OUT due timestamptz)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_saga_transition_test';
COMMENT ON FUNCTION evstore._saga_transition(jsonb, jsonb, jsonb) IS 'for tests: one transition of a saga';
