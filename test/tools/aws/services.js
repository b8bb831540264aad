// Local doubles of SNS and SQS (fauxqs) and Kinesis (kinesalite), with queues, topics
// and a stream in them. Prints their ports. "queue NAME" and "stream" on standard
// input are answered with what is there, a line of JSON.
const aws4 = require('aws4');
const http = require('http');
const kinesalite = require('kinesalite');

const region = 'us-east-1';
let port;

function kinesis(action, body) {
	const request = aws4.sign({
		host: `127.0.0.1:${port}`, method: 'POST', path: '/', service: 'kinesis', region,
		headers: { 'Content-Type': 'application/x-amz-json-1.1', 'X-Amz-Target': `Kinesis_20131202.${action}` },
		body: JSON.stringify(body),
	}, { accessKeyId: 'a', secretAccessKey: 'b' });
	return new Promise((resolve, reject) => {
		http.request({ ...request, hostname: '127.0.0.1', port }, (response) => {
			let text = '';
			response.on('data', (chunk) => { text += chunk; });
			response.on('end', () => resolve(text === '' ? {} : JSON.parse(text)));
		}).on('error', reject).end(request.body);
	});
}

async function allRecords() {
	const { StreamDescription: { Shards: shards } } = await kinesis('DescribeStream', { StreamName: 'stream' });
	const records = [];
	for (const { ShardId } of shards) {
		let { ShardIterator } = await kinesis('GetShardIterator', { StreamName: 'stream', ShardId, ShardIteratorType: 'TRIM_HORIZON' });
		for (let more = true; more;) {
			const answer = await kinesis('GetRecords', { ShardIterator });
			ShardIterator = answer.NextShardIterator;
			more = answer.Records.length > 0;
			for (const record of answer.Records)
				records.push({ key: record.PartitionKey, data: Buffer.from(record.Data, 'base64').toString('utf8') });
		}
	}
	return records;
}

(async () => {
	const { startFauxqs } = await import('fauxqs');
	const queues = await startFauxqs({ port: 0, logger: false, defaultRegion: region });
	const fifo = { FifoQueue: 'true' };
	queues.createQueue('plain');
	queues.createQueue('ordered.fifo', { attributes: fifo });
	queues.createQueue('subscriber');
	queues.createQueue('subscriber.fifo', { attributes: fifo });
	queues.createTopic('news');
	queues.createTopic('news.fifo', { attributes: { FifoTopic: 'true' } });
	queues.subscribe({ topic: 'news', queue: 'subscriber', attributes: { RawMessageDelivery: 'true' } });
	queues.subscribe({ topic: 'news.fifo', queue: 'subscriber.fifo', attributes: { RawMessageDelivery: 'true' } });

	const server = kinesalite({ createStreamMs: 0 });
	await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
	port = server.address().port;
	await kinesis('CreateStream', { StreamName: 'stream', ShardCount: 2 });
	let status;
	while (status !== 'ACTIVE')
		status = (await kinesis('DescribeStream', { StreamName: 'stream' })).StreamDescription.StreamStatus;

	console.log(JSON.stringify({ queues: queues.port, kinesis: port }));
	const lines = require('readline').createInterface({ input: process.stdin });
	for await (const line of lines) {
		const [what, name] = line.split(' ');
		console.log(JSON.stringify(what === 'stream' ? await allRecords() : queues.inspectQueue(name).messages.ready));
	}
	process.exit();
})();
