/*
 * What comes in: messages of brokers and requests of web hooks, decoded, and appended
 * once.  C code: src/ingest.
 */

/*
 * ingest(payload, format, attributes, stream, type, options)
 *     returns a row for each event: index, status, source, id, type, stream, version, position,
 *     event_id, message_id, detail
 *
 * Appends the events of what a broker or a web hook has delivered, each once: an event whose
 * source and id are known already is a duplicate, and nothing is written for it.  All of it
 * is done in the caller's transaction.  Terms: CloudEvents specification 1.0.2 and its
 * bindings; idempotent receiver (Hohpe and Woolf).
 *
 * payload     the body of the request or message, up to 256 MB
 * format      cloudevents, cloudevents-batch, cloudevents-binary, sns-sqs, sqs, pubsub-push,
 *             eventbridge, eventgrid, or auto: what it looks like, if that is clear
 * attributes  headers of the request, or attributes of the message: an object
 * stream      template of the stream's name: {subject}, {key|subject}, {attributes.name};
 *             default: inbox-<source>/<subject>, without a subject inbox-<source>
 * type        template of the type; default: the event's
 * options     on_error: abort (default), report or stop; id, source: of messages that have
 *             none; topics, sources: the only ones that are taken, * at the end stands for
 *             any text
 *
 * index       number of the event in the payload, from 0
 * status      appended, duplicate, failed, not_tried, or handshake: the sender wants an answer
 * version, position   where the event is in its stream (from 0) and in the log
 * message_id  the broker's id of the message, for partial acknowledgements
 * detail      of failed: sqlstate, message, detail; of handshake: what is to be answered
 *
 * Errors:
 * VS005  the payload, or an event of it, is not what the format says; DETAIL has index, field
 * VS010  an option is not known, or has a wrong value
 * VS003  two sources send the same UUID at the same moment: a retry helps
 * VS002  the stream is closed for ever
 * 22004, 22023  payload or format is null; format or a template is wrong
 * 40P01  a deadlock with a transaction that has taken in the same events one by one
 * 25006, 42501  the transaction is read-only; the role may not append
 */
CREATE OR REPLACE FUNCTION evstore.ingest(
	payload text,
	format text DEFAULT 'auto',
	attributes jsonb DEFAULT NULL,
	stream text DEFAULT NULL,
	type text DEFAULT NULL,
	options jsonb DEFAULT '{}')
RETURNS TABLE (index integer, status text, source text, id text, type text, stream text, version bigint,
	"position" bigint, event_id uuid, message_id text, detail jsonb)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_ingest';
COMMENT ON FUNCTION evstore.ingest(text, text, jsonb, text, text, jsonb) IS
	'append the events of what a broker or a web hook has delivered, each once';

-- The same for a payload as bytes: what is no text, and what a driver has as such.
CREATE OR REPLACE FUNCTION evstore.ingest_bytes(
	payload bytea,
	format text DEFAULT 'auto',
	attributes jsonb DEFAULT NULL,
	stream text DEFAULT NULL,
	type text DEFAULT NULL,
	options jsonb DEFAULT '{}')
RETURNS TABLE (index integer, status text, source text, id text, type text, stream text, version bigint,
	"position" bigint, event_id uuid, message_id text, detail jsonb)
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'evs_ingest_bytes';
COMMENT ON FUNCTION evstore.ingest_bytes(bytea, text, jsonb, text, text, jsonb) IS
	'as ingest(), of a payload that is bytes';
