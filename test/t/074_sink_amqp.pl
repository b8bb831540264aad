# The sink "amqp" against RabbitMQ, and against a server that does what RabbitMQ does not
# do when it is told to: whatever is killed, stopped or cut, and whenever, no message is
# missing, and each key's messages arrive in order.
#
# The relay's part is played by sink_harness and sink_send.  What has arrived is read by
# amqplib of npm.  EVS_AMQP_SEED chooses where connections are cut.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsBroker;
use EvsRabbit;
use EvsSend;
use EvsTest 'poll';
use PostgreSQL::Test::Utils;
use Test::More;

my $missing = EvsRabbit::missing();
plan skip_all => $missing if $missing;
my $module = sink_module('amqp') or plan skip_all => 'the sink amqp was not built';
my $dir = PostgreSQL::Test::Utils::tempdir();
my $tools = "$FindBin::Bin/../tools";
my $seed = $ENV{EVS_AMQP_SEED} // int rand 1e6;

note "EVS_AMQP_SEED=$seed";

# It takes some seconds: what needs no RabbitMQ comes first.
my $rabbit = EvsRabbit->new;

my @credentials = ('--secret=pw=right password', 'user=evs', 'password@=pw');

sub settings
{
	my ($exchange, @more) = @_;

	return ('--topic={key}', $module, "url=amqp://127.0.0.1:$rabbit->{port}", "exchange=$exchange", @credentials, @more);
}

# What comes of messages that are not delivered: the harness runs until it has said so.
sub results_in
{
	my ($pattern, $name, @arguments) = @_;
	my $run = start_harness('--give-up=180', '--retry-delay=100', @arguments);

	poll(sub { -e $run->{log} && slurp_file($run->{log}) =~ $pattern || !$run->{process}->pumpable }, 60);
	$run->{process}->kill_kill;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $results = -e $run->{log} ? slurp_file($run->{log}) : '';
	like($results, $pattern, $name);
	return $results;
}

