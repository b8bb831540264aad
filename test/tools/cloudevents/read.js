'use strict';
/*
 * read.js: reads requests with npm's cloudevents.
 *
 * Reads lines {"headers", "body" or "body_base64"}; writes lines with an array of the
 * events of the request, or {"error"}.
 */
const readline = require('readline');
const { HTTP } = require('cloudevents');

function read({ headers, body, body_base64 }) {
	try {
		const event = HTTP.toEvent({ headers, body: body_base64 !== undefined ? Buffer.from(body_base64, 'base64') : body ?? '' });
		return [event].flat();
	} catch (error) {
		return { error: error.message };
	}
}

(async () => {
	for await (const line of readline.createInterface({ input: process.stdin }))
		process.stdout.write(JSON.stringify(read(JSON.parse(line))) + '\n');
})();
