'use strict';
/*
 * validate.js: what npm's asl-validator says of documents.
 *
 * Reads lines of JSON, writes lines {"valid", "errors": [text]}.  It throws for some that
 * have another type where it looks for an object.
 */
const readline = require('readline');
const validate = require('asl-validator');

function verdict(document) {
	try {
		const { isValid, errors } = validate(document, { checkArn: false, checkPaths: true });
		return { valid: isValid, errors: errors.map((e) => e.Message ?? e['Error code']) };
	} catch (error) {
		return { valid: false, errors: [error.message] };
	}
}

(async () => {
	for await (const line of readline.createInterface({ input: process.stdin }))
		process.stdout.write(JSON.stringify(verdict(JSON.parse(line))) + '\n');
})();
