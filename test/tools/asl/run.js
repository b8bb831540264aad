'use strict';
/*
 * run.js: executes documents of the Amazon States Language with npm's
 * aws-local-stepfunctions.
 *
 * Reads lines {"asl", "input"}; writes lines {"output"} or {"error", "cause"}.  What
 * tasks do is named by the last part of their resource, see tasks below: functions of
 * the same names are in test/t/070_saga_outside.pl.  Nothing waits: pauses are 0.
 * That documents are valid, validate.js says.
 */
const readline = require('readline');

// Node.js 22 has it.
Promise.withResolvers ??= function () {
	const result = {};
	result.promise = new Promise((resolve, reject) => Object.assign(result, { resolve, reject }));
	return result;
};
const { StateMachine } = require('aws-local-stepfunctions');

function failure(name, cause) {
	const error = new Error(cause);
	error.name = name;
	return error;
}

const tasks = {
	echo: (payload) => payload,
	// {"n"} → {"n": 2n}
	twice: (payload) => ({ n: 2 * payload.n }),
	// fails with the error that it is told to, if any
	obey: (payload) => {
		if (payload.fail != null) throw failure(payload.fail, `told to: ${payload.fail}`);
		return { obeyed: true };
	},
	// fails so many times
	flaky: (payload, attempt) => {
		if (attempt <= payload.times) throw failure('Flaky', `attempt ${attempt}`);
		return { attempt };
	},
};

// Task and Wait states of a machine and of those in it.
function* states(machine) {
	for (const [name, state] of Object.entries(machine.States)) {
		yield [name, state];
		for (const inner of [...(state.Branches ?? []), state.Iterator, state.ItemProcessor])
			if (inner) yield* states(inner);
	}
}

function overrides(asl) {
	const result = { taskResourceLocalHandlers: {}, waitTimeOverrides: {}, retryIntervalOverrides: {} };
	for (const [name, state] of states(asl)) {
		if (state.Retry) result.retryIntervalOverrides[name] = 0;
		if (state.Type === 'Wait') result.waitTimeOverrides[name] = 0;
		if (state.Type !== 'Task') continue;
		const task = tasks[state.Resource.split(/[.:]/).pop()];
		let attempts = 0;
		result.taskResourceLocalHandlers[name] = (payload) => task(payload, ++attempts);
	}
	return result;
}

async function execute({ asl, input }) {
	try {
		const machine = new StateMachine(asl, { validationOptions: { noValidate: true } });
		return { output: await machine.run(input, { overrides: overrides(asl) }).result };
	} catch (error) {
		const inner = error.cause instanceof Error ? error.cause : error;
		return { error: inner.name, cause: inner.message };
	}
}

(async () => {
	for await (const line of readline.createInterface({ input: process.stdin }))
		process.stdout.write(JSON.stringify(await execute(JSON.parse(line))) + '\n');
})();
