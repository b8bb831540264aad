# The sink "mqtt": against mosquitto, whatever is stopped, restarted or cut, and
# against a server that says what no good one would say.
#
# The relay's part is played by sink_harness, or by sink_send for single messages.
# What has arrived is read by mosquitto_sub.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsBroker;
use EvsHttp qw(make_ca make_certificate);
use EvsMqtt;
use EvsSend;
use EvsTest 'poll';
use PostgreSQL::Test::Utils;
use Test::More;

my $module = sink_module('mqtt') or plan skip_all => 'the sink mqtt was not built';
my ($mosquitto, $reader) = map {
	my $name = $_;
	(grep { -x } map { "$_/$name" } split(/:/, $ENV{PATH}), '/usr/sbin')[0]
} qw(mosquitto mosquitto_sub);
my $dir = PostgreSQL::Test::Utils::tempdir();
my $seed = $ENV{EVS_SEED} // time;
srand $seed;
note "EVS_SEED=$seed";

# ---- helpers ----

# What a good server does.
sub obey
{
	my ($kind, $flags, $body) = @_;
	my $id = substr $body, 0, 2;

	return connack(0, 0, ord(substr $body, 6, 1) == 5 ? '' : undef) if $kind == CONNECT;
	return acknowledge(PUBCOMP, unpack 'n', $id) if $kind == PUBREL;
	return packet(PINGRESP, '') if $kind == PINGREQ;
	return '' unless $kind == PUBLISH;
	my (undef, $packet_id) = unpack 'n/a n', $body;
	return acknowledge(($flags & 6) == 2 ? PUBACK : PUBREC, $packet_id);
}

sub id_of
{
	my ($body) = @_;

	return (unpack 'n/a n', $body)[1];
}

