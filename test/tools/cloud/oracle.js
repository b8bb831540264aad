// oracle.js: answers for lines of JSON on standard input, a line each.
//
//	{"sas": [RESOURCE, POLICY, KEY], "now": SECONDS}	the token of Azure's library
//	{"jwt": TOKEN, "pem": PUBLIC KEY, "now": SECONDS}	header and claims, if jose accepts it
//	{"events": {"headers": ..., "body": ...}}			the events in a request, as cloudevents reads them

const { createSasTokenProvider } = require('@azure/core-amqp');
const { HTTP } = require('cloudevents');

async function answer(line) {
	if (line.sas) {
		const [resource, policy, key] = line.sas;
		const realNow = Date.now;
		Date.now = () => line.now * 1000;
		try {
			return (await createSasTokenProvider({ sharedAccessKeyName: policy, sharedAccessKey: key }).getToken(resource)).token;
		} finally {
			Date.now = realNow;
		}
	}
	if (line.jwt) {
		const jose = await import('jose');
		const key = await jose.importSPKI(line.pem, 'RS256');
		const { payload, protectedHeader } = await jose.jwtVerify(line.jwt, key,
			{ currentDate: new Date(line.now * 1000), algorithms: ['RS256'], maxTokenAge: '1h' });
		return { header: protectedHeader, claims: payload };
	}
	return [HTTP.toEvent(line.events)].flat().map((event) => event.toJSON());
}

async function main() {
	const lines = require('fs').readFileSync(0, 'utf8').split('\n').filter((line) => line);
	for (const line of lines) {
		let result;
		try {
			result = await answer(JSON.parse(line));
		} catch (error) {
			result = { error: String(error) };
		}
		console.log(JSON.stringify(result));
	}
}

main();
