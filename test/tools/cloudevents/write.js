'use strict';
/*
 * write.js: serialises events with npm's cloudevents.
 *
 * Reads lines {"event", "modes"}; writes lines {"event", "messages": [{"mode", "headers",
 * "body" or "body_base64"}]}: the event as the SDK has it, and as it goes over the wire in
 * each mode.  Of a batch the event comes twice, with the id of the second one changed.
 */
const readline = require('readline');
const { CloudEvent, HTTP, Kafka, MQTT } = require('cloudevents');

// What the client of a protocol does with a body.
function bytes(body) {
	if (body === undefined || body === null)
		return {};
	if (body instanceof Uint8Array)
		return { body_base64: Buffer.from(body).toString('base64') };
	return { body: typeof body === 'string' ? body : JSON.stringify(body) };
}

// Undefined headers are not sent.
function message(mode, headers, body) {
	return { mode, headers: JSON.parse(JSON.stringify(headers)), ...bytes(body) };
}

const modes = {
	'http-binary': (event) => HTTP.binary(event),
	'http-structured': (event) => HTTP.structured(event),
	'kafka-binary': (event) => Kafka.binary(event),
	'kafka-structured': (event) => Kafka.structured(event),
	'mqtt-binary': (event) => MQTT.binary(event),
	'mqtt-structured': (event) => MQTT.structured(event)
};

function serialise(event, mode) {
	// the SDK reads batches and has no function that writes them
	if (mode === 'http-batch')
		return message(mode, { 'content-type': 'application/cloudevents-batch+json; charset=UTF-8' },
			JSON.stringify([event, event.cloneWith({ id: event.id + '-2' })]));
	const { headers, body, PUBLISH } = modes[mode](event);
	return message(mode, { ...headers, ...PUBLISH }, body);
}

(async () => {
	for await (const line of readline.createInterface({ input: process.stdin })) {
		const { event: given, modes: wanted } = JSON.parse(line);
		const event = new CloudEvent(given);
		process.stdout.write(JSON.stringify({ event, messages: wanted.map((mode) => serialise(event, mode)) }) + '\n');
	}
})();