# A program of test/tools that prints its port: the process, what it prints, its port.
sub start_tool
{
	my ($name, @arguments) = @_;
	my $pid = open my $out, '-|', $^X, "$tools/$name", @arguments or die "fork: $!";
	my ($port) = (readline($out) // '') =~ /^port=(\d+)$/ or die "$name does not start";

	return { pid => $pid, out => $out, port => $port };
}

sub end_tool
{
	my ($tool) = @_;

	kill 'KILL', $tool->{pid};
	close $tool->{out};
	return;
}

# ---- settings ----

my @good = ($module, 'url=amqp://127.0.0.1:1', 'exchange=x', @credentials);
{
	my $run = harness('--messages=1', '--give-up=1', (map { "--bad=$_" }
		'servers.0=h', 'vhost:=5', 'vhost=' . 'v' x 256, 'exchange:=true', 'exchange={type}', 'exchange=' . 'x' x 256,
		'routing_key=a}', 'routing_key=' . 'k' x 256, 'password=text', 'app_id=' . 'a' x 256, 'mandatory=yes', 'persistent:=1',
		'heartbeat:=-1', 'heartbeat:=65536', 'heartbeat=x', 'expiration_ms:=-1', 'priority:=256', 'tls=yes', 'tls.verify:=false',
		'tls.key_file=x', 'queue=x'), @good);
	is($run->{status}, 2, 'wrong settings are refused, and named') or diag($run->{out});
}
for (
	[ 'url=amqp://user@host', qr/"url"/ ],
	[ 'url=http://host', qr/"url"/ ],
	[ 'url=amqp://host/vhost', qr/"url"/ ],
	[ 'exchange', qr/"exchange" is missing/ ],
	[ 'user', qr/belong together/ ],
	[ 'exchange={topic', qr/"exchange" has a brace/ ],
	[ '--format=cloudevents-batch', qr/format/ ],
	[ '--deny=127.0.0.1', qr/not allowed/ ])
{
	my ($what, $pattern) = @$_;
	my ($name) = split /=/, $what;
	my $run = harness('--invalid', (grep { !/^\Q$name\E=/ } @good), $what =~ /=/ ? $what : ());
	like($run->{out}, $pattern, "refused: $what");
}
like(harness('--invalid', $module, 'url=amqp://h', 'exchange=')->{out}, qr/"user" and "password", or "tls.cert_file"/,
	'refused: nobody to sign in as');

# ---- a server that does as it is told ----

# Returns the run, and the lines of the double's log by their first word.
sub with_double
{
	my ($options, @arguments) = @_;
	my $double = start_tool('amqp_server.pl', "--log=$dir/double.log", @$options);
	my $run = harness('--topic=x', '--messages=200', '--in-flight=64', '--retry-delay=0', '--timeout=60000', @arguments, $module,
		"url=amqp://127.0.0.1:$double->{port}", 'exchange=', @credentials);
	my %log;

	end_tool($double);
	for my $line (split /\n/, slurp_file("$dir/double.log"))
	{
		my ($word, $rest) = split / /, $line, 2;
		push @{ $log{$word} }, $rest // '';
	}
	$run->{log_of} = \%log;
	return $run;
}

# All that was taken by the end, each for the first time in the order of its key; there are
# ten keys.  $without is a position that must not be there.
sub is_in_order
{
	my ($name, $taken, $n, $without) = @_;
	my (%seen, %highest, @wrong);

	for my $position (@$taken)
	{
		my $key = $position % 10;
		next if $seen{$position}++;
		push @wrong, "$position comes after $highest{$key}" if ($highest{$key} // 0) > $position;
		$highest{$key} = $position;
	}
	push @wrong, map { "$_ is missing" } grep { !$seen{$_} && $_ != ($without // 0) } 1 .. $n;
	push @wrong, "$without is there" if $without && $seen{$without};
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(!@wrong, $name) or diag(join "\n", @wrong[ 0 .. ($#wrong < 9 ? $#wrong : 9) ]);
	return;
}

for (
	[ 'one acknowledgement for many', '--ack=7' ],
	[ 'acknowledgements in another order', '--ack=-9' ],
	[ 'each byte for itself', '--chop' ],
	[ 'short frames', '--frame_max=4096', '--size=20000' ],
	[ 'no limit of frames, no heartbeats', '--frame_max=0', '--heartbeat=0', '--size=200000', '--messages=50' ])
{
	my ($name, @options) = @$_;
	my $run = with_double([ grep { !/^--(size|messages)/ } @options ], grep { /^--(size|messages)/ } @options);
	my $n = $run->{submitted};
	is($run->{status}, 0, "$name: all delivered") or diag($run->{out});
	is_deeply($run->{log_of}{violation}, undef, "$name: the client is right");
	is_deeply([ sort { $a <=> $b } @{ $run->{log_of}{taken} } ], [ 1 .. $n ], "$name: each once");
}

{
	my $run = with_double([ '--nack=20-40' ]);
	is($run->{status}, 0, 'refused messages: all delivered in the end') or diag($run->{out});
	is($run->{count}{retry}, 21, 'refused messages: each refusal is an attempt');
	$run = with_double([ '--return=30-60' ]);
	is($run->{status}, 0, 'returned messages: no violation') or diag($run->{out});
	is($run->{count}{permanent}, 31, 'returned messages are parked');
	is(scalar(() = $run->{results} =~ / permanent 312 1 returned: 312 NO_ROUTE, exchange "", routing key "x"$/mg), 31,
		'returned messages: with the reason');

	for (
		[ 406, 'channel', qr/^77 6 permanent 406 1 406 POISON$/m ],
		[ 541, 'channel', qr/^77 6 retry 541 5 541 POISON$/m ],
		[ 501, 'connection', qr/^77 6 retry 501 5 501 POISON$/m ])
	{
		my ($code, $what, $pattern) = @$_;
		$run = with_double([ "--poison=77:$code:$what", '--ack=5' ]);
		is($run->{status}, 0, "a message for which the $what is closed: no violation") or diag($run->{out});
		like($run->{results}, $pattern, "$what, $code: it is the one");
		is($run->{delivered}, 199, "$what, $code: the others are delivered");
		is_in_order("$what, $code: in order", $run->{log_of}{taken}, 200, 77);
		is_deeply($run->{log_of}{violation}, undef, "$what, $code: the client is right");
	}

	# what a channel is told to wait for ends with it
	$run = with_double([ '--poison=77:406:channel', '--flow', '--ack=5' ]);
	is($run->{delivered}, 199, 'a channel that takes no messages is closed: the next one takes them') or diag($run->{out});
	is($run->{count}{retry_sink} // 0, 0, 'and nobody waits');
}

# The same until it has said what comes of a message.
sub double_results_in
{
	my ($pattern, $name, $options, @arguments) = @_;
	my $double = start_tool('amqp_server.pl', "--log=$dir/double.log", @$options);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $results = results_in($pattern, $name, '--topic=x', '--messages=200', @arguments, $module,
		"url=amqp://127.0.0.1:$double->{port}", 'exchange=', @credentials);
	end_tool($double);
	return $results;
}

for ([ '320:connection', qr/ retry_sink 0 1 .*320 POISON/ ], [ '403:channel', qr/ retry_sink 403 1 403 POISON/ ],
	[ '404:channel', qr/ retry_sink 404 1 404/ ], [ '506:channel', qr/ retry_sink 506 1 506/ ])
{
	my ($what, $pattern) = @$_;
	my $results = double_results_in($pattern, "$what: an outage, with the reason", [ "--poison=77:$what" ]);
	unlike($results, qr/ permanent | retry /, "$what: not an attempt of a message");
}

# What no server should send ends the connection, and the next one works.
for my $garbage (qw(huge end short tag method channel type body header overrun half empty))
{
	my $run = with_double([ "--garbage=$garbage" ], '--messages=20');
	is($run->{status}, 0, "garbage, $garbage: all delivered") or diag($run->{out});
	is(scalar @{ $run->{log_of}{connection} }, 2, "garbage, $garbage: over another connection");
	like($run->{results}, qr/retry_sink 0 1 (the server (sends|acknowledges)|connection to)/, "garbage, $garbage: an outage");
}
for (
	[ '--greeting=version', qr/does not speak AMQP 0-9-1, but 0-9-2/ ],
	[ '--greeting=http', qr/not an AMQP server/ ],
	[ '--greeting=silent', qr/no connection to .* within 300 ms/ ],
	[ '--mechanisms=AMQPLAIN EXTERNAL', qr/by PLAIN, but by: AMQPLAIN EXTERNAL/ ],
	[ '--frame_max=100', qr/frames of 100 bytes/ ])
{
	my ($option, $pattern) = @$_;
	double_results_in(qr/ retry_sink 0 1 .*$pattern/, "$option: an outage", [ $option ], '--messages=1', '--timeout=300');
}

# The server wants nothing for a moment, or longer than a request may take.
for my $long (0, 1)
{
	my $double = start_tool('amqp_server.pl', "--log=$dir/block.log", '--block=100', "--unblock=$dir/unblock.$long");
	my $run = start_harness('--topic=x', '--messages=300', '--in-flight=64', '--give-up=180', '--timeout=' . ($long ? 200 : 60000),
		$module, "url=amqp://127.0.0.1:$double->{port}", 'exchange=', @credentials);
	poll(sub { slurp_file("$dir/block.log") =~ /^publish 100$/m });
	poll(sub { slurp_file($run->{log}) =~ /retry_sink/ }) if $long;
	append_to_file("$dir/unblock.$long", '');
	finish_harness($run);
	end_tool($double);
	is($run->{status}, 0, "blocked: all delivered in the end") or diag($run->{out});
	my @log = split /\n/, slurp_file("$dir/block.log");
	is(scalar(grep { /^connection/ } @log), 1, 'blocked: over the same connection');
	is_in_order('blocked: in order', [ map { /^taken (\d+)/ ? $1 : () } @log ], 300);
	if ($long) { like($run->{results}, qr/retry_sink 0 1 the server takes no messages: low on memory/, 'blocked for long: an outage'); }
	else { ok(!$run->{count}{retry_sink}, 'blocked for a moment: nobody notices'); }
}

# A message takes longer than a request may, but its parts do not.
{
	my $run = with_double([ '--slow=20' ], '--messages=1', '--size=24000000', '--timeout=6000');
	is($run->{status}, 0, 'a long message to a slow server') or diag($run->{out});
	ok(!$run->{count}{retry_sink}, 'is not given up');
}

# Heartbeats, both ways.
{
	my $double = start_tool('amqp_server.pl', "--log=$dir/beat.log", '--heartbeat=2', '--mute=40');
	my $run = start_harness('--topic=x', '--messages=60', '--batch=20', '--pause-at=20', '--give-up=180', '--timeout=120000',
		$module, "url=amqp://127.0.0.1:$double->{port}", 'exchange=', @credentials);
	wait_for_pause($run);
	ok(poll(sub { (() = slurp_file("$dir/beat.log") =~ /^heartbeat$/mg) >= 2 }), 'an idle connection is kept alive');
	go_on($run);
	poll(sub { slurp_file($run->{log}) =~ /retry_sink/ });
	$run->{process}->kill_kill;
	end_tool($double);
	like(slurp_file($run->{log}), qr/retry_sink 0 1 the server gives no sign of life/, 'a server without heartbeats is lost');
	is(scalar(() = slurp_file("$dir/beat.log") =~ /^connection$/mg), 1, 'and not before');
}

# ---- what a message looks like ----

$rabbit->install_client;
$rabbit->ready;
$rabbit->new_queue('look');
harness('--messages=1', '--headers=1', '--format=cloudevents-binary', settings('look'));
harness('--messages=1', '--first=2', '--headers=0', '--format=cloudevents', settings('look'));
harness('--messages=1', '--first=3', '--headers=0', '--format=raw', settings('look', 'persistent:=false', 'priority:=7',
	'expiration_ms:=3600000', 'app_id=shop', 'routing_key=fixed'));
harness('--messages=1', '--first=4', '--test', '--replay=1', settings('look', 'app_id='));
{
	my ($binary, $structured, $raw, $test, undef, $replay) = $rabbit->take('look');
	my $headers = $binary->{headers};

	is($binary->{messageId}, '00000001-0000-7000-8000-000000000001', 'the event id is the message id');
	is($headers->{cloudEvents_id}, $binary->{messageId}, 'binary: attributes are headers');
	is($headers->{cloudEvents_specversion}, '1.0', 'binary: with the version');
	ok(!exists $headers->{cloudEvents_datacontenttype}, 'binary: but not the content type');
	is($binary->{contentType}, 'application/json', 'binary: which is a property');
	is($binary->{type}, 'HarnessEvent', 'the type is a property');
	is($binary->{timestamp}, 1700000000, 'the time is in seconds');
	is($binary->{deliveryMode}, 2, 'messages are persistent');
	is($binary->{appId}, 'evstore', 'the application is named');
	is($binary->{key}, 'key-0', 'the topic is the routing key');
	is($headers->{'Evstore-Position'}, 1, 'the position goes along');
	is($headers->{'Evstore-Relay'}, 'harness', 'and the relay');
	is($headers->{'x-header-0'}, 'value 0', 'and headers of the application');
	is($structured->{contentType}, 'application/cloudevents+json', 'structured: the content type');
	like($structured->{content}, qr/^\{"specversion":"1\.0"/, 'structured: the event is the body');
	ok(!(grep { /^cloudEvents/ } keys %{ $raw->{headers} }, keys %{ $structured->{headers} }), 'raw and structured: no attributes');
	is_deeply([ @$raw{qw(deliveryMode priority expiration appId key)} ], [ 1, 7, 3600000, 'shop', 'fixed' ], 'settings of properties');
	ok($test->{headers}{'Evstore-Test'} && !exists $test->{headers}{'Evstore-Position'}, 'a test message says so, and has no position');
	ok($replay->{headers}{'Evstore-Replay'}, 'a replay says so');
	ok(!defined $test->{appId}, 'an application without a name');
}

# ---- odd messages ----

$rabbit->new_queue('edge');
{
	my $run = harness('--edge', '--messages=50', '--format=cloudevents-binary', settings('edge'));
	is($run->{status}, 0, 'odd messages: no violation') or diag($run->{out});
	like($run->{results}, qr/^6 \S+ permanent 0 1 the routing key is longer than 255 bytes$/m, 'a topic that is too long is parked');
	is($run->{delivered}, 49, 'the others are delivered');
	my %arrived = map { $_->{headers}{'Evstore-Position'} => $_ } $rabbit->take('edge');
	is($arrived{1}{length}, 0, 'an empty body');
	is($arrived{2}{length}, 0, 'no body');
	cmp_ok($arrived{3}{length}, '>', 16 * 1024 * 1024, '16 MB');
	is($arrived{5}{key}, "k\x{e9}y/\x{1f4a1} %\\\"#?&=", 'a routing key that is not ASCII');
	is(scalar(grep { /^x-header/ } keys %{ $arrived{7}{headers} }), 50, 'many headers');
}

sub new_sender
{
	my ($exchange, %more) = @_;
	my $sink = EvsSend->new($module, { url => "127.0.0.1:$rabbit->{port}", exchange => $exchange, user => 'evs',
		password => { secret => 'pw' }, %more }, secrets => { pw => $EvsRabbit::password });

	# secrets are there when it has been asked
	is($sink->validate // '', '', "settings for the exchange $exchange");
	$sink->open;
	return $sink;
}

{
	my $sink = new_sender('edge');
	my @results = $sink->send_all(
		{ topic => "a\x01\nb", data => "x\x00y", 'h.line' => "one\ntwo" },
		{ topic => '', data => 'no topic' },
		{ topic => 'large', size => 17_000_001 },
		{ topic => 'small', data => 'after it' },
		map { +{ topic => 't', data => '1', %$_ } } { 'h.CC' => 'x' }, { 'h.BCC' => 'x' }, { 'h.CloudEvents_id' => 'x' },
		{ 'h.cloudEvents:id' => 'x' }, { 'h.Evstore-Position' => '1' }, { 'h.' . 'n' x 256 => 'x' }, { 'h.big' => 'x' x 140_000 },
		{ content_type => 'c' x 256 }, { 'a.' . 'n' x 250 => 'x' }, { type => 'T' x 300 });
	is(join(' ', map { $_->{class} } @results), 'ok ok permanent ok ' . 'permanent ' x 9 . 'ok', 'what is refused, and what is not');
	is($results[2]{code}, 406, 'a message that is too large for the server');
	like($results[2]{detail}, qr/^406 PRECONDITION_FAILED - message size 17000001/, 'with the reason');
	like($results[4]{detail}, qr/^headers .*CC/, 'a header that the server would act on');
	like($results[10]{detail}, qr/longer than a frame/, 'headers that fit into no frame');
	my @arrived = $rabbit->take('edge');
	is($arrived[0]{key}, "a\x01\nb", 'control characters in a routing key');
	is($arrived[0]{headers}{line}, "one\ntwo", 'and in a header');
	ok(!defined $arrived[-1]{type}, 'a type that is too long is no property');
	like(join(' ', map { $_->{content} // '' } @arrived), qr/after it/, 'what comes behind a message that is too large arrives');
}

# ---- exchanges ----

$rabbit->new_queue('some');
for my $key (0 .. 3)
{
	$rabbit->ask('exchange', "to-key-$key", 'fanout');
	$rabbit->ask('bind', 'some', "to-key-$key", '');
}
{
	my $run = harness('--messages=100', '--keys=5', settings('to-{topic}'));
	is($run->{status}, 0, 'an exchange for each topic: no violation') or diag($run->{out});
	is(scalar(() = $run->{results} =~ / permanent 404 1 404 NOT_FOUND - no exchange 'to-key-4' /g), 20, 'an exchange that is missing: parked');
	is($run->{delivered}, 80, 'the others are delivered');
	my (%seen, %highest, @wrong);
	for ($rabbit->ask('order', 'some'))
	{
		my ($position, $key) = split / /;
		next if $seen{$position}++;
		push @wrong, $position if $position < ($highest{$key} // 0);
		$highest{$key} = $position;
	}
	is(keys %seen, 80, 'all of them');
	is("@wrong", '', 'in order');
}
results_in(qr/ retry_sink 404 1 404 NOT_FOUND/, 'a fixed exchange that is missing: an outage', '--messages=3', settings('none'));
results_in(qr/ permanent 0 1 the topic is empty, and the exchange is named by it/, 'no exchange named by an empty topic', '--messages=3',
	'--topic=', (settings('{topic}'))[ 1 .. 6 ]);

$rabbit->ask('exchange', 'lonely', 'topic');
{
	my $run = harness('--messages=20', settings('lonely'));
	is(scalar(() = $run->{results} =~ / permanent 312 1 returned: 312 NO_ROUTE/g), 20, 'no queue: parked');
	$run = harness('--messages=20', settings('lonely', 'mandatory:=false'));
	is($run->{count}{ok}, 20, 'unless that is not minded');
	$rabbit->new_queue('full', 'x-max-length' => 10, 'x-overflow' => 'reject-publish');
	$run = harness('--messages=30', '--attempts=2', settings('full'));
	is($run->{count}{ok}, 10, 'a full queue: what fits is delivered');
	like($run->{results}, qr/ retry 0 2 the server has not taken it: basic.nack/, 'a full queue: the others are tried again');
}

# ---- who may what ----

$rabbit->ask('exchange', 'open', 'topic');
for (
	[ qr/retry_sink 0 1 .*: 403 ACCESS_REFUSED - Login was refused/, 'a wrong password is an outage', '--secret=pw=wrong', 'user=evs' ],
	[ qr/retry_sink 0 1 .*: 530 NOT_ALLOWED - vhost nowhere not found/, 'a virtual host that is not there', 'user=evs', 'vhost=nowhere' ],
	[ qr/retry_sink 0 1 .*: 530 NOT_ALLOWED - access to vhost/, 'a virtual host without permission', 'user=narrow', 'vhost=other place' ],
	[ qr/retry_sink 403 1 403 ACCESS_REFUSED/, 'an exchange without permission', 'user=narrow' ],
	[ qr/ permanent 312 1 /, 'another virtual host', 'user=evs', 'vhost=other place', 'exchange=amq.topic' ],
	[ qr/ permanent 312 1 /, 'an exchange with permission', 'user=narrow', 'exchange=open' ],
	[ qr/retry_sink 0 1 secret "none" does not exist/, 'a secret that is not there', 'user=evs', 'password@=none' ],
	[ qr/retry_sink 0 1 .*not allowed/, 'the address of a name is checked, too', 'user=evs', '--deny=127.0.0.1', '--deny=::1', "url=localhost:$rabbit->{port}" ],
	[ qr/ permanent 312 1 /, 'the next server is taken', 'user=evs', 'exchange=open', 'servers.0=127.0.0.1:1', "servers.1=127.0.0.1:$rabbit->{port}" ])
{
	my ($pattern, $name, @more) = @$_;
	my %has = map { /^(\w+)/ ? ($1 => 1) : () } @more;
	my @default = ("url=127.0.0.1:$rabbit->{port}", 'exchange=look', 'password@=pw');
	results_in($pattern, $name, '--messages=3', '--topic=x', (grep({ /^--secret/ } @more) ? () : '--secret=pw=right password'), $module,
		(grep { /^(\w+)/ && !$has{$1} && !($has{servers} && $1 eq 'url') } @default), @more);
}
{
	my $run = harness('--messages=50', '--secret=pw=wrong', '--rotate=0:pw=right password', '--retry-delay=0', settings('look'));
	is($run->{status}, 0, 'a secret that is mended is enough') or diag($run->{out});
}

# ---- TLS ----

for (
	[ qr/ ok 0 1/, 'the certificate is accepted', "tls.ca_file=$rabbit->{dir}/ca.pem" ],
	[ qr/ ok 0 1/, 'signing in by certificate', "tls.ca_file=$rabbit->{dir}/ca.pem", "tls.cert_file=$rabbit->{dir}/client.pem", "tls.key_file=$rabbit->{dir}/client.key", '-' ],
	[ qr/certificate is not accepted: .*mismatch/, 'it is for another name', "tls.ca_file=$rabbit->{dir}/ca.pem", '127.0.0.1' ],
	[ qr/certificate is not accepted/, 'it is of nobody we know' ],
	[ qr/retry_sink 0 1 tls.ca_file: /, 'a file that is not there', "tls.ca_file=$dir/none.pem" ])
{
	my ($pattern, $name, @more) = @$_;
	my $host = (grep { /^[0-9]/ } @more) ? '127.0.0.1' : 'localhost';
	results_in($pattern, "TLS: $name", '--messages=3', '--topic=x', $module, "url=amqps://$host:$rabbit->{tls_port}", 'exchange=look',
		(grep { $_ eq '-' } @more) ? () : @credentials, grep { /=/ } @more);
}
{
	$rabbit->new_queue('secret');
	my $run = harness('--messages=2000', '--size=3000', '--timeout=60000', (map { s/^url=.*/url=amqps:\/\/localhost:$rabbit->{tls_port}/r } settings('secret')), "tls.ca_file=$rabbit->{dir}/ca.pem");
	is($run->{status}, 0, 'TLS: many messages') or diag($run->{out});
	is($rabbit->count('secret'), 2000, 'TLS: all are there');
}

# ---- killed, stopped, cut ----

# All from 1 to $n are there, and the first arrival of each is in the order of its key.
# Returns how many are there once more than needed.
sub is_whole
{
	my ($name, $queue, $n) = @_;
	my ($duplicates, %seen, %highest, @wrong) = (0);

	for my $line ($rabbit->ask('order', $queue))
	{
		my ($position, $key) = split / /, $line;
		if ($seen{$position}++) { $duplicates++; next; }
		push @wrong, "$position comes after $highest{$key}" if ($highest{$key} // 0) > $position;
		$highest{$key} = $position;
	}
	push @wrong, map { "$_ is missing" } grep { !$seen{$_} } 1 .. $n;
	push @wrong, keys(%seen) . ' are there' if keys %seen != $n;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(!@wrong, $name) or diag(join "\n", @wrong[ 0 .. ($#wrong < 9 ? $#wrong : 9) ]);
	return $duplicates;
}

$rabbit->new_queue('plain');
{
	my $run = harness('--messages=5000', '--timeout=60000', settings('plain'));
	is($run->{status}, 0, 'all delivered, no violation') or diag($run->{out});
	is(is_whole('all there, in order', 'plain', 5000), 0, 'and once');
}

$rabbit->new_queue('cut');
{
	my $proxy = start_tool('cut_proxy.pl', "--to=$rabbit->{port}", "--seed=$seed", '--cuts=15', '--bytes=300000');
	my $run = harness('--messages=9000', '--timeout=400', '--give-up=180', '--retry-delay=0',
		(map { s/^url=.*/url=127.0.0.1:$proxy->{port}/r } settings('cut')));
	end_tool($proxy);
	is($run->{status}, 0, 'connections are cut: all delivered') or diag($run->{out});
	my $duplicates = is_whole('connections are cut: all there, in order', 'cut', 9000);
	note "$duplicates duplicates, $run->{count}{retry_sink} handed back";
	cmp_ok($run->{count}{retry_sink}, '>', 0, 'connections are cut: outages');
}

$rabbit->new_queue('relay');
{
	my ($n, $first) = (9000, 1);
	for my $kill_at (3000, 3000, 0)
	{
		my $run = harness("--first=$first", '--messages=' . ($n - $first + 1), '--rate=20000', '--timeout=60000', $kill_at ? "--kill-at=$kill_at" : (), settings('relay'));
		is($run->{status}, $kill_at ? -9 : 0, $kill_at ? 'the relay is killed' : 'the relay comes to its end') or diag($run->{out});
		my %done = map { /^(\d+) \S+ ok / ? ($1 => 1) : () } split /\n/, $run->{results};
		# its checkpoint: below the first that has no result, and the keys stay the same
		my $checkpoint = $first;
		$checkpoint++ while $done{$checkpoint};
		$first = int(($checkpoint - 1) / 10) * 10 + 1;
	}
	my $duplicates = is_whole('the relay is killed: all there, in order', 'relay', $n);
	cmp_ok($duplicates, '<=', 2020, 'the relay is killed: no more duplicates than were in flight');
}

$rabbit->new_queue('kill');
{
	my $n = 12000;
	# short of memory as soon as one file is there, until the other one is
	my $wait = 'W = fun(W, F) -> case filelib:is_file(F) of true -> ok; false -> timer:sleep(20), W(W, F) end end';    # poll
	my $ctl = $rabbit->start_ctl('eval', qq[$wait, W(W, "$dir/alarm"), A = {{resource_limit, memory, node()}, []}, ]
		. qq[rabbit_alarm:set_alarm(A), W(W, "$dir/no_alarm"), rabbit_alarm:clear_alarm(element(1, A)).]);
	my $run = start_harness("--messages=$n", '--rate=4000', '--timeout=700', '--give-up=180', settings('kill'));

	poll(sub { $rabbit->count('kill') >= $n * 0.2 }) or die 'nothing arrives';
	kill 'STOP', $rabbit->{pid};
	ok(poll(sub { slurp_file($run->{log}) =~ /retry_sink 0 1 no acknowledgement within 700 ms/ }), 'a server that says nothing is an outage');
	kill 'CONT', $rabbit->{pid};
	poll(sub { $rabbit->count('kill') >= $n * 0.4 }) or die 'nothing arrives';

	append_to_file("$dir/alarm", '');
	ok(poll(sub { slurp_file($run->{log}) =~ /retry_sink 0 1 the server takes no messages: low on memory/ || !$run->{process}->pumpable }),
		'a server that is short of memory is an outage');
	append_to_file("$dir/no_alarm", '');
	end_program($ctl, 0);
	is($?, 0, 'which is over');
	poll(sub { $rabbit->count('kill') >= $n * 0.7 }) or die 'nothing arrives';

	$rabbit->kill_it;
	$rabbit->ready;
	finish_harness($run);
	is($run->{status}, 0, 'the server is stopped, short of memory, killed: all delivered') or diag($run->{out});
	is_whole('the server is stopped, short of memory, killed: all there, in order', 'kill', $n);
}

# ---- from a store ----

$rabbit->new_queue('store');
is(send_from_store(500, 'amqp',
		{ url => "amqp://127.0.0.1:$rabbit->{port}", exchange => 'store', user => 'evs', password => { secret => 'pw' } },
		{ topic => '{stream}', in_flight => 100 }, pw => 'right password'),
	500, 'a relay of a store sends all');
is_in_order('and it is there, in order', [ map { $_->{headers}{'Evstore-Position'} } $rabbit->take('store') ], 500);

done_testing();
