# The sink "kafka": whatever is killed or stopped, and whenever, nothing is missing
# and each key's records arrive in order.  With transactions each is there once.
#
# There is no Kafka in Debian.  Its place take librdkafka's mock cluster, in a process
# of its own, and for what that does not know, transactions above all, a broker of
# the suite's.  The relay's part is played by sink_harness; kcat reads what has arrived.
#
# EVS_SEED chooses what is done when, in the last part.

use strict;
use warnings;

use Cwd 'abs_path';
use FindBin;
use lib $FindBin::Bin;
use EvsBroker;
use EvsSend;
use EvsTest 'poll';
use JSON::PP ();
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'kcat is not installed' unless grep { -x "$_/kcat" } split /:/, $ENV{PATH};
my $module = sink_module('kafka') or plan skip_all => 'the sink kafka was not built';
my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
my $root = "$FindBin::Bin/../..";

my $seed = $ENV{EVS_SEED} // time;
srand $seed;
note "seed $seed";

# ---- brokers ----

# A program that obeys lines; {value} has what it said first, as name=value.
sub start_peer
{
	my (@command) = @_;
	my %peer = (in => '', out => '', err => '');

	$peer{process} = IPC::Run::start(\@command, \$peer{in}, \$peer{out}, \$peer{err});
	poll(sub { IPC::Run::pump_nb($peer{process}); $peer{out} =~ /^\w+=.*\n/ })
	  or die "@command does not start: $peer{err}";
	($peer{value}) = $peer{out} =~ /^\w+=(.*)/;
	$peer{out} = '';
	return \%peer;
}

sub order
{
	my ($peer, $line) = @_;

	$peer->{out} = '';
	$peer->{in} .= "$line\n";
	IPC::Run::pump($peer->{process}) until $peer->{out} =~ /\n/;
	die "$line: $peer->{out}" unless $peer->{out} eq "ok\n";
	return;
}

sub end_peer
{
	my ($peer) = @_;

	$peer->{process}->kill_kill(grace => 0);
	return;
}

sub pid_of { return $_[0]{process}{KIDS}[0]{PID} }

my $port = 0;

# The suite's broker; with the same name it has what it had, at the same port.
sub start_broker
{
	my ($data, @options) = @_;
	my $broker = start_peer($^X, "$root/test/tools/kafka_server.pl", "--data=$dir/$data", "--port=$port", @options);

	$broker->{brokers} = "localhost:$broker->{value}";
	return $broker;
}

# ---- a consumer ----

# All records of a topic: hashes of their headers, with {key}, {partition}, {time} and {data}.
sub received
{
	my ($brokers, $topic, @options) = @_;
	my $out = '';

	IPC::Run::run([ 'kcat', '-b', $brokers, '-C', '-t', $topic, '-o', 'beginning', '-e', '-q',
			'-X', 'isolation.level=read_committed', '-X', 'topic.metadata.refresh.interval.ms=100', @options,
			'-f', "%K\x1f%k\x1f%p\x1f%T\x1f%h\x1f%S\x1f%s\x1e" ], '<', '/dev/null', '>', \$out,
		'2>', "$dir/kcat.log") or die slurp_file("$dir/kcat.log");
	return map {
		my ($key_size, $key, $partition, $time, $headers, $size, $data) = split /\x1f/, $_, 7;
		+{ (map { /^([^=]+)=(.*)/s ? ($1 => $2) : () } split /,/, $headers), key => $key_size < 0 ? undef : $key,
			partition => $partition, time => $time, data => $size < 0 ? undef : $data };
	} split /\x1e/, $out;
}

