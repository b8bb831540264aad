// client.js PORT
//
// What the test of the sink amqp asks RabbitMQ, by another client than the sink's.
// Commands are lines of JSON arrays on standard input; each is answered by lines, the last
// of which is "." or "! ERROR".  Each has a connection of its own, since the server comes and goes.
//
//	["declare", QUEUE, ARGUMENTS]			a durable queue
//	["exchange", NAME, TYPE]				a durable exchange
//	["bind", QUEUE, EXCHANGE, KEY]
//	["count", QUEUE]						messages in it
//	["order", QUEUE]						takes all: position and routing key of each, a line a message
//	["take", QUEUE]							takes all: an object a message

'use strict';

const amqp = require('amqplib');
const crypto = require('crypto');
const readline = require('readline');

const url = `amqp://evs:right%20password@127.0.0.1:${process.argv[2]}`;
const say = (line) => process.stdout.write(line + '\n');

async function each(channel, queue, use) {
	const { messageCount } = await channel.checkQueue(queue);
	if (messageCount === 0) return;
	await new Promise((resolve, reject) => {
		let left = messageCount;
		channel.on('error', reject);
		channel.consume(queue, (message) => {
			if (message === null) return reject(new Error('cancelled'));
			if (left-- > 0) use(message);
			if (left === 0) resolve(channel.cancel('it').then(() => channel.ackAll()));
		}, { consumerTag: 'it' }).catch(reject);
	});
}

function describe(message) {
	const { fields, properties, content } = message;
	return JSON.stringify({
		exchange: fields.exchange, key: fields.routingKey, ...properties,
		length: content.length,
		sha256: crypto.createHash('sha256').update(content).digest('hex'),
		content: content.length < 65536 ? content.toString('latin1') : null,
	});
}

const commands = {
	declare: (channel, queue, args) => channel.assertQueue(queue, { durable: true, arguments: args }),
	exchange: (channel, name, type) => channel.assertExchange(name, type, { durable: true }),
	bind: (channel, queue, exchange, key) => channel.bindQueue(queue, exchange, key),
	count: async (channel, queue) => say((await channel.checkQueue(queue)).messageCount),
	order: (channel, queue) => each(channel, queue, (message) =>
		say(`${message.properties.headers['Evstore-Position']} ${message.fields.routingKey}`)),
	take: (channel, queue) => each(channel, queue, (message) => say(describe(message))),
};

async function obey(line) {
	const [name, ...args] = JSON.parse(line);
	const connection = await amqp.connect(url);
	connection.on('error', () => {});
	try {
		const channel = await connection.createChannel();
		channel.on('error', () => {});
		await commands[name](channel, ...args);
		await channel.close(); // when all that was acknowledged is
	} finally {
		await connection.close().catch(() => {});
	}
}

(async () => {
	for await (const line of readline.createInterface({ input: process.stdin })) {
		try {
			await obey(line);
			say('.');
		} catch (error) {
			say('! ' + String(error.message || error.code).replace(/\s+/g, ' '));
		}
	}
})();