# A sink of sink_send that is open; its server is a fake one, or a port.
sub new_sink
{
	my ($server, $settings, %opt) = @_;
	my $port = ref $server ? $server->{port} : $server;
	my $sink = EvsSend->new($module, { url => "mqtt://127.0.0.1:$port", topic => 't', %{ $settings // {} } },
		%opt, host => { timeout_ms => 10000, %{ $opt{host} // {} } });
	my $error = $sink->validate || $sink->open;

	die "the sink does not open: $error" if $error;
	return $sink;
}

# The result of one message, as text.
sub outcome
{
	my ($script, $settings, %opt) = @_;
	my $server = fake_server($script);
	my $result = new_sink($server, $settings, %opt)->send(data => '{}', %{ $opt{message} // {} });

	end_program($server->{pid});
	return "$result->{class} $result->{code} $result->{detail}";
}

# Ask for what takes long now, and for the result later: nothing is heard of a server that
# keeps the connection, and is then asked for a sign of life.
my $silent = fake_server(sub {
	my ($kind, $flags, $body) = @_;

	return $kind == PINGREQ ? acknowledge(PUBACK, 1) : $kind == PUBLISH ? '' : obey(@_);
});
my $patient = new_sink($silent, { keepalive => [0] }, host => { timeout_ms => 40000 });
$patient->add(data => '{}');
$patient->submit;
print { $patient->{in} } "wait 1\n";
$patient->{in}->flush;

# ---- settings ----

for (
	[ {}, qr/^$/ ],
	[ { url => 'amqp://h' }, qr/"url" must be like mqtt:/ ], [ { url => 'mqtt://u:p@h' }, qr/"url"/ ], [ { url => 'mqtt://h/path' }, qr/"url"/ ],
	[ { nonsense => 1 }, qr/"nonsense" is not known/ ], [ { 'tls.verify' => \0 }, qr/"tls.verify" is not known/ ],
	[ { version => '4' }, qr/"version"/ ], [ { version => [5] }, qr/^$/ ], [ { version => '3.1.1' }, qr/^$/ ],
	[ { qos => [0] }, qr/"qos" must be a whole number between 1 and 2/ ], [ { qos => '1' }, qr/"qos"/ ],
	[ { retain => 'yes' }, qr/"retain" must be true or false/ ],
	[ { topic => '' }, qr/"topic"/ ], [ { topic => 'a/+' }, qr/"topic": .*wildcard/ ], [ { topic => '#' }, qr/"topic": .*wildcard/ ],
	[ { topic => '{type}' }, qr/"topic": only \{topic\}/ ], [ { topic => "a\x01" }, qr/"topic"/ ], [ { topic => 'x' x 65535 }, qr/"topic"/ ],
	[ { topic => '$aws/{topic}' }, qr/^$/ ], [ { client_id => '' }, qr/"client_id"/ ], [ { client_id => "a\nb" }, qr/"client_id"/ ],
	[ { password => 't0psecret', user => 'u' }, qr/"password" must be a secret/ ],
	[ { password => { secret => 's' } }, qr/^$/ ], [ { password => { secret => 's' }, version => '3.1.1' }, qr/"password" needs "user"/ ],
	[ { session_expiry => [10] }, qr/"session_expiry" needs "qos"/ ], [ { session_expiry => [10], qos => [2] }, qr/^$/ ],
	[ { session_expiry => [10], qos => [2], version => '3.1.1' }, qr/"session_expiry" needs MQTT 5/ ],
	[ { message_expiry => [10], version => '3.1.1' }, qr/"message_expiry" needs MQTT 5/ ],
	[ { 'properties.a' => 'b', version => '3.1.1' }, qr/"properties.a" needs MQTT 5/ ],
	[ { keepalive => [65536] }, qr/"keepalive"/ ], [ { message_expiry => [-1] }, qr/"message_expiry"/ ], [ { max_in_flight => [0] }, qr/"max_in_flight"/ ],
	[ { 'properties.a' => "x\ny" }, qr/"properties.a" must be/ ], [ { 'properties.a' => [1] }, qr/"properties.a" must be/ ],
	[ { 'tls.key_file' => '/x' }, qr/"tls.key_file" needs/ ])
{
	my ($settings, $pattern) = @$_;
	my $error = EvsSend->new($module, { url => 'mqtt://h', %$settings })->validate;
	my $name = join ', ', map { "$_=" . substr(ref $settings->{$_} ? 'X' : $settings->{$_}, 0, 30) =~ s/[^ -~]/?/gr } sort keys %$settings;

	like($error, $pattern, ($pattern eq qr/^$/ ? 'taken: ' : 'refused: ') . $name);
	unlike($error, qr/t0psecret/, 'without showing what should be secret') if $error;
}
is(EvsSend->new($module, {})->validate, 'setting "url" or "servers" is missing', 'no server');
for (
	[ 'cloudevents-batch', {}, qr/cloudevents-batch/ ], [ 'cloudevents-binary', { version => '3.1.1' }, qr/needs MQTT 5/ ],
	[ 'cloudevents-binary', { 'properties.type' => 'x' }, qr/"properties.type": that is an attribute/ ], [ 'raw', { version => '3.1.1' }, qr/^$/ ])
{
	my ($format, $settings, $pattern) = @$_;
	my $sink = EvsSend->new($module, { url => 'mqtt://h', %$settings }, host => { format => $format });
	like($sink->validate, $pattern, "format $format");
}

# ---- how it signs in ----

my $server = fake_server(\&obey);
my $sink = new_sink($server, { user => 'me', password => { secret => 's' } }, secrets => { s => 'pw' });
is($sink->send(data => '{}')->{class}, 'ok', 'a message');
$sink->command('destroy');
my ($connect) = grep { $_->{kind} == CONNECT } packets($server);
my ($protocol, $level, $flags, $keepalive, $rest) = unpack 'n/a C C n a*', $connect->{body};
is("$protocol $level $flags $keepalive", 'MQTT 5 194 60', 'CONNECT: MQTT 5, clean start, user and password');
my ($properties, $client_id, $user, $password) = unpack 'C/a n/a n/a n/a', $rest;
is(unpack('H*', $properties), '11000000002700010000', 'its properties: no session, 64 kB at most');
like($client_id, qr/^evs[0-9A-Za-z]{19}$/, 'a client id that every server takes');
is("$user $password", 'me pw', 'user and password');
ok(poll(sub { (packets($server))[-1]{kind} == DISCONNECT }), 'and it says good-bye');

new_sink($server, { version => '3.1.1', client_id => 'café', keepalive => [7] })->send(data => '{}');
($connect) = reverse grep { $_->{kind} == CONNECT } packets($server);
is(unpack('H*', $connect->{body}), '00044d5154540402' . '0007' . '0005' . unpack('H*', 'café'), 'CONNECT of 3.1.1');
new_sink($server, { version => '3.1.1', qos => [2] })->send(data => '{}');
($connect) = reverse grep { $_->{kind} == CONNECT } packets($server);
is((unpack 'n/a C C', $connect->{body})[2], 0, 'with QoS 2 the session is to last');
new_sink($server, { qos => [2], session_expiry => [77] })->send(data => '{}');
($connect) = reverse grep { $_->{kind} == CONNECT } packets($server);
like(unpack('H*', $connect->{body}), qr/^00044d5154540502003c0a110000004d/, 'in MQTT 5, for so long');

# ---- what a message looks like ----

# The last publication, of one message.
sub published
{
	my ($settings, $format, %message) = @_;
	my $result = new_sink($server, $settings, host => { format => $format })->send(%message);

	is($result->{class}, 'ok', "$format is sent") or diag($result->{detail});
	return (publications($server))[-1];
}

# Identifiers, with their values as text.
sub properties_of
{
	my ($publication) = @_;
	my $length = ord $publication->{rest};
	my $bytes = substr $publication->{rest}, 1, $length;
	my @found;

	while ($bytes ne '')
	{
		my $id = ord substr $bytes, 0, 1, '';
		if ($id == 0x26)
		{
			my ($name, $value) = unpack 'n/a n/a', $bytes;
			substr $bytes, 0, 4 + length($name) + length($value), '';
			push @found, "$name=$value";
		}
		elsif ($id == 1) { push @found, 'text=' . ord substr $bytes, 0, 1, ''; }
		elsif ($id == 2) { push @found, 'expiry=' . unpack 'N', substr $bytes, 0, 4, ''; }
		elsif ($id == 3)
		{
			my ($type) = unpack 'n/a', $bytes;
			substr $bytes, 0, 2 + length $type, '';
			push @found, "type=$type";
		}
		else { die "property $id"; }
	}
	return join ' ', @found;
}

my %event = (id => 'i-1', data => '{"é":1}', content_type => 'application/json');
my $p = published({}, 'cloudevents', %event, content_type => 'application/cloudevents+json');
is(properties_of($p), 'text=1 type=application/cloudevents+json', 'structured: the content type');
like($p->{rest}, qr/\{"é":1\}$/, 'and the payload');
$p = published({}, 'cloudevents-binary', %event, 'a.id' => 'i-1', 'a.subject' => 'é "x"', 'h.x-trace' => 'v');
is(properties_of($p), 'text=1 type=application/json id=i-1 subject=é "x" x-trace=v', 'binary: attributes without a prefix, and headers');
$p = published({ 'properties.site' => 'north', message_expiry => [60] }, 'raw', %event, content_type => 'image/png');
is(properties_of($p), 'type=image/png expiry=60 evstore-id=i-1 site=north', 'raw: with the id, and what is configured');
$p = published({}, 'raw', %event, data => "\xff\xfe", content_type => 'text/plain');
is(properties_of($p), 'type=text/plain evstore-id=i-1', 'what says that it is text is looked at');
$p = published({}, 'raw', %event, content_type => 'text/plain; charset=latin1');
is(properties_of($p), 'type=text/plain; charset=latin1 evstore-id=i-1', 'text of another encoding is none for MQTT');
$p = published({ version => '3.1.1', retain => \1, topic => 'a/{topic}/b' }, 'raw', id => 'i', topic => 'x/y');
is("$p->{topic} $p->{flags} $p->{rest}", 'a/x/y/b 3 ', 'an empty payload; retained, and the topic is filled in');

# ---- what cannot be sent ----

for (
	[ { topic => 'a/#' }, qr/wildcard/ ], [ { topic => '+' }, qr/wildcard/ ], [ { topic => '' }, qr/empty/ ],
	[ { topic => '$SYS/x' }, qr/"\$"/ ], [ { topic => "a\nb" }, qr/control/ ], [ { topic => "a\xc3" }, qr/UTF-8/ ],
	[ { topic => "\xed\xa0\x80" }, qr/UTF-8/ ], [ { topic => "\xef\xbf\xbf" }, qr/control/ ], [ { topic => "\xc0\x80" }, qr/UTF-8/ ],
	[ { topic => 'x' x 65536 }, qr/65535 bytes/ ], [ { topic => 't', 'h.x' => "a\tb" }, qr/control/ ], [ { topic => 't', 'h.x' => 'x' x 65536 }, qr/65535 bytes/ ],
	[ { topic => 't', 'h.type' => 'x', 'a.type' => 'y' }, qr/name of an attribute/ ], [ { topic => 't', content_type => "a\rb" }, qr/content type/ ])
{
	my ($message, $pattern) = @$_;
	my $result = new_sink($server, { topic => '{topic}' })->send(data => '{}', %$message);
	my $shown = join ' ', map { "$_=" . substr($message->{$_}, 0, 20) =~ s/[^ -~]/?/gr } sort keys %$message;

	is($result->{class}, 'permanent', "parked: $shown");
	like($result->{detail}, $pattern, 'and it says why');
}
is(new_sink($server, { topic => '{topic}' })->send(topic => 'x' x 65535)->{class}, 'ok', 'a topic may be that long');

# ---- codes ----

# What a result is when the server acknowledges with this code.
for (
	[ 0x00, 'ok' ], [ 0x10, 'ok' ], [ 0x80, 'retry' ], [ 0x83, 'retry' ], [ 0x87, 'retry_sink' ], [ 0x90, 'permanent' ], [ 0x91, 'retry_sink' ],
	[ 0x95, 'permanent' ], [ 0x97, 'retry' ], [ 0x99, 'permanent' ], [ 0xC7, 'retry' ])
{
	my ($code, $class) = @$_;

	foreach my $qos (1, 2)
	{
		my $result = outcome(sub {
			my ($kind, $flags, $body) = @_;
			return $kind == PUBLISH ? acknowledge($qos == 1 ? PUBACK : PUBREC, id_of($body), $code) : obey(@_);
		}, { qos => [$qos] });
		# With QoS 2 success is what PUBCOMP says.
		my $expected = $qos == 2 && $code == 0x10 ? 0 : $code;
		like($result, qr/^$class $expected .*${\($expected ? sprintf '\(0x%02X\)', $code : '')}/, sprintf 'QoS %d, 0x%02X is %s', $qos, $code, $class);
	}
}
like(outcome(sub { $_[0] == PUBLISH ? acknowledge(PUBACK, 1, 0x97, "a\nb\x{1}c\xff hidden") : obey(@_) }),
	qr/^retry 151 quota exceeded \(0x97\): a b c$/, 'with the words of the server, without control characters');
my $talkative = sub { $_[0] == CONNECT ? connack(0x86, 0, "\x1f" . pack('n/a*', 'no user with t0psecret')) : obey(@_) };
my $words = outcome($talkative, { user => 'u', password => { secret => 's' } }, secrets => { s => 't0psecret' });
is($words, 'retry_sink 0 the server refuses: bad user name or password (0x86)', 'but not when the password is among them');

# What a result is when the server refuses the connection, or ends it, with this code.
for (
	[ 0x80, 'retry_sink' ], [ 0x84, 'fatal' ], [ 0x85, 'fatal' ], [ 0x86, 'retry_sink' ], [ 0x87, 'retry_sink' ], [ 0x88, 'retry_sink' ],
	[ 0x89, 'retry_sink' ], [ 0x8A, 'retry_sink' ], [ 0x9C, 'retry_sink' ], [ 0x9D, 'fatal' ], [ 0x9F, 'retry_sink' ])
{
	my ($code, $class) = @$_;
	my $result = outcome(sub { $_[0] == CONNECT ? connack($code, 0, "\x1c" . pack('n/a*', 'other.example')) : obey(@_) });

	like($result, qr/^$class .*server reference: other\.example/, sprintf 'CONNACK 0x%02X is %s', $code, $class);
}
for ([ 1, 'fatal' ], [ 2, 'fatal' ], [ 3, 'retry_sink' ], [ 4, 'retry_sink' ], [ 5, 'retry_sink' ], [ 99, 'retry_sink' ])
{
	my ($code, $class) = @$_;
	like(outcome(sub { $_[0] == CONNECT ? connack($code) : obey(@_) }, { version => '3.1.1' }), qr/^$class /, "CONNACK $code of 3.1.1 is $class");
}
for (
	[ 0x8E, 'fatal' ], [ 0x8B, 'retry_sink' ], [ 0x9A, 'fatal' ], [ 0x98, 'retry_sink' ], [ 0x95, 'permanent' ], [ 0x99, 'permanent' ], [ 0x81, 'retry' ])
{
	my ($code, $class) = @$_;
	like(outcome(sub { $_[0] == PUBLISH ? packet(DISCONNECT, chr $code) : obey(@_) }), qr/^$class .*the server has disconnected/,
		sprintf 'DISCONNECT 0x%02X is %s', $code, $class);
}

# The server says why, and is gone before that is read: the next thing that happens is a
# write that fails.
$server = fake_server(sub { $_[0] == PUBLISH && $_[2] =~ /last$/ ? \packet(DISCONNECT, "\x8e") : obey(@_) });
$sink = new_sink($server);
is($sink->send(data => '{}')->{class}, 'ok', 'a connection');
$sink->add(data => 'last');
$sink->submit;
ok(poll(sub { (packets($server))[-1]{kind} == ENDED }), 'that the server ends');
$sink->add(data => 'more');
$sink->submit;
is(join(' ', map { "$_->{class} $_->{code}" } $sink->wait_for(2)), 'fatal 142 fatal 142', 'what it said before is read, though writing has failed');

# Which of several it is about is not known.
$server = fake_server(sub { $_[0] == PUBLISH ? packet(DISCONNECT, "\x99") : obey(@_) });
is(join(' ', map { $_->{class} } new_sink($server)->send_all(map { { data => $_ } } 1 .. 3)), 'retry_sink retry_sink retry_sink',
	'a message that ends the connection among others is an outage');

# What a server cannot do is said when it signs us in.
for ([ "\x24\x01", { qos => [2] }, qr/fatal .*"qos"/ ], [ "\x24\x00", {}, qr/fatal .*QoS 0 only/ ], [ "\x25\x00", { retain => \1 }, qr/fatal .*"retain"/ ],
	[ "\x25\x00", {}, qr/^ok/ ], [ "\x24\x01", {}, qr/^ok/ ],
	[ "\x27\x00\x00\x00\x40", { 'properties.a' => 'x' x 100 }, qr/permanent 0 a packet of \d+ bytes is more than the server's maximum of 64/ ])
{
	my ($properties, $settings, $pattern) = @$_;
	like(outcome(sub { $_[0] == CONNECT ? connack(0, 0, $properties) : obey(@_) }, $settings), $pattern, 'CONNACK with ' . unpack('H*', $properties));
}

# ---- what is no MQTT ----

for (
	[ 'not MQTT at all', sub { $_[0] == CONNECT ? "HTTP/1.1 400 Bad Request\r\n\r\n" : '' }, qr/not an MQTT server/ ],
	[ 'another packet first', sub { $_[0] == CONNECT ? packet(PINGRESP, '') : '' }, qr/not an MQTT server/ ],
	[ 'a session though a new one was asked for', sub { $_[0] == CONNECT ? connack(0, 1, '') : '' }, qr/the server has a session/ ],
	[ 'CONNACK that is too short', sub { $_[0] == CONNECT ? packet(CONNACK, "\0") : '' }, qr/malformed/ ],
	[ 'CONNACK that is too long', sub { $_[0] == CONNECT ? packet(CONNACK, "\0\0\0x") : '' }, qr/malformed/ ],
	[ 'CONNACK with odd flags', sub { $_[0] == CONNECT ? packet(CONNACK, "\2\0\0") : '' }, qr/malformed/ ],
	[ 'a property that is none', sub { $_[0] == CONNECT ? connack(0, 0, "\x7e\0") : '' }, qr/malformed/ ],
	[ 'a property twice', sub { $_[0] == CONNECT ? connack(0, 0, "\x21\0\1\x21\0\1") : '' }, qr/malformed/ ],
	[ 'no message at a time', sub { $_[0] == CONNECT ? connack(0, 0, "\x21\0\0") : '' }, qr/malformed/ ],
	[ 'a string beyond its end', sub { $_[0] == CONNECT ? connack(0, 0, "\x1f\xff\xffx") : '' }, qr/malformed/ ],
	[ 'properties beyond their end', sub { $_[0] == CONNECT ? packet(CONNACK, "\0\0\x7f") : '' }, qr/malformed/ ],
	[ 'a length without an end', sub { $_[0] == CONNECT ? "\x20\xff\xff\xff\xff\xff" : '' }, qr/no packet/ ],
	[ 'a packet of 200 MB', sub { $_[0] == CONNECT ? "\x20\x80\x80\x80\x60" : '' }, qr/no packet/ ],
	[ 'a second CONNACK', sub { $_[0] == PUBLISH ? connack(0, 0, '') : obey(@_) }, qr/type 2, which nobody has asked for/ ],
	[ 'a publication', sub { $_[0] == PUBLISH ? packet(PUBLISH, "\0\1t") : obey(@_) }, qr/type 3, which/ ],
	[ 'an acknowledgement of nothing', sub { $_[0] == PUBLISH ? acknowledge(PUBACK, 7) : obey(@_) }, qr/acknowledges what was not sent/ ],
	[ 'one of packet 0', sub { $_[0] == PUBLISH ? acknowledge(PUBACK, 0) : obey(@_) }, qr/acknowledges what was not sent/ ],
	[ 'one of packet 65535', sub { $_[0] == PUBLISH ? acknowledge(PUBACK, 65535) : obey(@_) }, qr/acknowledges what was not sent/ ],
	[ 'one of another QoS', sub { $_[0] == PUBLISH ? acknowledge(PUBREC, 1) : obey(@_) }, qr/acknowledges what was not sent/ ],
	[ 'half an acknowledgement', sub { $_[0] == PUBLISH ? packet(PUBACK, "\0") : obey(@_) }, qr/malformed/ ],
	[ 'the end, within a packet', sub { $_[0] == PUBLISH ? undef : obey(@_) }, qr/closed it|reset/ ],
	[ 'the end, before a word', sub { $_[0] == 0 ? undef : '' }, qr/closed it|reset/ ])
{
	my ($name, $script, $pattern) = @$_;
	my $result = outcome($script);

	like($result, qr/^retry_sink 0 /, "an outage: $name");
	like($result, $pattern, 'and it says so');
}
like(outcome(sub { $_[0] == PUBLISH ? packet(DISCONNECT, '') : obey(@_) }, { version => '3.1.1' }), qr/^retry_sink .*type 14/, 'DISCONNECT in 3.1.1');
like(outcome(sub { $_[0] == CONNECT ? '' : obey(@_) }, {}, host => { timeout_ms => 200 }), qr/^retry_sink 0 no connection to .* within 200 ms/, 'no CONNACK');
like(outcome(sub { $_[0] == PUBLISH ? '' : obey(@_) }, {}, host => { timeout_ms => 200 }), qr/^retry_sink 0 no acknowledgement within 200 ms/, 'no PUBACK');
like(outcome(sub { $_[0] == PUBREL ? '' : obey(@_) }, { qos => [2] }, host => { timeout_ms => 200 }), qr/^retry_sink 0 no acknowledgement/,
	'a message is not done before PUBCOMP');
like(outcome(sub { $_[0] == PUBREL ? acknowledge(PUBCOMP, 1, 0x92) : obey(@_) }, { qos => [2] }), qr/^retry_sink 0 the server has lost a message/,
	'nor when the server does not know of it any more');

# ---- the window ----

for my $case ([ 5, {}, "\x21\0\3" ], [ 5, { max_in_flight => [3] }, '' ], [ '3.1.1', { max_in_flight => [3] }, undef ])
{
	my ($version, $settings, $properties) = @$case;
	my @waiting;
	# Every third publication is a reason to acknowledge three.
	my $server = fake_server(sub {
		my ($kind, $flags, $body) = @_;
		return connack(0, 0, $properties) if $kind == CONNECT;
		return obey(@_) unless $kind == PUBLISH;
		push @waiting, id_of($body);
		return @waiting == 3 ? join('', map { acknowledge(PUBACK, $_) } splice @waiting) : @waiting > 3 ? undef : '';
	});
	is(join(' ', map { $_->{class} } new_sink($server, { version => $version, %$settings })->send_all(map { { data => $_ } } 1 .. 30)),
		join(' ', ('ok') x 30), "$version: no more in flight than allowed");
}

# ---- a key's order when one message fails ----

$server = fake_server(sub {
	my ($kind, $flags, $body) = @_;
	return $kind == CONNECT ? connack(0, 0, "\x21\0\1") : $kind == PUBLISH && $body =~ /no$/ ? acknowledge(PUBACK, id_of($body), 0x97) : obey(@_);
});
is(join(' ', map { $_->{class} } new_sink($server)->send_all(
			{ key => 'a', data => 'no' }, { key => 'a', data => '1' }, { key => 'b', data => '2' }, { key => 'a', data => '3' }, { data => '4' })),
	'retry returned ok returned ok', 'what is behind a failed message of its key is not sent');
is(join(' ', map { substr $_->{rest}, -1 } publications($server)), 'o 2 4', 'and is not there');

# ---- the connection is lost: QoS 2 ----

# Three messages; the connection ends in a state of them, and the three come again.
sub interrupted
{
	my ($name, $version, $script, $present, $classes, $expected, %settings) = @_;
	my $server = fake_server(sub {
		my ($kind, $flags, $body, $n) = @_;
		return connack(0, $n > 1 ? $present : 0, $version == 5 ? '' : undef) if $kind == CONNECT;
		return $n == 1 ? $script->(@_) : obey(@_);
	});
	my $sink = new_sink($server, { qos => [2], version => $version == 5 ? '5' : '3.1.1', %settings });
	my @messages = map { { id => "id-$_", data => "m$_" } } 1 .. 3;

	is(join(' ', map { $_->{class} } $sink->send_all(@messages)), $classes, "$name: the outage");
	is(join(' ', map { $_->{class} } $sink->send_all(@messages)), 'ok ok ok', "$name: all come again");
	my @second = grep { $_->{connection} == 2 && ($_->{kind} == PUBLISH || $_->{kind} == PUBREL) } packets($server);
	is(join(' ', map {
		$_->{kind} == PUBREL ? 'rel' . unpack('n', $_->{body})
		  : ($_->{flags} >> 3 ? 'dup' : 'pub') . id_of($_->{body}) . substr $_->{body}, -2
	} @second), $expected, $name);
	my @connects = map { $_->{body} } grep { $_->{kind} == CONNECT } packets($server);
	is((unpack 'n/a C C', $connects[1])[2] & 2, 0, "$name: the session is resumed");
	end_program($server->{pid});
	return;
}

my $npublished = 0;
my $all_sent = sub { $_[0] == PUBLISH ? (++$npublished % 3 == 0 ? undef : '') : obey(@_) };
my $rest_of = 'rel1 rel2 rel3';
interrupted('no PUBREC', 5, $all_sent, 1, 'retry_sink retry_sink retry_sink', 'dup1m1 dup2m2 dup3m3 rel1 rel2 rel3');
interrupted('no PUBREC, no session', 5, $all_sent, 0, 'retry_sink retry_sink retry_sink', 'pub4m1 pub5m2 pub6m3 rel4 rel5 rel6');
interrupted('no PUBREC, 3.1.1', 4, $all_sent, 1, 'retry_sink retry_sink retry_sink', 'dup1m1 dup2m2 dup3m3 rel1 rel2 rel3');
my $released = sub { $_[0] == PUBREL && unpack('n', $_[2]) == 3 ? undef : $_[0] == PUBREL ? '' : obey(@_) };
interrupted('no PUBCOMP', 5, $released, 1, 'retry_sink retry_sink retry_sink', 'rel1 rel2 rel3');
interrupted('no PUBCOMP, no session', 5, $released, 0, 'retry_sink retry_sink retry_sink', 'pub4m1 pub5m2 pub6m3 rel4 rel5 rel6');
my $one_each = sub {
	my ($kind, $flags, $body) = @_;
	return $kind == PUBLISH && id_of($body) == 3 ? '' : $kind == PUBREL && unpack('n', $body) == 2 ? undef : obey(@_);
};
interrupted('one done, one released, one published', 5, $one_each, 1, 'ok retry_sink retry_sink', 'rel2 pub4m1 dup3m3 rel4 rel3');

# A message that is refused: what was interrupted behind it comes as a new one.
$server = fake_server(sub {
	my ($kind, $flags, $body, $n) = @_;
	return connack(0, $n > 1, '') if $kind == CONNECT;
	return $kind == PUBLISH && $n == 1 ? (id_of($body) == 3 ? undef : '')
	  : $kind == PUBLISH && $body =~ /m1$/ ? acknowledge(PUBREC, id_of($body), 0x97)
	  : $kind == PUBREL && $n > 1 && unpack('n', $body) < 4 ? acknowledge(PUBCOMP, unpack('n', $body), 0x92) : obey(@_);
});
$sink = new_sink($server, { qos => [2] });
my @three = map { { id => "id-$_", data => "m$_", key => 'k' } } 1 .. 3;
$sink->send_all(@three);
is($sink->send(%{ $three[0] })->{class}, 'retry', 'the first one is refused when it comes again');
is(join(' ', map { $_->{class} } $sink->send_all(@three[ 1, 2 ])), 'ok ok', 'the others are taken');
is(join(' ', map { $_->{dup} . $_->{id} } grep { $_->{connection} == 2 } publications($server)), '11 04 05', 'as new ones');

# What is interrupted and does not come again must not stop others when the server takes no more.
$server = fake_server(sub {
	my ($kind, $flags, $body, $n) = @_;
	return $kind == CONNECT ? connack(0, $n > 1, "\x21\0\3") : $kind == PUBLISH && $n == 1 ? (id_of($body) == 3 ? undef : '')
	  : $kind == PUBREL && unpack('n', $body) < 4 ? acknowledge(PUBCOMP, unpack('n', $body), 0x92) : obey(@_);
});
$sink = new_sink($server, { qos => [2] });
$sink->send_all(@three);
is(join(' ', map { $_->{class} } $sink->send_all(map { { id => "other-$_", data => $_ } } 1 .. 6)), join(' ', ('ok') x 6),
	'interrupted messages that never come again do not fill the window');
is(join(' ', map { ($_->{kind} == PUBREL ? 'rel' : 'pub') } (grep { $_->{connection} == 2 && ($_->{kind} == PUBLISH || $_->{kind} == PUBREL) } packets($server))[ 0 .. 3 ]),
	'rel rel rel pub', 'they are released');

# A session that is not ours: 3.1.1 has to wipe it out.
$server = fake_server(sub {
	my ($kind, $flags, $body, $n) = @_;
	return $kind == CONNECT ? connack(0, $n == 1) : obey(@_);
});
is(new_sink($server, { qos => [2], version => '3.1.1' })->send(data => '{}')->{class}, 'ok', 'a session of somebody else: no outage');
is(join(' ', map { (unpack 'n/a C C', $_->{body})[2] } grep { $_->{kind} == CONNECT } packets($server)), '0 2', 'it is wiped out');

# ---- servers, pauses, beats ----

my $closed = PostgreSQL::Test::Cluster::get_free_port();
$server = fake_server(\&obey);
my @two = (map { "mqtt://127.0.0.1:$_" } $closed, $server->{port});
$sink = EvsSend->new($module, { 'servers.0' => $two[0], 'servers.1' => $two[1], topic => 't' });
is($sink->validate || $sink->open, '', 'two servers');
is($sink->send(data => '{}')->{class}, 'ok', 'if one is not there the other is asked, and nobody notices');
my $dying = fake_server(sub { $_[0] == PUBLISH ? undef : obey(@_) });
$sink = EvsSend->new($module, { 'servers.0' => "mqtt://127.0.0.1:$dying->{port}", 'servers.1' => $two[1], topic => 't' });
is($sink->validate || $sink->open, '', 'two servers');
is(join(' ', map { $sink->send(data => '{}')->{class} } 1 .. 2), 'retry_sink ok', 'after one has died it is the turn of the other');
my $moved = fake_server(sub { $_[0] == CONNECT ? connack(0x9D, 0, '') : obey(@_) });
$sink = EvsSend->new($module, { 'servers.0' => "mqtt://127.0.0.1:$moved->{port}", 'servers.1' => $two[1], topic => 't' });
is($sink->validate || $sink->open, '', 'two servers');
is($sink->send(data => '{}')->{class}, 'ok', 'one that wants no connections stops nothing if there is another');

# A server that ends the connection because of a message, and does not say so.
my $mute = fake_server(sub { $_[0] == PUBLISH && $_[2] =~ /poison$/ ? undef : obey(@_) });
for my $settings ({ version => '3.1.1' }, { qos => [2] })
{
	$sink = new_sink($mute, $settings);
	is(join(' ', map { $sink->send(id => 'bad', data => 'poison')->{class} } 1 .. 4), 'retry_sink retry_sink retry retry',
		'a message that ends each connection on which it is alone is to blame');
	is(join(' ', map { $_->{class} } $sink->send_all({ id => 'good', data => 'x' }, { id => 'bad', data => 'poison' })), 'ok retry',
		'and others are not') if $settings->{version};
	is($sink->send(id => 'good', data => '{}')->{class}, 'ok', 'who are delivered');
	is(join(' ', map { $sink->send(id => $_, data => 'poison')->{class} } qw(a b a b)), join(' ', ('retry_sink') x 4), 'different ones are an outage');
}

# A connection is tried after 0.2, 0.4, 0.8 s, and so on, however often messages come.
my $rude = fake_server(sub { $_[0] == 0 ? '' : undef });
$sink = new_sink($rude);
is($sink->send(data => '{}')->{class}, 'retry_sink', 'no connection') for 1 .. 4;
my @times = map { $_->{time} } grep { $_->{kind} == 0 } packets($rude);
is(scalar @times, 4, 'each is one attempt');
my @pauses = map { $times[$_] - $times[ $_ - 1 ] } 1 .. 3;
ok($pauses[0] > 0.19 && $pauses[1] > 0.39 && $pauses[2] > 0.79, "pauses double: @pauses");

# Where nothing is said a sign of life is sent.
$server = fake_server(sub {
	my ($kind) = @_;
	return $kind == PINGREQ ? packet(PINGRESP, '') . acknowledge(PUBACK, 1) : $kind == PUBLISH ? '' : obey(@_);
});
is(new_sink($server, { keepalive => [1] })->send(data => '{}')->{class}, 'ok', 'keep alive: a ping within the time');
$server = fake_server(sub {
	my ($kind) = @_;
	return $kind == CONNECT ? connack(0, 0, "\x13\0\1") : $kind == PINGREQ ? packet(PINGRESP, '') . acknowledge(PUBACK, 1) : $kind == PUBLISH ? '' : obey(@_);
});
is(new_sink($server)->send(data => '{}')->{class}, 'ok', 'within that of the server');

# ---- where it may connect ----

$server = fake_server(\&obey);
$sink = EvsSend->new($module, { url => "mqtt://127.0.0.1:$server->{port}", topic => 't' });
$sink->command(deny => '127.0.0.1');
like($sink->validate, qr/"url": a connection to 127.0.0.1 port \d+ is not allowed/, 'an address that is not allowed');
$sink = EvsSend->new($module, { url => "mqtt://localhost:$server->{port}", topic => 't' });
is($sink->validate || $sink->open, '', 'a name that is');
$sink->command(deny => $_) for '127.0.0.1', '::1';
my $result = $sink->send(data => '{}');
like("$result->{class} $result->{detail}", qr/^retry_sink .*its address is not/, 'but its address is not');
is(scalar packets($server), 0, 'there was no connection');
$sink->command('permit');
is($sink->send(data => '{}')->{class}, 'ok', 'until it is');
$sink = EvsSend->new($module, { url => "mqtt://localhost:$server->{port}", topic => 't' });
$sink->command(deny => '::1');
is($sink->validate || $sink->open || $sink->send(data => '{}')->{class}, 'ok', 'of several addresses one that is allowed is used');
$sink->command('permit');
my (undef, @asked) = $sink->command('egress');
ok((grep { $_ eq "localhost 127.0.0.1 $server->{port}" } @asked), 'which was asked for, with the name');
$sink = EvsSend->new($module, { 'servers.0' => "mqtt://127.0.0.2:$server->{port}", 'servers.1' => "mqtt://127.0.0.1:$server->{port}", topic => 't' });
is($sink->validate || $sink->open, '', 'two servers');
$sink->command(deny => '127.0.0.2');
is($sink->send(data => '{}')->{class}, 'ok', 'a server that is not allowed any more is passed over');

# ---- a test message beside the relay ----

$server = fake_server(\&obey);
my $run = harness('--test', '--messages=1', $module, "url=mqtt://127.0.0.1:$server->{port}");
is($run->{status}, 0, 'a test message') or diag($run->{out});
($connect) = grep { $_->{kind} == CONNECT } packets($server);
like($connect->{body}, qr/evs\w{19}t$/, 'has a client id of its own, so that the relay goes on');

# ---- a server that is killed: what it has acknowledged it has ----

# Of a log of publications: each position is there, and the first arrivals of each
# key are in order.  Returns how many came more than once.
sub check_arrivals
{
	my ($name, $n, @positions) = @_;
	my (%seen, %last, @wrong);
	my $again = 0;

	foreach (@positions)
	{
		my ($position, $key) = @$_;

		$again++, next if $seen{$position}++;
		push @wrong, "$position comes after $last{$key}" if ($last{$key} // 0) > $position;
		$last{$key} = $position;
	}
	push @wrong, map { "$_ is missing" } grep { !$seen{$_} } 1 .. $n;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(!@wrong && keys %seen == $n, $name);
	diag(join "\n", "EVS_SEED=$seed", @wrong[ 0 .. ($#wrong < 9 ? $#wrong : 9) ]) if @wrong;
	return $again;
}

sub arrival
{
	my ($topic, $payload) = @_;
	my ($position) = $payload =~ /"sequence":"0*(\d+)"/;

	return [ $position, $topic ];
}

for my $qos (1, 2)
{
	my $n = 3000;
	my $left = 300 + int rand 500;
	# It dies with everything that it has not read yet.
	my $server = fake_server(sub {
		my ($kind) = @_;
		if ($kind == PUBLISH && --$left < 0)
		{
			$left = 300 + int rand 500;
			return undef;
		}
		return obey(@_);
	});
	my $run = harness("--messages=$n", '--in-flight=100', '--retry-delay=0', '--give-up=60', '--topic=d/{key}', $module,
		"url=mqtt://127.0.0.1:$server->{port}", "qos:=$qos");
	is($run->{status}, 0, "QoS $qos: the server dies again and again") or diag($run->{out});
	cmp_ok($run->{count}{retry_sink}, '>', 0, "QoS $qos: which is an outage");
	check_arrivals("QoS $qos: all are there, in order", $n, map { arrival($_->{topic}, $_->{rest}) } publications($server));
	end_program($server->{pid});
}

is(($patient->command('rate'))[0], '-1', 'meanwhile nothing was heard of a server for 15 seconds');
my @late = packets($silent);
is($late[-1]{kind}, PINGREQ, 'which was asked for a sign of life, and gave one');
$patient->finish;

# ---- mosquitto ----

SKIP:
{
	skip 'mosquitto or mosquitto_sub is not installed' unless $mosquitto && $reader;
	my %server = %{ start_mosquitto($mosquitto) };
	my @to = ($module, "url=mqtt://localhost:$server{port}");

	# All messages of a topic, read by another program.  The last one has their QoS: there
	# is no order between messages of different ones.
	my $all = sub {
		my ($name, $topic, $qos, $format, @options) = @_;
		my $sink = new_sink($server{port}, { topic => "$topic/last", qos => [$qos] });
		is($sink->send(data => 'LAST')->{class}, 'ok', 'the last one');
		return read_messages($reader, \%server, $name, "$topic/#", $format, qr/LAST/, @options);
	};
	my $keep = sub { keep_for_reader($reader, \%server, $_[0], "$_[0]/#") };

	for my $version (5, '3.1.1')
	{
		for my $qos (1, 2)
		{
			my $topic = "plain$qos$version";
			$keep->($topic);
			my $run = harness('--messages=2000', "--topic=$topic/{key}", @to, "version=$version", "qos:=$qos");
			is($run->{status}, 0, "MQTT $version, QoS $qos: all delivered, no violation") or diag($run->{out});
			my $again = check_arrivals("MQTT $version, QoS $qos: all there, in order", 2000,
				map { arrival(split /\|/, $_, 2) } $all->($topic, $topic, $qos, '%t|%p'));
			is($again, 0, 'each once');
		}
	}

	# From a store.
	$keep->('store');
	is(send_from_store(500, 'mqtt', { url => "mqtt://localhost:$server{port}", qos => 2 },
			{ topic => 'store/{stream}', format => 'raw', in_flight => 100 }),
		500, 'a relay of a store sends all');
	is(check_arrivals('and it is there, in order', 500, map { [ m{^store/order-(\d)\|\{"n": (\d+)\}$} ? ($2, $1) : () ] }
				$all->('store', 'store', 2, '%t|%p')),
		0, 'each once');

	# What mosquitto_sub sees of a message.
	$keep->('look');
	harness('--messages=1', '--format=cloudevents-binary', '--topic=look', @to, 'retain:=true', 'message_expiry:=1000', 'properties.site=north');
	my ($line) = $all->('look', 'look', 1, '%t|%F|%C|%E|%P|%p', '-V', '5', '-x', '600');
	my ($topic, $text, $type, $expiry, $user_properties, $payload) = split /\|/, $line;
	like("$topic $text $type $expiry", qr{^look 1 application/json \d+$}, 'binary: topic, text, content type, expiry');
	like($user_properties, qr/specversion:1\.0 .*\bid:\S+ .*type:HarnessEvent .*x-header-0:value 0/, 'binary: attributes and headers');
	like($user_properties, qr/site:north/, 'binary: what is configured');
	like($payload, qr/^\{"n":0,/, 'binary: the data');
	my ($retained) = read_messages($reader, \%server, 'later', 'look', '%r %t', qr/^$/, '-C', 1);
	is($retained, '1 look', 'it is retained');
	new_sink($server{port}, { topic => 'look', retain => \1 }, host => { format => 'raw' })->send();
	keep_for_reader($reader, \%server, 'later still', 'look');
	new_sink($server{port}, { topic => 'look' })->send(data => 'a new one');
	is((read_messages($reader, \%server, 'later still', 'look', '%p', qr/^$/, '-C', 1))[0], 'a new one', 'until one without payload is');

	for my $format (qw(cloudevents cloudevents-binary raw))
	{
		my $run = harness('--edge', '--test', "--format=$format", '--messages=200', '--replay=5', '--topic=edge/{key}', @to, 'qos:=2');
		is($run->{status}, 0, "$format keeps the rules") or diag($run->{out});
		is($run->{delivered} + $run->{parked}, 206, "$format: every message has its result");
	}
	harness('--messages=1000', '--destroy-at=500', '--topic=x', @to);
	is(harness('--messages=1000', '--destroy-at=500', '--topic=x', @to, 'qos:=2')->{status}, 0, 'destroy() with messages in flight');

	# ---- connections that break ----

	# So many bytes to the server and from it, then the connection is gone.
	for my $qos (1, 2)
	{
		for my $version (5, '3.1.1')
		{
			my $n = 4000;
			my $topic = "cut$qos$version";
			my @limits = map { rand() < 0.5 ? [ 2000 + int rand 200_000, undef ] : [ undef, 100 + int rand 3000 ] } 1 .. 8;
			my $proxy = start_proxy($server{port}, @limits);

			$keep->($topic);
			my $run = harness("--messages=$n", '--retry-delay=0', '--give-up=60', "--topic=$topic/{key}", $module,
				"url=mqtt://127.0.0.1:$proxy->{port}", "version=$version", "qos:=$qos");
			is($run->{status}, 0, "MQTT $version, QoS $qos: the connection breaks") or diag("EVS_SEED=$seed $run->{out}");
			my $again = check_arrivals("MQTT $version, QoS $qos: all there, in order", $n,
				map { arrival(split /\|/, $_, 2) } $all->($topic, $topic, $qos, '%t|%p'));
			is($again, 0, "MQTT $version, QoS 2: each once") or diag("EVS_SEED=$seed") if $qos == 2;
			end_program($proxy->{pid});
		}
	}

	# ---- mosquitto is restarted, stopped for a while; the relay is killed ----

	for my $qos (1, 2)
	{
		my $n = 6000;
		my $topic = "restart$qos";
		my @options = ("--messages=$n", '--rate=6000', '--retry-delay=0', '--give-up=60', "--topic=$topic/{key}", @to, "qos:=$qos");

		$keep->($topic);
		my $run = start_harness(@options);
		my $done = sub { -e $run->{log} ? scalar(() = slurp_file($run->{log}) =~ / ok /g) : 0 };
		for my $share (0.2, 0.5)
		{
			poll(sub { $done->() > $n * $share }) or die 'nothing arrives';
			end_program($server{pid}, 'TERM');
			%server = %{ start_mosquitto($mosquitto, port => $server{port}) };
		}
		finish_harness($run);
		is($run->{status}, 0, "QoS $qos: mosquitto is restarted") or diag("EVS_SEED=$seed $run->{out}");
		cmp_ok($run->{count}{retry_sink}, '>', 0, "QoS $qos: which is an outage");
		my $again = check_arrivals("QoS $qos: all there, in order", $n, map { arrival(split /\|/, $_, 2) } $all->($topic, $topic, $qos, '%t|%p'));
		is($again, 0, 'QoS 2: each once') or diag("EVS_SEED=$seed") if $qos == 2;

		$topic = "stop$qos";
		$keep->($topic);
		$run = start_harness("--messages=$n", '--rate=8000', '--timeout=300', '--retry-delay=0', '--give-up=60', "--topic=$topic/{key}", @to, "qos:=$qos");
		poll(sub { $done->() > $n / 3 }) or die 'nothing arrives';
		kill 'STOP', $server{pid};
		ok(poll(sub { slurp_file($run->{log}) =~ /retry_sink/ }), "QoS $qos: a server that says nothing is an outage");
		kill 'CONT', $server{pid};
		finish_harness($run);
		is($run->{status}, 0, "QoS $qos: mosquitto is stopped for a while") or diag("EVS_SEED=$seed $run->{out}");
		$again = check_arrivals("QoS $qos: all there, in order", $n, map { arrival(split /\|/, $_, 2) } $all->($topic, $topic, $qos, '%t|%p'));
		is($again, 0, 'QoS 2: each once') or diag("EVS_SEED=$seed") if $qos == 2;

		# The relay goes on behind what it knows to be done.
		$topic = "relay$qos";
		$keep->($topic);
		$run = harness("--messages=$n", '--kill-at=' . (1000 + int rand 2000), "--topic=$topic/{key}", @to, "qos:=$qos");
		is($run->{status}, -9, "QoS $qos: the relay is killed");
		my %ok = map { $_ => 1 } $run->{results} =~ /^(\d+) \S+ ok /mg;
		my ($first) = grep { !$ok{$_} } 1 .. $n;
		$run = harness('--messages=' . ($n - $first + 1), "--first=$first", "--topic=$topic/{key}", @to, "qos:=$qos");
		is($run->{status}, 0, "QoS $qos: and started again") or diag($run->{out});
		$again = check_arrivals("QoS $qos: all there", $n, map { [ arrival(split /\|/, $_, 2)->[0], 'any' ] } $all->($topic, $topic, $qos, '%t|%p'));
		cmp_ok($again, '<=', 1000, "QoS $qos: no more come again than were in flight");
	}

	# A second process with the same id takes over; this server does not say why, so the
	# first comes back when the second has gone.
	$run = start_harness('--messages=6000', '--rate=3000', '--topic=x', '--retry-delay=0', @to);
	poll(sub { -e $run->{log} && -s $run->{log} }) or die 'nothing arrives';
	is(harness('--messages=10', '--topic=x', @to)->{status}, 0, 'a second process with the same id');
	finish_harness($run);
	is($run->{status}, 0, 'the first goes on when it has gone');
	# whether something was in flight at that moment is chance
	ok(poll(sub { slurp_file($server{log}) =~ /already connected, closing old connection/ }), 'which had lost its connection to it');

	# ---- limits, credentials, rights ----

	end_program($server{pid}, 'TERM');
	my $password_file = "$dir/passwords";
	append_to_file($password_file, "all:right\n");
	run_log([ 'mosquitto_passwd', '-U', $password_file ]) or die;
	append_to_file("$dir/acl", "user all\ntopic write open/#\ntopic read open/#\n");
	%server = %{ start_mosquitto($mosquitto,
			conf => "allow_anonymous false\npassword_file $password_file\nacl_file $dir/acl\nmax_packet_size 3000\n") };
	my %login = (user => 'all', password => { secret => 'pw' }, topic => '{topic}');
	$sink = new_sink($server{port}, \%login, secrets => { pw => 'right' });
	is($sink->send(topic => 'open/x', data => '{}')->{class}, 'ok', 'user and password');
	$result = $sink->send(topic => 'open/x', size => 3000);
	like("$result->{class} $result->{detail}", qr/^permanent .*more than the server's maximum of 3000/, 'a message that is too large is parked');
	$result = $sink->send(topic => 'shut/x', data => '{}');
	is("$result->{class} $result->{code}", 'retry_sink 135', 'a topic that we may not write to is an outage');
	is($sink->send(topic => 'open/x', data => '{}')->{class}, 'ok', 'it goes on after it');
	$sink = new_sink($server{port}, { %login, version => '3.1.1' }, secrets => { pw => 'right' });
	is($sink->send(topic => 'shut/x', data => '{}')->{class}, 'ok', 'a server of 3.1.1 cannot say so');
	for my $version (5, '3.1.1')
	{
		$sink = new_sink($server{port}, { %login, version => $version }, secrets => { pw => 'wrong' });
		$result = $sink->send(topic => 'open/x', data => '{}');
		like("$result->{class} $result->{detail}", qr/^retry_sink the server refuses: (not authorized|bad user)/, "MQTT $version: a wrong password is an outage");
		unlike($result->{detail}, qr/wrong/, 'and is not shown');
		$sink->secret('pw', 'right');
		is($sink->send(topic => 'open/x', data => '{}')->{class}, 'ok', 'until it is the right one');
	}
	$sink = new_sink($server{port}, \%login);
	like($sink->send(topic => 'open/x')->{detail}, qr/secret "pw" does not exist/, 'a secret that is not there');
	end_program($server{pid}, 'TERM');

	# ---- TLS ----

	SKIP:
	{
		skip 'openssl is not installed' unless grep { -x "$_/openssl" } split /:/, $ENV{PATH};
		my $ca = make_ca("$dir/ca");
		my $certificate = make_certificate("$dir/server", $ca, names => 'DNS:localhost');
		my $client = make_certificate("$dir/client", $ca, names => 'DNS:client.example');
		%server = %{ start_mosquitto($mosquitto,
				conf => "allow_anonymous true\ncafile $ca.pem\ncertfile $certificate.pem\nkeyfile $certificate.key\nrequire_certificate true\n") };
		my %us = ('tls.cert_file' => "$client.pem", 'tls.key_file' => "$client.key");
		my $by_tls = sub {
			my ($host, %settings) = @_;
			my $sink = EvsSend->new($module, { url => "mqtts://$host:$server{port}", topic => 't', %settings });
			my $error = $sink->validate || $sink->open and die "$_[0]";
			my $result = $sink->send(size => 100_000);
			return "$result->{class} $result->{detail}";
		};

		like($by_tls->('localhost', %us, 'tls.ca_file' => "$ca.pem"), qr/^ok/, 'TLS, with certificates on both sides');
		like($by_tls->('localhost', 'tls.ca_file' => "$ca.pem"), qr/^retry_sink/, 'not without ours');
		like($by_tls->('127.0.0.1', %us, 'tls.ca_file' => "$ca.pem"), qr/^retry_sink the server's certificate is not accepted: .*mismatch/, 'nor for another name');
		like($by_tls->('localhost', %us), qr/^retry_sink the server's certificate is not accepted/, 'nor of nobody we know');
		like($by_tls->('localhost', 'tls.ca_file' => "$dir/none.pem"), qr/^retry_sink tls\.ca_file: /, 'nor with a file that is not there');
		my $run = harness('--messages=3000', '--topic=x', $module, "url=mqtts://localhost:$server{port}", "tls.ca_file=$ca.pem", map { "$_=$us{$_}" } keys %us);
		is($run->{status}, 0, 'many messages by TLS') or diag($run->{out});
	}
}

done_testing();
