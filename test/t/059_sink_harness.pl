# The conformance harness finds what modules do wrong: each check of it fails for a
# module that is told to break the rule.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsSink;
use PostgreSQL::Test::Utils;
use Test::More;

my $double = test_module('double');
my $gated = test_module('gated');
my $directory = PostgreSQL::Test::Utils::tempdir();
my @in = ('--directory', $directory);

# The harness says so, in these words.
sub finds
{
	my ($name, $words, @arguments) = @_;
	my $run = harness('--give-up', 1, @arguments);

	is($run->{status}, 1, "$name: a violation");
	like(join("\n", @{ $run->{violations} }), $words, "$name: which one");
	return;
}

# The lines that the double has recorded, as [position, attempt, flags, key].
sub record
{
	return map { [ (split ' ')[ 0 .. 3 ] ] } split /\n/, slurp_file("$directory/$_[0]");
}

# ---- what is right ----

for my $module ($double, $gated)
{
	my $run = harness_ok("a module that does what it should: $module",
		'--edge', '--test', '--replay', 10, '--messages', 100, @in, $module);
	is($run->{count}{ok}, 111, 'a result for each');
	is($run->{value}{delivered}, 111, 'and each is delivered');
}
harness_ok('few are accepted at a time', '--max', 1, $double, 'accept:=3', 'order=reversed');
my $run = harness_ok('resume() that needs time', '--resume', $double, 'resume:=600',
	'resume_later:=3');
is($run->{count}{ok}, 400, 'the others are sent');

# ---- what is sent again ----

