# The sink "nats" against a real server: whatever is killed or stopped, and
# whenever, each key's messages arrive in order, none is missing, and none is
# there twice.
#
# The relay's part is played by sink_harness.  What has arrived is read by a client
# of its own, in Perl, through a pull consumer.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsBroker;
use EvsTest 'poll';
use IO::Socket::INET;
use PostgreSQL::Test::Utils;
use Test::More;

my ($program) = grep { -x } map { "$_/nats-server" } split(/:/, $ENV{PATH}), '/usr/sbin';
plan skip_all => 'nats-server is not installed' unless $program;
my $module = sink_module('nats') or plan skip_all => 'the sink nats was not built';
my $dir = PostgreSQL::Test::Utils::tempdir();

# ---- the server ----

my %server = (port => -1);

# Start one; its port is free if it is -1.  Returns the process and the port.
sub launch
{
	my ($port, @options) = @_;

	unlink glob "$dir/*.ports";
	my $pid = start_program($program, '-a', '127.0.0.1', '-p', $port, '--ports_file_dir', $dir, @options);
	poll(sub {
		my ($file) = glob "$dir/*.ports" or return;
		return slurp_file($file) =~ m{://127\.0\.0\.1:(\d+)} && ($port = $1);
	}) or die 'the server does not start';
	return ($pid, $port);
}

# The one with JetStream; its port and its data stay the same.
sub start_server
{
	my (@options) = @_;

	@server{qw(pid port)} = launch($server{port}, '-js', '-sd', "$dir/js", '-l', "$dir/server.log", @options);
	poll(sub { eval { api('INFO'); 1 } }) or die 'JetStream does not start';
	return;
}

# ---- a client ----

# Members of CONNECT.
my $credentials = '';

# Send a request and take $n answers, or fewer if a status comes: [headers, payload, subject]
sub request
{
	my ($subject, $body, $n, $headers) = @_;
	my $size = length $body;
	my $nats = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$server{port}") or die "no server\n";
	my @answers;

	local $SIG{ALRM} = sub { die "no answer\n" };
	alarm 180;
	<$nats>;
	syswrite $nats, 'CONNECT {"verbose":false,"headers":true,"no_responders":true'
	  . "$credentials}\r\nSUB inbox 1\r\n"
	  . ($headers ? "HPUB $subject inbox " . length($headers) . ' ' . (length($headers) + $size) : "PUB $subject inbox $size")
	  . "\r\n" . ($headers // '') . "$body\r\n";
	while (@answers < $n)
	{
		my $line = <$nats> // die "lost\n";
		die $line if $line =~ /^-ERR/;
		syswrite $nats, "PONG\r\n" if $line =~ /^PING/;
		next unless $line =~ /^(H?)MSG (.*)\r\n/;
		my ($has_headers, @words) = ($1, split / /, $2);
		read $nats, my $payload, $words[-1] + 2;
		substr $payload, -2, 2, '';
		my $headers = $has_headers ? substr $payload, 0, $words[-2], '' : '';
		last if $headers =~ m{^NATS/1\.0 [45]};
		push @answers, [ $headers, $payload, $words[0] ];
	}
	alarm 0;
	return @answers;
}

sub api
{
	my ($what, $body) = @_;
	my ($answer) = request("\$JS.API.$what", $body // '', 1) or die "no JetStream\n";

	return $answer->[1];
}

sub new_stream
{
	my ($name, $more) = @_;
	my $answer = api("STREAM.CREATE.$name",
		qq({"name":"$name","subjects":["$name.>"],"retention":"limits","discard":"old","storage":"file")
		. ($more // '') . '}');

	die $answer if $answer =~ /"error"/;
	return;
}

sub count
{
	my ($name) = @_;

	return api("STREAM.INFO.$name") =~ /"messages":(\d+)/ ? $1 : die;
}

# All messages of a stream: hashes of their headers, in lower case, with {data} and {subject}.
sub received
{
	my ($name) = @_;
	my $count = count($name) or return;
	my $answer = api("CONSUMER.CREATE.$name",
		qq({"stream_name":"$name","config":{"ack_policy":"none","deliver_policy":"all","replay_policy":"instant"}}));
	my ($consumer) = $answer =~ /"name":"(\w+)"/ or die $answer;

	return map {
		my ($headers, $data, $subject) = @$_;
		+{ (map { /^([^:]+): ?(.*)/ ? (lc $1 => $2) : () } split /\r\n/, $headers),
			data => $data, subject => $subject };
	} request("\$JS.API.CONSUMER.MSG.NEXT.$name.$consumer", qq({"batch":$count,"no_wait":true}), $count);
}

# Each once, from $first to $last, and in order for each key; the key is the last
# word of the subject.
sub is_whole
{
	my ($name, $stream, $first, $last) = @_;
	my (%seen, %highest, @wrong);

	for my $message (received($stream))
	{
		my $position = $message->{'evstore-position'};
		my ($key) = $message->{subject} =~ /\.([^.]+)$/;

		push @wrong, "$position is there twice" if $seen{$position}++;
		push @wrong, "$position comes after $highest{$key}" if ($highest{$key} // 0) >= $position;
		$highest{$key} = $position;
	}
	push @wrong, map { "$_ is missing" } grep { !$seen{$_} } $first .. $last;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(!@wrong && keys %seen == $last - $first + 1, $name);
	diag(join "\n", @wrong[ 0 .. ($#wrong < 9 ? $#wrong : 9) ]) if @wrong;
	return;
}

sub settings
{
	my ($stream, @more) = @_;

	return ("--topic=$stream.{key}", $module, "url=nats://localhost:$server{port}", "stream=$stream", @more);
}

# What comes of messages that are not delivered: the harness runs until it has said so.
# If the stream cannot be asked where to go on, that is not before it has given up once.
sub results_in
{
	my ($pattern, $name, @arguments) = @_;
	my $run = start_harness('--give-up=180', '--retry-delay=100', @arguments);

	poll(sub { -e $run->{log} && slurp_file($run->{log}) =~ $pattern || !$run->{process}->pumpable });
	$run->{process}->kill_kill;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like(-e $run->{log} ? slurp_file($run->{log}) : '', $pattern, $name);
	return;
}

# Until the window for duplicates has closed over all that is in the stream: the
# server has forgotten a probe that came last.
sub wait_for_window
{
	my ($subject) = @_;
	my $publish = sub {
		my $headers = "NATS/1.0\r\nNats-Msg-Id: probe\r\n\r\n";
		my ($ack) = request($subject, 'probe', 1, $headers);
		return $ack->[1];
	};

	$publish->();
	return poll(sub { $publish->() !~ /duplicate/ });
}

# ---- one after the other ----

start_server();
for my $expect (qw(none sequence subject))
{
	my $stream = "plain-$expect";
	new_stream($stream);
	my $run = harness('--messages=2000', settings($stream, "expect=$expect"));
	is($run->{status}, 0, "$expect: all delivered, no violation") or diag($run->{out});
	cmp_ok($run->{resume_after}, '>', 0, "$expect: the stream tells the position");
	$run = harness('--messages=2000', settings($stream, "expect=$expect"));
	is($run->{count}{duplicate}, 2000, "$expect: the same again are duplicates") or diag($run->{out});
	is(count($stream), 2000, "$expect: and not stored");
}

for my $expect (qw(sequence subject))
{
	my $stream = "window-$expect";
	my @options = ('--keys=1', '--messages=50', settings($stream, "expect=$expect"));

	new_stream($stream, ',"duplicate_window":100000000');
	harness(@options);
	ok(wait_for_window("$stream.probe"), "$expect: the window for duplicates has closed");
	my $before = count($stream);
	my $run = harness('--first=50', @options);
	is($run->{count}{duplicate}, 1, "$expect: own messages are recognised without it")
	  or diag($run->{out});
	is(count($stream), $before + 49, "$expect: and not stored again");
}

# What others write is not a reason to stop, as long as they let us have our turn.
new_stream('foreign');
my $run = start_harness('--messages=3000', '--rate=6000', settings('foreign', 'expect=sequence'));
my $foreign = 0;
poll(sub {
	request('foreign.x.other', '', 1) if $foreign < 20 && count('foreign') > $foreign * 100;
	return ++$foreign > 20;
});
finish_harness($run);
is($run->{status}, 0, 'sequence: another writer is stepped around') or diag($run->{out});

# ---- what a message looks like ----

new_stream('look');
harness('--messages=1', '--headers=1', '--format=cloudevents-binary', settings('look'));
harness('--messages=1', '--first=2', '--headers=0', '--format=cloudevents', settings('look'));
harness('--messages=1', '--first=3', '--headers=0', '--format=raw', settings('look'));
harness('--messages=1', '--first=4', '--test', '--replay=1', settings('look'), 'subject=look.x');
my ($binary, $structured, $raw, $test, $last) = received('look');
is($binary->{'nats-msg-id'}, $binary->{'ce-id'}, 'binary: the event id is the message id');
is($binary->{'ce-specversion'}, '1.0', 'binary: attributes are headers');
like($binary->{'ce-datacontenttype'}, qr{^application/}, 'binary: the content type is an attribute');
ok(!exists $binary->{'content-type'}, 'binary: and not a header of its own');
is($binary->{'evstore-relay'}, 'harness', 'the relay is named');
is($structured->{'content-type'}, 'application/cloudevents+json', 'structured: the content type');
like($structured->{data}, qr/^\{"specversion":"1\.0"/, 'structured: the event is the payload');
ok(!(grep { /^ce-/ } keys %$raw), 'raw: no attributes');

is($test->{'evstore-test'}, 'true', 'a test message says so');
ok(!exists $test->{'evstore-position'}, 'and has no position');
is($last->{'evstore-settled'}, 3, 'a message tells what is settled before it');

# ---- refused messages and streams ----

new_stream('edge');
$run = harness('--edge', '--messages=50', settings('edge'));
is($run->{status}, 0, 'odd messages: no violation') or diag($run->{out});
like($run->{results}, qr/^3 \S+ permanent 0 1 .*max_payload/m, 'more than max_payload is parked');
like($run->{results}, qr/^5 \S+ permanent 0 1 the subject has/m, 'a topic that is no subject is parked');

new_stream('small', ',"max_msg_size":300');
$run = harness('--messages=2', '--size=1000', settings('small'));
like($run->{results}, qr/permanent 10054 /, 'more than the stream takes is parked');

api('STREAM.CREATE.full', '{"name":"full","subjects":["full.>"],"max_msgs":10,"discard":"new"}');
$run = harness('--messages=20', '--keys=0', '--attempts=2', settings('full', 'subject=full.x'));
is($run->{count}{ok}, 10, 'a full stream: what fits is stored');
like($run->{results}, qr/ retry 10077 /, 'a full stream: the others are tried again');

for (
	[ '--topic=nothing', 'stream=plain-none', qr/ retry_sink 503 /, 'no stream for the subject: an outage' ],
	[ '--topic=plain-none.x', 'stream=small', qr/ fatal 10060 /, 'another stream than expected: fatal' ])
{
	my ($name, $pattern) = (pop @$_, pop @$_);
	results_in($pattern, $name, '--messages=3', $module, "url=nats://127.0.0.1:$server{port}", @$_);
}
results_in(qr/ retry_sink 10059 /, 'no such stream: an outage', '--give-up=20', '--messages=3', '--topic=x', $module,
	"url=nats://127.0.0.1:$server{port}", 'expect=sequence', 'stream=none');

# ---- settings ----

my @good = ('--invalid', $module, "url=127.0.0.1:$server{port}", 'subject=x');
for (
	[ 'url=nats://user@host', qr/"url"/ ],
	[ 'servers.0=h', qr/exclude/ ],
	[ 'expect=sequence', qr/needs "stream"/ ],
	[ 'stream=a.b', qr/"stream"/ ],
	[ 'subject={type}', qr/"subject"/ ],
	[ 'subject=a.*', qr/"subject"/ ],
	[ 'subject=$JS.API.x', qr/"subject"/ ],
	[ 'password=text', qr/secret/ ],
	[ 'user=u', qr/belong together/ ],
	[ 'tls.key_file=x', qr/cert_file/ ],
	[ 'nkey@=x', qr/nkey/ ],
	[ '--deny=127.0.0.1', qr/not allowed/ ],
	[ '--format=cloudevents-batch', qr/format/ ])
{
	my ($what, $pattern) = @$_;
	my @arguments = $what =~ /^--/ ? ($what, @good) : (@good[ 0, 1, 2 ], $what =~ /^(url|subject)/ ? () : 'subject=x', $what);
	@arguments = grep { $_ ne $good[2] } @arguments if $what =~ /^url/;
	$run = harness(@arguments);
	like($run->{out}, $pattern, "refused: $what");
}

# The name is allowed, but not where it leads.
results_in(qr/retry_sink 0 1 .*not allowed/, 'the address of a name is checked, too',
	'--messages=1', '--deny=127.0.0.1', '--deny=::1', '--topic=x', $module, "url=nats://localhost:$server{port}");

# ---- killed, stopped, broken ----

for my $expect (qw(none sequence subject))
{
	my $n = 12000;

	my $stream = "kill-$expect";
	new_stream($stream);
	my @options = ("--messages=$n", '--rate=8000', '--timeout=1000', '--give-up=180', settings($stream, "expect=$expect"));
	$run = start_harness(@options);
	for my $share (0.2, 0.5, 0.7)
	{
		poll(sub { count($stream) >= $n * $share }) or die 'nothing arrives';
		end_program($server{pid});
		start_server();
	}
	finish_harness($run);
	is($run->{status}, 0, "$expect: the server is killed") or diag($run->{out});
	cmp_ok($run->{count}{retry_sink}, '>', 0, "$expect: which was an outage");
	is_whole("$expect: all there, once and in order", $stream, 1, $n);

	$stream = "stop-$expect";
	new_stream($stream);
	@options = ("--messages=$n", '--rate=8000', '--timeout=300', '--give-up=180', settings($stream, "expect=$expect"));
	$run = start_harness(@options);
	poll(sub { count($stream) >= $n / 3 }) or die 'nothing arrives';
	kill 'STOP', $server{pid};
	ok(poll(sub { slurp_file($run->{log}) =~ /retry_sink/ }),
		"$expect: a server that says nothing is an outage");
	kill 'CONT', $server{pid};
	finish_harness($run);
	is($run->{status}, 0, "$expect: the server is stopped for a while") or diag($run->{out});
	is_whole("$expect: all there, once and in order", $stream, 1, $n);

	$stream = "relay-$expect";
	new_stream($stream);
	@options = ("--messages=$n", '--rate=20000', settings($stream, "expect=$expect"));
	is(harness("--kill-at=5000", @options)->{status}, -9, "$expect: the relay is killed");
	$run = harness('--resume', '--destroy-at=8000', @options);
	is($run->{status}, 0, "$expect: resumed, and ended in the middle") or diag($run->{out});
	$run = harness('--resume', @options);
	is($run->{status}, 0, "$expect: resumed to the end") or diag($run->{out});
	cmp_ok($run->{submitted}, '<', $n, "$expect: not from the beginning");
	is_whole("$expect: all there, once and in order", $stream, 1, $n);
}

# The relay takes one result at a time, and submits more in between: what has failed with
# the connection, and what was submitted before that was known, go again in order.
for my $expect (qw(none sequence subject))
{
	my $n = 12000;
	my $stream = "slow-$expect";

	new_stream($stream);
	$run = start_harness("--messages=$n", '--rate=8000', '--give-up=180', '--max=1', '--retry-delay=0',
		settings($stream, "expect=$expect"));
	for my $share (0.2, 0.6)
	{
		poll(sub { count($stream) >= $n * $share }) or die 'nothing arrives';
		end_program($server{pid});
		start_server();
	}
	finish_harness($run);
	is($run->{status}, 0, "$expect, one result at a time: the server is killed") or diag($run->{out});
	is_whole("$expect, one result at a time: all there, once and in order", $stream, 1, $n);
}

# A server that refuses some messages for a moment, and takes what comes after them.  It
# is a double, since the moment cannot be chosen with the real one.
for (
	[ 'none', '1-40', 'a server that has just started' ],
	[ 'sequence', '1-40', 'a server that has just started' ],
	[ 'sequence', '100-139', 'a stream that is away for a moment' ])
{
	my ($expect, $refused, $name) = @$_;
	my $log = "$dir/double.log";
	my $pid = open my $double, '-|', $^X, "$FindBin::Bin/../tools/nats_server.pl", "--log=$log",
	  "--refuse=$refused" or die "fork: $!";
	my ($port) = <$double> =~ /^port=(\d+)$/ or die 'the double does not start';

	$run = harness('--messages=500', '--keys=1', '--batch=500', '--topic=x', $module,
		"url=nats://127.0.0.1:$port", 'stream=s', "expect=$expect");
	kill 'KILL', $pid;
	close $double;
	is($run->{status}, 0, "$expect, $name: all delivered") or diag($run->{out});
	like($run->{results}, qr/ retry_sink 503 /, "$expect, $name: some were refused");
	is(slurp_file($log), join('', map { "$_\n" } 1 .. 500), "$expect, $name: once and in order");
}

# A server that is to be shut down is left for the other one, and nobody notices.  Each
# has a stream of its own: together they have everything.
{
	my %first = %server;
	my %total;

	new_stream('lame');
	@server{qw(pid port)} = launch(-1, '-js', '-sd', "$dir/js2", '-l', "$dir/server2.log");
	poll(sub { eval { api('INFO'); 1 } }) or die 'JetStream does not start';
	new_stream('lame');
	my %second = %server;
	%server = %first;
	$run = start_harness('--messages=9000', '--rate=6000', '--topic=lame.{key}', $module,
		map { "servers.$_=nats://127.0.0.1:" . ($first{port}, $second{port})[$_] } 0, 1);
	poll(sub { count('lame') > 2000 }) or die 'nothing arrives';
	kill 'USR2', $first{pid};
	finish_harness($run);
	is($run->{status}, 0, 'lame duck mode: all delivered') or diag($run->{out});
	ok(!$run->{count}{retry_sink}, 'lame duck mode: no outage');
	%server = %second;
	my $rest = count('lame');
	cmp_ok($rest, '>', 0, 'lame duck mode: the other server is used');
	end_program($second{pid});
	end_program($first{pid});
	%server = %first;
	start_server();
	is(count('lame') + $rest, 9000, 'lame duck mode: each is there once');
}

# ---- credentials, permissions, encryption ----

end_program($server{pid});
my $auth = "$dir/auth.conf";
append_to_file($auth, <<'END');
authorization {
	users: [
		{user: all, password: "right password"},
		{user: blind, password: "right password", permissions: {publish: {deny: ["auth.>"]}}},
		{user: mute, password: "right password", permissions: {publish: {deny: ["$JS.API.>"]}}}
	]
}
END
$credentials = ',"user":"all","pass":"right password"';
start_server('-c', $auth);
new_stream('auth');

sub run_as
{
	my ($user, $password, @more) = @_;

	return harness('--messages=20', '--give-up=180', "--secret=pw=$password", settings('auth', "user=$user", 'password@=pw', @more));
}

is(run_as('all', 'right password')->{status}, 0, 'user and password');
results_in(qr/retry_sink 0 1 the server refuses: Authorization Violation/, 'a wrong password is an outage',
	'--messages=1', '--secret=pw=wrong password', '--topic=x', $module, "url=nats://localhost:$server{port}", 'user=all', 'password@=pw');
like(run_as('blind', 'right password')->{results}, qr/fatal 0 1 Permissions Violation for Publish/,
	'a forbidden subject is fatal');
is(run_as('mute', 'right password')->{resume}, 0, 'without rights on the API the position is not known');
like(run_as('mute', 'right password', 'expect=sequence')->{results}, qr/fatal 0 1 Permissions Violation/,
	'and nothing can be compared');

# ---- TLS ----

SKIP:
{
	skip 'openssl is not installed', 4 unless grep { -x "$_/openssl" } split /:/, $ENV{PATH};
	end_program($server{pid});
	$credentials = '';
	system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName=DNS:localhost "
		. "-keyout $dir/key.pem -out $dir/cert.pem 2>$dir/openssl.log") == 0 or die 'no certificate';
	# JetStream is off: that is said to those who are let in
	my (undef, $port) = launch(-1, '--tls', '--tlscert', "$dir/cert.pem", '--tlskey', "$dir/key.pem");
	my @tls = ('--messages=3000', '--topic=x', $module);

	for (
		[ 'localhost', "tls.ca_file=$dir/cert.pem", qr/ retry_sink 503 /, 'the certificate is accepted' ],
		[ '127.0.0.1', "tls.ca_file=$dir/cert.pem", qr/certificate is not accepted: .*mismatch/, 'it is for another name' ],
		[ 'localhost', 'tls:=true', qr/certificate is not accepted/, 'it is of nobody we know' ],
		[ 'localhost', "tls.ca_file=$dir/none.pem", qr/retry_sink 0 1 tls.ca_file: /, 'a file that is not there' ])
	{
		my ($host, $setting, $pattern, $name) = @$_;
		results_in($pattern, "TLS: $name", @tls, "url=nats://$host:$port", $setting);
	}
}

done_testing();
