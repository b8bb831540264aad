# The file sink: lines, recovery after crashes, rotation, paths, a full disk, and
# what resume() says.  Driven by the harness; there is no server.

use strict;
use warnings;

use File::Path 'make_path';
use FindBin;
use lib $FindBin::Bin;
use EvsSink;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

my $module = sink_module('file');
my $directory = PostgreSQL::Test::Utils::tempdir();
my @in = ('--directory', $directory);

sub text
{
	my ($name) = @_;

	return -e "$directory/$name" ? slurp_file("$directory/$name") : '';
}

sub lines { return split /\n/, text(@_); }

# The positions in the lines of structured events.
sub positions
{
	return map { /^\{"specversion".*?"sequence":"(\d+)"/ ? 0 + $1 : "no event: $_" } lines(@_);
}

# Files that begin so, in the order of their names.
sub names
{
	my ($start) = @_;
	my @names = map { s{.*/}{}r } glob("$directory/$start*");

	return sort @names if wantarray;
	return scalar @names;
}

sub append
{
	my ($name, $text) = @_;

	PostgreSQL::Test::Utils::append_to_file("$directory/$name", $text);
	return;
}

sub resume_of
{
	my ($name, @more) = @_;

	return harness('--destroy-at', 1, '--messages', 1, '--first', 1_000_000, '--give-up', 1, @in,
		@more, $module, "path=$name")->{value}{resume};
}

# ---- settings ----

my @bad = (
	'path=', 'path=../x', 'path=/x', 'path=a/../b', 'path=a/..', 'path=./a', 'path=a//b',
	'path=a/', "path=a\nb", 'path={key}', 'path=x.state', 'path:=1', 'path=' . 'x' x 240,
	'mode=0400', 'mode=099', 'mode=01777', 'mode:=0600', 'mode=6', 'fsync=true',
	'rotate_bytes:=-1', 'rotate_bytes=1', 'rotate_seconds:=1.5', 'keep:=2');
my $run = harness_ok('settings that are not possible are refused',
	(map { ('--bad', $_) } @bad), @in, $module, 'path=settings');
is(scalar(() = $run->{out} =~ /^refused=/mg), scalar @bad, 'all of them');
for my $setting (qw(path mode fsync rotate_bytes rotate_seconds keep))
{
	like($run->{out}, qr/^refused=$setting=.*: setting "$setting" /ms,
		"the error names $setting");
}
like(harness_ok('path is needed', '--invalid', $module)->{value}{error},
	qr/setting "path" is needed/, 'and the error says so');
for my $format (qw(cloudevents-binary cloudevents-batch))
{
	like(
		harness_ok("no $format", '--invalid', '--format', $format, $module, 'path=x')
		  ->{value}{error},
		qr/format "$format" is not possible in a file: use cloudevents or raw/,
		"the error names $format");
}

# ---- lines ----

harness_ok('messages are delivered', '--messages', 1000, @in, $module, 'path=lines');
is_deeply([ positions('lines') ], [ 1 .. 1000 ], 'a line for each, in order');
is((stat "$directory/lines")[2] & 07777, 0600, 'only the owner may read the file');
harness_ok('with another mode', '--messages', 1, @in, $module, 'path=mode', 'mode=0644');
is((stat "$directory/mode")[2] & 07777, 0644, 'the file has it, whatever the umask');
harness_ok('one result at a time, few in flight',
	'--messages', 300, '--max', 1, '--in-flight', 7, @in, $module, 'path=few');
is_deeply([ positions('few') ], [ 1 .. 300 ], 'nothing is lost');
for my $format (qw(cloudevents raw))
{
	harness_ok("messages of all kinds, $format", '--edge', '--test', '--replay', 20, '--messages',
		100, '--format', $format, @in, $module, "path=kinds-$format", 'fsync:=false');
	is(scalar(lines("kinds-$format")), 121, 'a line for each');
}
my @raw = lines('kinds-raw');
is_deeply([ @raw[ 1, 2 ] ], [ 'null', 'null' ], 'without data: null');
is(length $raw[3], length($raw[4]) + 16 * 1024 * 1024 - 200, 'and one with 16 MB');

$run = harness_ok('data that is no line', '--messages', 100, '--keys', 0, '--line-feed', 30,
	'--log', "$directory/unfit.log", @in, $module, 'path=unfit');
is($run->{count}{permanent}, 1, 'is permanent');
my @results = map { [ (split ' ')[ 0, 2 ] ] } split /\n/, slurp_file("$directory/unfit.log");
is($results[29][1], 'permanent', 'the one that it is');
is(join(' ', map { $_->[1] } @results[ 0 .. 28 ]), join(' ', ('ok') x 29), 'those before it are written');
is($run->{count}{returned}, 70, 'those after it are returned');
is_deeply([ positions('unfit') ], [ 1 .. 29, 31 .. 100 ], 'and written afterwards');

# ---- resume ----

is(resume_of('lines'), 1000, 'resume() says the position of the last line');
harness_ok('from there', '--resume', '--messages', 1200, @in, $module, 'path=lines');
is_deeply([ positions('lines') ], [ 1 .. 1200 ], 'nothing is there twice');
harness_ok('replays', '--resume', '--messages', 1200, '--replay', 40, @in, $module,
	'path=lines');
is((positions('lines'))[-1], 40, 'are appended');
is(resume_of('lines'), 1200, 'and do not change what resume() says');
harness_ok('lines in order after replays',
	'--resume', '--messages', 1300, @in, $module, 'path=lines');
is(resume_of('lines'), 1300, 'count again');
harness_ok('a test message', '--resume', '--test', '--messages', 1300, @in, $module,
	'path=lines');
is(resume_of('lines'), 1300, 'does not count');

# Replayed positions can also be above the others.
harness_ok('replays only', '--test', '--messages', 10, '--first', 1, '--replay', 10, @in,
	$module, 'path=high');
append('high', join '', map { '{"sequence":"' . sprintf('%020d', $_) . "\"}\n" } 50, 60);
is(resume_of('high'), 10, 'what comes after replays is not believed without a new state');

$run = harness_ok('without fsync', '--messages', 1400, @in, $module, 'path=lines',
	'fsync:=false');
is($run->{value}{resume_after}, 0, 'nothing is known');
is(resume_of('lines'), 1300, 'nor afterwards of what may have been lost');
$run = harness_ok('raw messages', '--first', 1000, '--format', 'raw', @in, $module, 'path=few');
is($run->{value}{resume_after}, 0, 'have no positions');
is(resume_of('few'), 300, 'nor does their position count afterwards');
is(harness_ok('topics', @in, $module, 'path=resume-{topic}')->{value}{resume_after}, 0,
	'nothing is known with many files');
is(resume_of('few', '--directory', "$directory/resume-new"), -1,
	'it is an outage if the file cannot be looked at');

for my $last (
	'{"sequence":"00000000000000000077"',
	'{"data":{"sequence":"00000000000000000077"}}',
	'{"data":"\"sequence\":\"00000000000000000077\""}',
	'{"x":"sequence","y":"00000000000000000077"}',
	'{"sequence":77}', '{"sequence":"-77"}', '{"sequence":"99999999999999999999"}',
	'{"sequence":"00000000000000000077","sequence":"00000000000000000078"}',
	'{"sequence":"00000000000000000077"}}', '["sequence","00000000000000000077"]', 'x', '')
{
	unlink glob "$directory/odd*";
	harness('--messages', 5, @in, $module, 'path=odd');
	append('odd', "$last\n");
	is(resume_of('odd'), 0, "no position in $last");
}
for my $last (
	'{"sequence" : "00000000000000000077"}',
	'{"data":{"sequence":"00000000000000000099"}, "a":[{"b":"}"}], "sequence":"00000000000000000077", "z":"\\\\"}'
  )
{
	unlink glob "$directory/odd*";
	harness('--messages', 5, @in, $module, 'path=odd');
	append('odd', "$last\n");
	is(resume_of('odd'), 77, "a position in $last");
}
unlink "$directory/few.state";
is(resume_of('few'), 0, 'nothing is known without the state');

# ---- crashes ----

append('odd', '{"sequence":"00000000000000000078"');
is(resume_of('odd'), 77, 'a part of a line does not count');
unlike(text('odd'), qr/78/, 'and is removed');
append('odd', ('x' x 100_000) . "\n" . ("\0" x 100_000) . "\n{\"sequence\":\"79\"}\n");
is(resume_of('odd'), 0, 'zeroes, as a stop of the machine leaves them, are no lines');
is((lines('odd'))[-1], 'x' x 100_000, 'and are removed with all behind them');
append('odd', 'y');
truncate "$directory/odd", 3;
is(resume_of('odd'), 0, 'a file of less than a line');
is(-s "$directory/odd", 0, 'is empty then');

harness('--kill-at', 500, '--messages', 1000, @in, $module, 'path=killed');
my $before = (positions('killed'))[-1];
append('killed', '{"specversion":"1.0","seq');
$run = harness_ok('after a kill', '--resume', '--messages', 1000, @in, $module, 'path=killed');
is($run->{value}{resume}, $before, 'goes on where the lines end');
is_deeply([ positions('killed') ], [ 1 .. 1000 ], 'nothing is lost or there twice');

# At any moment, then: it is killed while it writes long lines.
for my $round (1 .. 5)
{
	my $size = -s "$directory/any" // 0;
	my $writer = start_harness('--resume', '--messages', 100_000, '--size', 100_000, @in, $module,
		'path=any');
	ok(wait_for_harness($writer, sub { (-s "$directory/any" // 0) > $size + 1_000_000 }),
		"round $round: it writes");
	$writer->{process}->signal('KILL');
	is(finish_harness($writer)->{status}, 'signal 9', 'and is killed');
}
$run = harness_ok('after kills', '--resume', '--messages', 10, '--step', 100_000, @in, $module,
	'path=any');
my @any = positions('any');
my $known = $run->{value}{resume};
is_deeply([ @any[ 0 .. $known - 1 ] ], [ 1 .. $known ],
	'everything is there up to what resume() says, once');

# ---- another writer ----

my $first = start_harness('--pause-at', 100, '--messages', 200, @in, $module, 'path=shared');
ok(wait_for_harness($first, sub { $first->{out} =~ /^paused/m }), 'one writes');
my $second = harness_left('another cannot', '--give-up', 1, @in, $module, 'path=shared');
is($second->{count}{ok}, undef, 'it delivers nothing');
ok($second->{count}{retry_sink} > 0, 'which is an outage');
$first->{in} = "\n";
is(finish_harness($first)->{status}, 0, 'the first goes on');
is_deeply([ positions('shared') ], [ 1 .. 200 ], 'and the lines are its own');

# ---- the file is moved or truncated by others ----

for my $how ('moved', 'truncated')
{
	my $writer = start_harness('--pause-at', 100, '--messages', 200, '--log', "$directory/$how.log",
		@in, $module, "path=$how");
	ok(wait_for_harness($writer, sub { scalar(lines($how)) == 100 }), "to be $how");
	if ($how eq 'moved') { rename "$directory/moved", "$directory/elsewhere" }
	else { truncate "$directory/truncated", 0 }
	$writer->{in} = "\n";
	is(finish_harness($writer)->{status}, 0, "the file is $how");
	is_deeply([ positions($how) ], [ 101 .. 200 ], 'the others are in a new one');
}
is_deeply([ positions('elsewhere') ], [ 1 .. 100 ], 'what was moved stays as it was');

# ---- rotation ----

harness_ok('rotation by size', '--messages', 100, '--batch', 10, @in, $module, 'path=by-size',
	'rotate_bytes:=10000');
my @rotated = names('by-size.0');
ok(@rotated > 3, 'makes several files');
is_deeply([ map { positions($_) } @rotated, 'by-size' ], [ 1 .. 100 ], 'everything is in them');
is_deeply([ map { (positions($_))[0] } @rotated ], [ map { 0 + s/.*\.//r } @rotated ],
	'a name ends with the position of the first line');
is(scalar(grep { length text($_) > 10000 } @rotated), 0, 'none has more than its size');
like($rotated[0], qr/^by-size\.00000000000000000001$/, 'positions have 20 digits');

harness_ok('keep', '--messages', 100, '--batch', 10, @in, $module, 'path=keep',
	'rotate_bytes:=5000', 'keep:=2');
append('keep.other', 'x');
@rotated = names('keep.0');
is(scalar @rotated, 2, 'two are left');
my @kept = map { positions($_) } @rotated, 'keep';
is_deeply(\@kept, [ $kept[0] .. 100 ], 'the last ones');
harness_ok('more of it', '--resume', '--messages', 200, '--batch', 10, @in, $module, 'path=keep',
	'rotate_bytes:=5000', 'keep:=1');
is(scalar(names('keep.0')), 1, 'one is left');
ok(-e "$directory/keep.other", 'what is not ours stays');

harness_ok('the same again', '--messages', 100, '--batch', 10, @in, $module, 'path=by-size',
	'rotate_bytes:=10000');
ok(-e "$directory/by-size.00000000000000000001.1", 'does not replace files of that name');
is_deeply([ sort { $a <=> $b } map { positions($_) } names('by-size.0'), 'by-size' ],
	[ sort { $a <=> $b } 1 .. 100, 1 .. 100 ], 'nothing is lost');

my $old = start_harness('--pause-at', 10, '--batch', 10, '--messages', 20, @in, $module,
	'path=by-time', 'rotate_seconds:=1');
ok(wait_for_harness($old, sub { -e "$directory/by-time.00000000000000000001" }),
	'rotation by time does not wait for a message');
$old->{in} = "\n";
is(finish_harness($old)->{status}, 0, 'it goes on');
is_deeply([ map { positions($_) } names('by-time.0'), 'by-time' ], [ 1 .. 20 ],
	'everything is in the files');

# ---- topics ----

harness_ok('topics', '--keys', 100, '--messages', 2000, '--topic', 'orders/{key}', @in, $module,
	'path=topics/{topic}.ndjson', 'fsync:=false');
is(scalar(names('topics/')), 200, 'have files of their own, with their states');
is_deeply([ positions('topics/orders%2Fkey-7.ndjson') ], [ map { 8 + 100 * $_ } 0 .. 19 ],
	'in order, though not all can be open at a time');
harness_ok('topics that could leave', '--messages', 10, '--topic', '../../{key}', @in, $module,
	'path=topics/{topic}');
is(scalar(positions('topics/%2E.%2F..%2Fkey-3')), 1, 'stay inside');
$run = harness_ok('a topic that is too long', '--messages', 5, '--topic', 'x' x 300, @in, $module,
	'path=topics/{topic}');
is($run->{count}{permanent}, 5, 'is permanent');

# ---- what is in the way ----

make_path("$directory/outside", "$directory/inside/directory");
symlink "$directory/outside", "$directory/inside/link" or die $!;
symlink "$directory/outside/file", "$directory/inside/file" or die $!;
IPC::Run::run([ 'mkfifo', "$directory/inside/fifo" ]) or die 'mkfifo';
for my $path ('link/new', 'file', 'directory', 'fifo')
{
	my $log = "$directory/in-the-way.log";

	$run = harness_left("not to $path", '--give-up', 1, '--log', $log, '--directory',
		"$directory/inside", $module, "path=$path");
	is($run->{count}{ok}, undef, 'nothing is delivered');
	ok($run->{count}{fatal} > 0, 'it is fatal');
	like(slurp_file($log), qr/could not open|not a regular file/, 'and the detail says why');
}
is_deeply([ glob "$directory/outside/*" ], [], 'nothing was written behind a link');

$run = harness_left('a directory that is not there', '--give-up', 1, '--log',
	"$directory/missing.log", '--directory', "$directory/missing", $module, 'path=x');
ok($run->{count}{retry_sink} > 0, 'is an outage');
like(slurp_file("$directory/missing.log"), qr/No such file or directory/,
	'with the text of the error');

# ---- a full disk ----

# The limit of a file's size stands for it: a write is cut there, the next one fails.
my $limited = "$directory/limited.log";
my $harness = "$FindBin::Bin/../tools/sink_harness";
my @limited = ($harness, '--give-up', 2, '--messages', 1000, '--log', $limited, @in, $module,
	'path=full');
my $out = '';
IPC::Run::run([ 'bash', '-c', 'ulimit -f 100; exec "$@"', '-', @limited ], '>', \$out);
is($? >> 8, 2, 'a full disk is an outage') or diag($out);
like(slurp_file($limited), qr/ retry_sink \d+ 1 .*File too large/, 'of all, without an attempt');
my @full = positions('full');
is_deeply(\@full, [ 1 .. @full ], 'nothing of what did not fit is in the file');
is(scalar @full % 100, 0, 'it has whole batches');
is(resume_of('full'), scalar @full, 'and resume() says so');
harness_ok('when there is room again', '--resume', '--messages', 1000, @in, $module,
	'path=full');
is_deeply([ positions('full') ], [ 1 .. 1000 ], 'all are there, once');

# ---- the process ----

harness_ok('destroyed with messages in flight', '--destroy-at', 500, @in, $module,
	'path=destroyed');
my ($symbols) = run_command([ 'nm', '-D', '--defined-only', $module ]);
like($symbols, qr/^\S+ T evs_sink_init$/, 'the module exports one symbol');

done_testing();