for my $module ($double, $gated)
{
	my $name = $module =~ s/.*_sink_(\w+)\.so/$1/r;

	$run = harness_ok("$name: results of all classes",
		'--keys', 5, '--messages', 100, @in, $module, 'delay:=1', "record=$name",
		'script=7:retry*2,11:permanent,23:outage,key=key-3:retry*2');
	is($run->{value}{parked}, 1, 'one is parked');
	is($run->{value}{delivered}, 99, 'all others are delivered');
	my %attempt = map { $_->[0] => $_->[1] } record($name);
	is($attempt{7}, 3, 'attempts are counted');
	is($attempt{23}, 1, 'an outage is no attempt');

	# Position 7 failed, which is of this key: what follows comes again, in order.
	my @key = map { $_->[0] } grep { $_->[3] eq 'key-1' } record($name);
	my ($seven) = grep { $key[$_] == 7 } reverse 0 .. $#key;
	my $last = 0;
	is_deeply([ map { $_ > $last ? $last = $_ : () } @key[ $seven .. $#key ] ],
		[ grep { $_ % 5 == 2 && $_ >= 7 } 1 .. 100 ], 'a key is sent again from the failure on');
}
$run = harness_ok('what comes after a failure is returned', '--messages', 100, '--batch', 50,
	'--keys', 5, @in, $double, 'delay:=1', 'returns:=true', 'record=returned',
	'script=7:retry,60:permanent');
ok($run->{count}{returned} > 0, 'some are');
is($run->{value}{delivered}, 99, 'all are delivered but one');
is_deeply([ map { $_->[0] } grep { $_->[3] eq 'key-1' } record('returned') ],
	[ grep { $_ % 5 == 2 } 1 .. 100 ], 'in order, once');
my @gated = grep { $_->[3] eq 'key-1' } record('gated');
is_deeply([ map { $_->[0] } @gated ], [ grep { $_ % 5 == 2 } 1 .. 100 ],
	'one of a key at a time: never out of order');
$run = harness_ok('too many attempts', '--attempts', 3, '--messages', 10, '--keys', 0, $double,
	'script=4:retry*0');
is($run->{count}{retry}, 3, 'three of them');
is($run->{value}{parked}, 1, 'park a message');
$run = harness_left('an outage without end', '--give-up', 1, $double, 'script=all:outage*0');
is($run->{value}{delivered}, 0, 'delivers nothing');
$run = harness_left('a fatal error', $double, 'script=5:fatal');
is($run->{value}{fatal}, 'as the script says', 'ends the run');

# ---- secrets ----

harness_ok('a secret that changes', '--messages', 1000, '--secret', 'pw=first', '--rotate',
	'500:pw=second', @in, $double, 'secret@=pw', 'record=secrets');
is_deeply([ slurp_file("$directory/secrets") =~ /^secret (\w+)$/mg ], [ 'first', 'second' ],
	'the module sees the new value');
$ENV{EVS_TEST_SECRET} = 'from outside';
harness_ok('a secret of the environment', @in, $double, 'secret@=EVS_TEST_SECRET',
	'record=environment');
like(slurp_file("$directory/environment"), qr/^secret from outside$/m, 'has its value');

# ---- what is wrong ----

finds('a result is lost', qr/1 messages have no result/, $double, 'misbehave=lost@57');
finds('a result comes twice', qr/message at 57 has more than one result/, $double,
	'misbehave=twice@57');
finds('a result of nothing', qr/result of an unknown message/, $double, 'misbehave=unknown@57');
finds('a class that is none', qr/result of class 99/, $double, 'misbehave=class@57');
finds('a message is read after its result', qr/used after its result/, $double,
	'misbehave=touch@57');
finds('a message is written to', qr/has written into a message/, $double, 'misbehave=write@57');
finds('a message is returned without a reason', qr/at 57 is returned, but none before it/,
	$double, 'misbehave=return@57');
finds('a detail is missing', qr/class retry has no detail/, $double, 'misbehave=silent@57',
	'script=57:retry');
finds('a secret is told', qr/detail has the value of secret "pw"/, '--secret', 'pw=hush-hush',
	$double, 'secret@=pw', 'misbehave=tell@57', 'script=57:retry');
finds('a secret is told to the log', qr/log\(\) has the value of secret "pw"/, '--secret',
	'pw=hush-hush', $double, 'secret@=pw', 'misbehave=log@57');
finds('a thread that was not announced', qr/there is a thread, without CAP_THREADS/, $double,
	'misbehave=thread@57');
finds('a handler of signals', qr/signal \d+ has another handler/, $double,
	'misbehave=signal@57');
finds('a signal that is blocked', qr/signal \d+ is blocked or unblocked/, $double,
	'misbehave=block@57');
finds('another current directory', qr/current directory is another/, $double,
	'misbehave=chdir@57');
finds('another umask', qr/umask is another/, $double, 'misbehave=umask@57');
finds('a descriptor that stays open', qr/leaves descriptors open/, $double, 'leak:=true');
finds('nothing to wait for', qr/nothing to wait for/, $double, 'misbehave=lost@57');
finds('busy waiting', qr/called \d+ times for nothing/, '--give-up', 5, $double,
	'delay:=3000', 'spin:=true', '--messages', 10);
finds('a call that takes long', qr/progress\(\) took \d+ ms/, '--max-call', 50, $double,
	'misbehave=block_call@57');
finds('a claim of what was not sent', qr/resume\(\) says 5000, but not more than 1000/, $double,
	'resume:=5000');
finds('a bad setting is accepted', qr/record=x is accepted/, '--bad', 'record=x', $double);
finds('good settings are refused', qr/the settings are refused: .*"delay"/, $double, 'delay=x');
finds('settings that should be refused', qr/the settings are accepted/, '--invalid', $double);
finds('open() fails', qr/open\(\) fails: no luck/, $double, 'fail_open=no luck');

is(harness($double, 'misbehave=crash@57')->{status}, 'signal 11', 'a crash shows');
is(harness('--destroy-at', 500, $double, 'delay:=1000')->{status}, 0,
	'messages in flight when it ends are no violation');
is(harness('/nonexistent.so')->{status}, 3, 'no module');
is(harness('--frequency', 7, $double)->{status}, 3, 'no such option');

done_testing();
