// Signs requests as aws4 does.  Each line of standard input is a request, its time
// in X-Amz-Date; what Authorization should be is a line of the output.
const aws4 = require('aws4');

require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
	const { request, credentials } = JSON.parse(line);
	request.body = Buffer.from(request.body, 'base64');
	request.extraHeadersToIgnore = { 'content-length': true };
	console.log(aws4.sign(request, credentials).headers.Authorization);
});
