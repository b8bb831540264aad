'use strict';
/*
 * validate.js: what npm's asl-validator says of documents.
 *
 * Reads lines of JSON, writes lines {"valid", "errors": [text]}.
 */
const readline = require('readline');
const validate = require('asl-validator');

(async () => {
	for await (const line of readline.createInterface({ input: process.stdin })) {
		const { isValid, errors } = validate(JSON.parse(line), { checkArn: false });
		process.stdout.write(JSON.stringify({ valid: isValid, errors: errors.map((e) => e.Message ?? e['Error code']) }) + '\n');
	}
})();
