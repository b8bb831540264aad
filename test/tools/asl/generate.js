'use strict';
/*
 * generate.js SEED COUNT: documents of the Amazon States Language, and inputs for
 * them, at random.  Writes lines {"asl", "input"}.
 *
 * Each state leaves its result in a member of its own, so that what paths name is
 * there.  What the program that they are compared
 * with does otherwise than the specification is left out: src/asl/README.md has a list.
 */
const [seed, count] = process.argv.slice(2).map(Number);

// A small generator (mulberry32): the same seed, the same documents.
let state32 = seed >>> 0;
function random() {
	state32 = (state32 + 0x6d2b79f5) >>> 0;
	let t = state32;
	t = Math.imul(t ^ (t >>> 15), t | 1);
	t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
	return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const below = (n) => Math.floor(random() * n);
const pick = (list) => list[below(list.length)];
const chance = (p) => random() < p;

const words = ['', 'a', 'ab', 'Ab', 'zebra', 'a*c', 'été', '日本', '😀', "it's", '{}', '2024-02-29T12:00:00Z', '2024-02-29T13:00:00+02:00', '10'];
const text = () => pick(words);
const number = () => pick([0, 1, -1, 2, 3, 7, 10, 2.5, -0.5, 1e6]);
const scalar = () => pick([text, text, number, number, () => chance(0.5), () => null])();

function input() {
	return {
		n: number(), m: pick([1, 2, 3, 5]), s: text(), t: text(), b: chance(0.5), z: null,
		at: pick(['2024-02-29T12:00:00Z', '2025-01-01T00:00:00+01:00']),
		// the program that they are compared with has an error where a path finds none of many
		items: [{ v: 2, w: text() }, ...Array.from({ length: below(4) }, () => ({ v: pick([0, 1, 2, 3, 4]), w: text() }))],
		list: Array.from({ length: 1 + below(5) }, () => pick([0, 1, 2, 3])),
		obj: { a: scalar(), b: { c: scalar() }, 'd e': scalar() },
	};
}

const definite = ['$', '$.n', '$.m', '$.s', '$.b', '$.z', '$.items', '$.list', '$.list[0]', '$.obj', '$.obj.a', '$.obj.b.c', "$.obj['d e']", "$['s']"];
const indefinite = ['$.items[*].v', '$.items[?(@.v > 1)].w', '$.list[0:2]', '$..c', '$.items[*]', '$.list[*]', '$.items[?(@.v == 2)]'];

// without what must be escaped
const literal = (value) => `'${String(value).replace(/[\\'{}]/g, '')}'`;

// Calls of intrinsic functions, but for those whose result is at random.
const calls = [
	() => `States.Format('{} and {}', $.s, $.t)`,
	() => `States.Format(${literal(text())})`,
	() => `States.Format('{}-{}', $.m, States.JsonToString($.b))`,
	() => `States.StringToJson(States.JsonToString($.list))`,
	// integers: the validator's grammar has no fractions
	() => `States.Array($.n, ${literal(text())}, null, ${Math.trunc(number())})`,
	() => `States.Array()`,
	() => `States.ArrayPartition($.list, $.m)`,
	() => `States.ArrayContains($.list, ${below(4)})`,
	() => `States.ArrayContains($.items, $.items[0])`,
	() => `States.ArrayRange(${below(4)}, ${below(12)}, ${1 + below(3)})`,
	() => `States.ArrayRange(${5 + below(4)}, ${below(4)}, -${1 + below(3)})`,
	() => `States.ArrayGetItem($.list, 0)`,
	() => `States.ArrayLength($.items)`,
	() => `States.ArrayLength($.items[*].w)`,
	() => `States.ArrayUnique($.list)`,
	() => `States.Base64Encode($.at)`,
	() => `States.Base64Decode(States.Base64Encode('a+b=c'))`,
	() => `States.Hash($.t, '${pick(['MD5', 'SHA-1', 'SHA-256', 'SHA-384', 'SHA-512'])}')`,
	// a copy, since the other program changes its first argument
	() => `States.JsonMerge(States.StringToJson(States.JsonToString($.obj)), $.obj.b, false)`,
	() => `States.MathAdd($.m, ${below(20) - 10})`,
	() => `States.StringSplit(${literal('1,2;3 4')}, ',')`,
	() => `States.ArrayLength(States.StringSplit($.at, 'T'))`,
];

function expression() {
	const p = random();
	if (p < 0.3) return pick(calls)();
	return pick(p < 0.5 ? indefinite : definite);
}

function template(depth = 0) {
	const result = {};
	for (let i = below(3) + 1; i > 0; i--) {
		const key = `k${i}`;
		if (chance(0.6)) result[`${key}.$`] = expression();
		else if (depth < 2 && chance(0.4)) result[key] = chance(0.5) ? template(depth + 1) : [template(depth + 1), scalar()];
		else result[key] = scalar();
	}
	return result;
}

const compare = ['Equals', 'LessThan', 'GreaterThan', 'LessThanEquals', 'GreaterThanEquals'];

function test(depth = 0) {
	const p = random();
	if (depth < 2 && p < 0.12) return { And: [test(depth + 1), test(depth + 1)] };
	if (depth < 2 && p < 0.24) return { Or: [test(depth + 1), test(depth + 1)] };
	if (depth < 2 && p < 0.32) return { Not: test(depth + 1) };
	return pick([
		() => ({ Variable: pick(['$.s', '$.t']), [`String${pick(compare)}`]: text() }),
		() => ({ Variable: '$.s', [`String${pick(compare)}Path`]: '$.t' }),
		() => ({ Variable: '$.s', StringMatches: pick(['*', 'a*', '*b', 'a\\*c', '*é*', '']) }),
		() => ({ Variable: pick(['$.n', '$.m']), [`Numeric${pick(compare)}`]: number() }),
		() => ({ Variable: '$.n', [`Numeric${pick(compare)}Path`]: '$.m' }),
		() => ({ Variable: '$.b', BooleanEquals: chance(0.5) }),
		() => ({ Variable: '$.b', BooleanEqualsPath: '$.b' }),
		() => ({ Variable: '$.at', [`Timestamp${pick(compare)}`]: pick(['2024-02-29T12:00:00Z', '2024-12-31T23:00:00Z']) }),
		() => ({ Variable: '$.at', [`Timestamp${pick(compare)}Path`]: '$.at' }),
		() => ({ Variable: pick(['$.z', '$.n', '$.obj.a']), IsNull: true }),
		() => ({ Variable: pick(['$.missing', '$.z', '$.obj.b.c']), IsPresent: true }),
		() => ({ Variable: pick(['$.n', '$.s', '$.obj.a']), IsNumeric: true }),
		() => ({ Variable: pick(['$.n', '$.s', '$.obj.a']), IsString: true }),
		() => ({ Variable: pick(['$.b', '$.s', '$.obj.a']), IsBoolean: true }),
		() => ({ Variable: pick(['$.at', '$.s', '$.t']), IsTimestamp: true }),
	])();
}

let names = 0;

// What puts the data back into the shape that paths are written for.
const passOn = { 'n.$': '$.n', 'm.$': '$.m', 's.$': '$.s', 't.$': '$.t', 'b.$': '$.b', 'z.$': '$.z', 'at.$': '$.at', 'items.$': '$.items', 'list.$': '$.list', 'obj.$': '$.obj' };

const error = () => pick(['Declined', 'Lost', 'Flaky']);

function handled(state, next) {
	if (chance(0.5)) state.Retry = [{ ErrorEquals: [pick(['Flaky', 'States.TaskFailed', 'States.ALL'])], MaxAttempts: below(3), IntervalSeconds: 1 + below(3) }];
	if (chance(0.5)) state.Catch = [{ ErrorEquals: [error()], Next: next, ResultPath: '$.caught' }];
	if (state.Catch && chance(0.7)) state.Catch.push({ ErrorEquals: ['States.ALL'], Next: next, ResultPath: '$.caughtAny' });
	return state;
}

// How often it was tried is counted by state, so such a one runs only once.
function task(result, next, depth, mayFail) {
	const state = pick([
		() => ({ Resource: 'evstore:sql:oracle.echo', Parameters: template() }),
		() => ({ Resource: 'evstore:sql:oracle.twice', Parameters: { 'n.$': '$.m' } }),
		() => ({ Resource: 'evstore:sql:oracle.obey', Parameters: { fail: mayFail && chance(0.5) ? error() : null } }),
		() => (depth === 0 ? { Resource: 'evstore:sql:oracle.flaky', Parameters: { times: below(4) } } : { Resource: 'evstore:sql:oracle.echo' }),
	])();
	if (chance(0.3)) state.ResultSelector = { 'all.$': '$', fixed: scalar() };
	return handled({ Type: 'Task', ...state, ResultPath: chance(0.1) ? null : result }, next);
}

function one(name, depth, next, mayFail) {
	const result = `$.${name}`;
	const p = random();
	if (p < 0.3) return task(result, next, depth, mayFail);
	if (p < 0.5) return { Type: 'Pass', ...(chance(0.5) ? { Parameters: template() } : { Result: { v: scalar() } }), ResultPath: result };
	if (p < 0.6) return { Type: 'Wait', ...pick([{ Seconds: 3 }, { SecondsPath: '$.m' }]) };
	if (p < 0.7) return { Type: 'Pass', InputPath: pick(definite), ResultPath: result };
	if (depth > 1) return { Type: 'Pass', ResultPath: result, Parameters: template() };
	if (p < 0.85)
		return handled({ Type: 'Parallel', Branches: Array.from({ length: 1 + below(3) }, (_, i) => machine(depth + 1, mayFail && i === 0)), ResultPath: result }, next);
	return handled({
		Type: 'Map', ItemsPath: pick(['$.items', '$.list']), MaxConcurrency: below(3),
		ItemSelector: { ...passOn, 'item.$': '$$.Map.Item.Value', 'index.$': '$$.Map.Item.Index' },
		ItemProcessor: { ProcessorConfig: { Mode: 'INLINE' }, ...machine(depth + 1, mayFail) }, ResultPath: result,
	}, next);
}

// A chain, with choices that jump ahead.  Of branches one may fail: which of two is first
// is not said.
function machine(depth = 0, mayFail = true) {
	const n = 1 + below(depth === 0 ? 6 : 3);
	const chain = Array.from({ length: n }, () => `s${++names}`);
	const end = `s${++names}`;
	const States = {};
	chain.forEach((name, i) => {
		const next = chain[i + 1] ?? end;
		if (chance(0.2)) {
			const ahead = () => pick([...chain.slice(i + 1), end]);
			States[name] = { Type: 'Choice', Choices: Array.from({ length: 1 + below(3) }, () => ({ ...test(), Next: ahead() })) };
			if (chance(0.9)) States[name].Default = next;
			else States[name].Choices.push({ Variable: '$.m', IsPresent: true, Next: next });
		} else {
			States[name] = { ...one(name, depth, end, mayFail), Next: next };
		}
	});
	States[end] = pick([
		() => ({ Type: 'Succeed' }),
		() => ({ Type: 'Pass', End: true }),
		() => ({ Type: 'Pass', OutputPath: pick(definite), End: true }),
		() => (mayFail && chance(0.2) ? { Type: 'Fail', Error: 'Given.Up', Cause: 'as it happens' } : { Type: 'Succeed' }),
	])();
	// no state that cannot be reached
	const reached = new Set();
	const visit = (name) => {
		if (reached.has(name)) return;
		reached.add(name);
		const { Next, Default, Choices = [], Catch = [] } = States[name];
		[Next, Default, ...Choices.map((c) => c.Next), ...Catch.map((c) => c.Next)].filter(Boolean).forEach(visit);
	};
	visit(chain[0]);
	Object.keys(States).filter((name) => !reached.has(name)).forEach((name) => delete States[name]);
	return { StartAt: chain[0], States };
}

for (let i = 0; i < count; i++) {
	names = 0;
	process.stdout.write(JSON.stringify({ asl: machine(), input: input() }) + '\n');
}