# From $first to $last, and in order for each key; each once, if $once.
sub is_whole
{
	my ($name, $brokers, $topic, $last, $once) = @_;
	my (%seen, %highest, %partition, @wrong);

	for my $record (received($brokers, $topic))
	{
		my $position = $record->{ce_sequence} + 0;
		my $key = $record->{key};

		push @wrong, "$key is in two partitions" if ($partition{$key} //= $record->{partition}) != $record->{partition};
		if ($seen{$position}++)
		{
			push @wrong, "$position is there twice" if $once;
			next;
		}
		push @wrong, "$position comes after $highest{$key}" if ($highest{$key} // 0) >= $position;
		$highest{$key} = $position;
	}
	push @wrong, map { "$_ is missing" } grep { !$seen{$_} } 1 .. $last;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(!@wrong && keys %seen == $last, $name);
	diag(join "\n", 'of ' . keys(%seen) . ':', @wrong[ 0 .. ($#wrong < 9 ? $#wrong : 9) ]) if @wrong;
	return;
}

sub settings
{
	my ($brokers, @more) = @_;

	return ('--format=cloudevents-binary', $module, "brokers=$brokers", @more);
}

# It has not ended; only who looks finds out.
sub runs
{
	my ($run) = @_;

	IPC::Run::pump_nb($run->{process}) if $run->{process}->pumpable;
	return $run->{process}->pumpable;
}

# Messages that are not delivered: until the harness has said so.
sub results_in
{
	my ($pattern, $name, @arguments) = @_;
	my $run = start_harness('--give-up=180', '--retry-delay=100', @arguments);

	poll(sub { -e $run->{log} && slurp_file($run->{log}) =~ $pattern || !runs($run) });
	$run->{process}->kill_kill;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $log = -e $run->{log} ? slurp_file($run->{log}) : '';
	ok($log =~ $pattern, $name) or diag("not $pattern, but ", substr $log, 0, 500);
	return;
}

# ---- settings ----

my @good = ('--invalid', $module, 'brokers=localhost:9092');
for (
	[ 'brokers=localhost', qr/"brokers"/ ],
	[ 'brokers=localhost:0', qr/"brokers"/ ],
	[ 'brokers=a:1,', qr/"brokers"/ ],
	[ 'brokers=::1:9092', qr/"brokers"/ ],
	[ 'brokers:=5', qr/"brokers"/ ],
	[ 'topic={type}', qr/"topic"/ ],
	[ 'topic=a b', qr/"topic"/ ],
	[ 'topic=..', qr/"topic"/ ],
	[ 'acks=1', qr/"acks" must be all/ ],
	[ 'compression=rar', qr/"compression" must be one of/ ],
	[ 'partitioner=random', qr/"partitioner" must be one of/ ],
	[ 'linger_ms:=-1', qr/"linger_ms"/ ],
	[ 'max_message_bytes:=1', qr/"max_message_bytes"/ ],
	[ 'transactional=yes', qr/"transactional"/ ],
	[ 'position_topic=p', qr/"position_topic" needs "transactional"/ ],
	[ 'tls.ca_file=ca.pem', qr/"tls.ca_file" must be an absolute path/ ],
	[ 'tls.cert_file=/c', qr/belong together/ ],
	[ 'tls.key_password=x', qr/"tls.key_password" must be a secret/ ],
	[ 'sasl.mechanism=GSSAPI', qr/"sasl.mechanism" must be one of/ ],
	[ 'sasl.mechanism=PLAIN', qr/belong together/ ],
	[ 'sasl.password=text', qr/"sasl.password" must be a secret/ ],
	[ 'properties.enable.idempotence=false', qr/"properties.enable.idempotence"/ ],
	[ 'properties.acks=0', qr/"properties.acks"/ ],
	[ 'properties.plugin.library.paths=/x.so', qr/"properties.plugin.library.paths"/ ],
	[ 'properties.sasl.kerberos.kinit.cmd=id', qr/"properties.sasl.kerberos.kinit.cmd"/ ],
	[ 'properties.enable.ssl.certificate.verification=false', qr/"properties.enable.ssl.certificate.verification"/ ],
	[ 'properties.ssl.cipher.suites=ADH-AES256-GCM-SHA384:@SECLEVEL=0', qr/"properties.ssl.cipher.suites" must have names of ciphers/ ],
	[ 'properties.statistics.interval.ms:=1', qr/"properties.statistics.interval.ms"/ ],
	[ 'properties.socket.timeout.ms=soon', qr/"properties.socket.timeout.ms"/ ],
	[ '--format=cloudevents-batch', qr/format/ ],
	[ '--deny=localhost', qr/"brokers".*not allowed/ ])
{
	my ($what, $pattern) = @$_;
	my ($name) = $what =~ /^(\w+)/;
	my @arguments = $what =~ /^--/ ? ($what, @good) : ((grep { !/^$name=/ } @good), $what);
	my $run = harness(@arguments);
	like($run->{out}, $pattern, "refused: $what");
}

# ---- librdkafka's mock cluster ----

my $mock;

SKIP:
{
	my @flags = split ' ', `pkg-config --cflags --libs rdkafka 2>/dev/null`;

	system($ENV{CC} // 'cc', '-std=gnu99', '-o', "$dir/kafka_mock", "$root/test/tools/kafka_mock.c", @flags) == 0
	  or skip 'the mock cluster cannot be built: librdkafka-dev is not installed', 1;
	$mock = start_peer("$dir/kafka_mock", 3);
	my $brokers = $mock->{value};

	for my $mode ('false', 'true')
	{
		my @mode = settings($brokers, "transactional:=$mode");
		my $run = harness('--messages=5000', "--topic=plain-$mode", @mode);
		is($run->{status}, 0, "transactional $mode: all delivered, no violation") or diag($run->{out});
		is_whole("transactional $mode: all there, in order", $brokers, "plain-$mode", 5000, 1);
		$run = harness('--messages=300', '--max=1', '--in-flight=7', '--batch=3', "--topic=few-$mode", @mode);
		is($run->{status}, 0, "transactional $mode: a few at a time") or diag($run->{out});
		$run = harness('--messages=60', '--edge', '--topic={key}', @mode, 'max_message_bytes:=2000');
		is($run->{status}, 0, "transactional $mode: odd messages") or diag($run->{out});
		like($run->{results}, qr/^3 \S+ permanent 0 1 the message is larger than max_message_bytes/m,
			"transactional $mode: a message that is too large is parked");
		like($run->{results}, qr/^5 \S+ permanent 0 1 the topic has other characters/m,
			"transactional $mode: a topic that is none is parked");
		$run = harness('--messages=3000', '--destroy-at=1500', '--topic=destroyed', @mode);
		is($run->{status}, 0, "transactional $mode: destroyed with messages in flight") or diag($run->{out});
	}

	# What a record looks like.
	my ($binary, $structured, $raw) = map {
		harness('--messages=1', '--headers=2', "--format=$_", "--topic=look-$_", $_ eq 'raw' ? '--keys=0' : (),
			$module, "brokers=$brokers");
		received($brokers, "look-$_");
	} qw(cloudevents-binary cloudevents raw);
	is($binary->{ce_specversion}, '1.0', 'binary: attributes are headers');
	is($binary->{'content-type'}, 'application/json', 'binary: the content type');
	is($binary->{'x-header-1'}, 'value 1', 'binary: the application\'s headers');
	is($binary->{key}, 'key-0', 'the key');
	is($binary->{time}, '1700000000000', 'the time is that of the event');
	is($structured->{'content-type'}, 'application/cloudevents+json', 'structured: the content type');
	like($structured->{data}, qr/^\{"specversion":"1.0"/, 'structured: the event is the value');
	ok(!(grep { /^ce_/ } keys %$raw), 'raw: no attributes');
	is($raw->{key}, undef, 'no key is null');

	my $send = EvsSend->new($module, { brokers => $brokers }, host => { format => 'cloudevents-binary' });
	is($send->open, '', 'the sink opens');
	$send->add(topic => 'odd', id => 'i1', 'a.id' => 'i1', 'a.subject' => "caf\xc3\xa9 %20", 'h.x' => "a\tb");
	$send->add(topic => 'odd', id => 'i2', data => "\x01\x02 \x7f");
	$send->add(topic => 'odd', 'h.ce_id' => 'mine');
	$send->add(topic => "odd\tname");
	$send->add(topic => 'x' x 250);
	$send->submit;
	my @results = $send->wait_for(5);
	is(join(' ', map { $_->{class} } @results), 'ok ok permanent permanent permanent', 'odd messages');
	my @odd = sort { $a->{ce_id} // '' cmp $b->{ce_id} // '' } received($brokers, 'odd');
	my ($tombstone) = grep { $_->{ce_id} } @odd;
	is($tombstone->{data}, undef, 'without data the value is null');
	like($tombstone->{ce_subject}, qr/^caf\xc3\xa9 %20$/, 'attributes are not encoded');
	$send->finish;

	# Brokers that refuse.  0 is Produce, 22 InitProducerId, 25 AddOffsetsToTxn, 26 EndTxn,
	# 28 TxnOffsetCommit.
	for (
		[ 'false', 'error 0 10 1', 'ok', 'too large, but only in a batch' ],
		[ 'true', 'error 0 10 1', 'ok', 'too large, but only in a batch' ],
		[ 'false', 'error 0 6 20', 'ok', 'not the leader' ],
		[ 'true', 'error 0 19 5', 'ok', 'not enough replicas' ],
		[ 'false', 'error 0 45 1', 'ok retry_sink', 'out of order' ],
		[ 'true', 'error 0 47 1', 'ok retry_sink', 'fenced' ],
		[ 'false', 'error 0 29 1', 'ok retry_sink', 'not authorized' ],
		[ 'true', 'error 0 -195 4', 'ok', 'connections that are closed' ],
		[ 'true', 'error 22 15 2', 'ok', 'no coordinator to start' ],
		[ 'true', 'error 24 51 2', 'ok', 'concurrent transactions' ],
		[ 'true', 'error 26 14 2', 'ok', 'no coordinator to commit' ],
		[ 'true', 'error 26 47 1', 'ok retry_sink', 'fenced at the end' ],
		[ 'true', 'error 28 30 1', 'ok retry_sink', 'not authorized to store the position' ])
	{
		my ($mode, $command, $classes, $name) = @$_;
		my $topic = "error-$mode-" . $command =~ s/\W+/-/gr;

		order($mock, $command);
		my $run = harness('--messages=1000', '--give-up=60', "--topic=$topic", settings($brokers, "transactional:=$mode"));
		is($run->{status}, 0, "transactional $mode, $name: all delivered") or diag($run->{out});
		is(join(' ', grep { $_ ne 'returned' } sort keys %{ $run->{count} }), $classes, "transactional $mode, $name: $classes");
	}

	# Who takes results one by one submits in between.
	order($mock, 'error 28 30 1');
	my $slow = harness('--messages=300', '--max=1', '--retry-delay=0', '--give-up=10', '--topic=one-by-one', settings($brokers, 'transactional:=true'));
	is($slow->{status}, 0, 'an outage whose results are taken one by one: all delivered') or diag($slow->{out});
	is_whole('an outage whose results are taken one by one: once and in order', $brokers, 'one-by-one', 300, 1);

	# Refused by itself it is the message's fault.
	order($mock, 'error 0 10 1000');
	my $run = harness('--messages=3', '--keys=1', '--give-up=60', '--topic=large', settings($brokers));
	is($run->{count}{permanent}, 3, 'messages that are too large for the broker are parked') or diag($run->{out});
	order($mock, 'clear 0');
	order($mock, 'error 0 2 1000');
	$run = harness('--messages=2', '--attempts=2', '--give-up=60', '--topic=corrupt', settings($brokers));
	is($run->{count}{retry}, 4, 'an error that says nothing is an attempt') or diag($run->{out});

	order($mock, 'clear 0');

	# A topic that is not there.
	order($mock, 'topic_error missing 3');
	$run = harness('--messages=2', '--timeout=2000', '--topic=missing', settings($brokers));
	is($run->{count}{permanent}, 2, 'an unknown topic of the message: parked') or diag($run->{out});
	results_in(qr/ retry_sink 3 1 .*Unknown topic/, 'an unknown topic of the configuration: an outage',
		'--messages=2', '--timeout=2000', settings($brokers, 'topic=missing'));
	end_peer($mock);
	undef $mock;
}

# ---- nobody there ----

results_in(qr/ retry_sink -187 1 .*Connection refused/, 'no broker: an outage', '--messages=2', settings('127.0.0.1:1'));
results_in(qr/ retry_sink -187 1 .*resolve/i, 'no such host: an outage', '--messages=2', settings('no-such-host.invalid:9092'));

# ---- transactions ----

my $broker = start_broker('data');
$port = $broker->{value};
my @transactional = settings($broker->{brokers}, 'transactional:=true');

results_in(qr/ retry_sink -187 1 a connection to localhost \(127.0.0.1\) port \d+ is not allowed/,
	'the address of a name is checked, too', '--messages=2', '--deny=127.0.0.1', '--deny=::1', settings($broker->{brokers}));

# An answer is lost after the transaction was committed; or the request, before.
for my $what ('lose 26 1', 'cut 26 1', 'lose 28 1', 'cut 0 1', 'lose 0 1', 'lose 24 1')
{
	my $topic = "doubt-" . $what =~ s/ /-/gr;

	order($broker, $what);
	my $run = harness('--messages=1000', "--topic=$topic", @transactional);
	is($run->{status}, 0, "$what: all delivered") or diag($run->{out});
	is_whole("$what: once and in order", $broker->{brokers}, $topic, 1000, 1);
}

# Nobody answers, so the relay gives up; what is there was committed.
{
	my $run = start_harness('--messages=2000', '--timeout=1000', '--give-up=60', '--pause-at=1000', '--topic=unsure', @transactional);
	wait_for_pause($run);
	order($broker, 'lose 26 100000');
	go_on($run);
	poll(sub { slurp_file($run->{log}) =~ / retry_sink / }) or die 'no outage';
	order($broker, 'heal');
	finish_harness($run);
	is($run->{status}, 0, 'commits without an answer: all delivered') or diag($run->{out});
	cmp_ok($run->{count}{duplicate} // 0, '>', 0, 'commits without an answer: what was there is recognised');
	is_whole('commits without an answer: once and in order', $broker->{brokers}, 'unsure', 2000, 1);
}

# Killed in the middle.
{
	my $n = 6000;
	my @options = ("--messages=$n", '--rate=12000', '--topic=relay', @transactional);

	is(harness('--kill-at=2000', @options)->{status}, -9, 'the relay is killed');
	my $run = harness('--resume', '--destroy-at=2000', @options);
	is($run->{status}, 0, 'resumed, and ended in the middle') or diag($run->{out});
	$run = harness('--resume', @options);
	is($run->{status}, 0, 'resumed to the end') or diag($run->{out});
	cmp_ok($run->{submitted}, '<', $n, 'not from the beginning');
	is_whole('once and in order', $broker->{brokers}, 'relay', $n, 1);
}

# A test message disturbs nobody.
{
	my $run = start_harness('--messages=2000', '--pause-at=1000', '--topic=test', @transactional);

	wait_for_pause($run);
	my $send = EvsSend->new($module, { brokers => $broker->{brokers}, transactional => \1 },
		host => { id => 'harness', format => 'cloudevents-binary' });
	$send->open;
	$send->add(topic => 'other', flags => 2);
	$send->submit;
	is(($send->wait_for(1))[0]{class}, 'ok', 'a test message is delivered');
	$send->finish;
	go_on($run);
	finish_harness($run);
	is($run->{status}, 0, 'and fences nobody') or diag($run->{out});
	ok(!$run->{count}{retry_sink}, 'there was no outage');
}

# Two of the same id: the later one shuts the other out, which takes over again later.
{
	my $run = start_harness('--messages=2000', '--pause-at=1000', '--topic=zombie', @transactional);

	wait_for_pause($run);
	is(harness('--messages=1', '--topic=elsewhere', @transactional)->{status}, 0, 'another one of the same id');
	go_on($run);
	finish_harness($run);
	is($run->{status}, 0, 'the first goes on') or diag($run->{out});
	cmp_ok($run->{count}{retry_sink} // 0, '>', 0, 'after an outage');
	is_whole('once and in order', $broker->{brokers}, 'zombie', 2000, 1);
}

# ---- anything, anywhere ----

# Until there is an outage, which there is not if everything has been sent.
sub stop_for_a_while
{
	my ($run) = @_;

	kill 'STOP', pid_of($broker);
	poll(sub { !runs($run) || slurp_file($run->{log}) =~ / retry_sink / }, 3);
	kill 'CONT', pid_of($broker);
	return;
}

sub restart_broker
{
	end_peer($broker);
	$broker = start_broker('data');
	return;
}

for my $mode ('false', 'true')
{
	my $n = 6000;
	my $topic = "any-$mode";
	my @options = ("--messages=$n", '--rate=6000', '--timeout=1500', '--give-up=180', '--retry-delay=50', "--topic=$topic",
		settings($broker->{brokers}, "transactional:=$mode", $mode eq 'true' ? "id_prefix=any-" : ()));

	for my $round (1 .. 4)
	{
		my $at = 500 + int rand 4000;
		my $what = (qw(kill restart stop faults))[ ($round + int rand 2) % 4 ];
		my @resume = $mode eq 'true' ? '--resume' : ();
		my $run = start_harness(@resume, $what eq 'kill' ? "--kill-at=$at" : (), @options);

		poll(sub { !runs($run) || (-e $run->{log} && (() = slurp_file($run->{log}) =~ /\n/g) > $at / 4) });
		if ($what eq 'restart') { restart_broker(); }
		elsif ($what eq 'stop') { stop_for_a_while($run); }
		elsif ($what eq 'faults')
		{
			order($broker, 'heal');
			order($broker, join ' ', (qw(lose cut))[ rand 2 ], (0, 22, 24, 25, 26, 28)[ rand 6 ], 1 + int rand 3) for 1 .. 3;
		}
		finish_harness($run);
		is($run->{status}, $what eq 'kill' && $run->{status} < 0 ? -9 : 0, "transactional $mode, $what at $at") or diag($run->{out});
	}
	my $run = harness($mode eq 'true' ? '--resume' : (), @options);
	is($run->{status}, 0, "transactional $mode: to the end") or diag($run->{out});
	is_whole("transactional $mode: all there, in order" . ($mode eq 'true' ? ', once' : ''), $broker->{brokers}, $topic, $n, $mode eq 'true');
}

# ---- from a store ----

# With these answers lost, librdkafka may wait for ever in the call that stores the position.
order($broker, $_) for 'heal', 'lose 24 1', 'lose 28 1';
is(send_from_store(500, 'kafka', { brokers => $broker->{brokers}, transactional => JSON::PP::true },
		{ topic => 'store', format => 'cloudevents-binary', in_flight => 100 }),
	500, 'a relay of a store sends all');
is_whole('and it is there, in order, once', $broker->{brokers}, 'store', 500, 1);
end_peer($broker);

# ---- credentials, encryption ----

$port = 0;
$broker = start_broker('auth', '--user=me', '--password=right password');

sub run_as
{
	my ($password, @more) = @_;

	return harness('--messages=50', '--topic=auth', "--secret=pw=$password", @more,
		settings($broker->{brokers}, 'sasl.mechanism=PLAIN', 'sasl.user=me', 'sasl.password@=pw'));
}

is(run_as('right password')->{status}, 0, 'user and password');
results_in(qr/ retry_sink -169 1 .*wrong user or password/, 'a wrong password is an outage', '--messages=1', '--topic=auth', '--secret=pw=wrong password',
	settings($broker->{brokers}, 'sasl.mechanism=PLAIN', 'sasl.user=me', 'sasl.password@=pw'));
end_peer($broker);

SKIP:
{
	skip 'openssl is not installed', 4 unless grep { -x "$_/openssl" } split /:/, $ENV{PATH};
	skip 'IO::Socket::SSL is not installed', 4 unless eval { require IO::Socket::SSL };
	system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost "
		. "-keyout $dir/key.pem -out $dir/cert.pem 2>$dir/openssl.log") == 0 or die 'no certificate';
	$broker = start_broker('tls', "--certificate=$dir/cert.pem", "--key=$dir/key.pem");

	my $run = harness('--messages=200', '--topic=tls', settings($broker->{brokers}, "tls.ca_file=$dir/cert.pem"));
	is($run->{status}, 0, 'TLS: the certificate is accepted') or diag($run->{out});
	for (
		[ '127.0.0.1', "tls.ca_file=$dir/cert.pem", qr/ retry_sink .*certificate verify failed/, 'it is for another name' ],
		[ 'localhost', 'tls:=true', qr/ retry_sink .*certificate verify failed/, 'it is of nobody we know' ],
		[ 'localhost', "tls.ca_file=$dir/none.pem", qr/ retry_sink .*ssl\.ca\.location failed/, 'a file that is not there' ])
	{
		my ($host, $setting, $pattern, $name) = @$_;
		results_in($pattern, "TLS: $name", '--messages=2', '--topic=tls', settings("$host:$broker->{value}", $setting));
	}
	end_peer($broker);
}

done_testing();
