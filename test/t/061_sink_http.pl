# The http sink, against receivers that do what they are told to.  sink_send has
# it send single messages; at the end sink_harness sends many, in all formats.

use strict;
use warnings;
use utf8;

use Digest::SHA qw(hmac_sha256_hex hmac_sha256_base64 sha256_hex);
use File::Basename 'dirname';
use FindBin;
use IO::Socket::IP;
use JSON::PP;
use lib $FindBin::Bin;
use MIME::Base64;
use EvsHttp;
use EvsSend;
use EvsSink;
use PostgreSQL::Test::Utils;
use Test::More;

my $module = sink_module('http');
plan skip_all => 'the http sink was not built' unless -e $module;

my $tmp = $PostgreSQL::Test::Utils::tmp_check;

# What the environment says about proxies and passwords must not matter.
append_to_file("$tmp/.netrc", "default login somebody password wrong\n");
$ENV{$_} = 'http://127.0.0.1:1' for qw(http_proxy https_proxy HTTPS_PROXY ALL_PROXY all_proxy);
$ENV{HOME} = $tmp;

my $server = http_server();
my $id = '00000000-0000-4000-8000-000000000000';

# a sink that is open
sub new_sink
{
	my ($settings, %opt) = @_;
	my $sink = EvsSend->new($module, $settings, %opt);
	my $error = $sink->validate || $sink->open;

	die "the sink does not open: $error" if $error;
	return $sink;
}

# class, code, time to wait and detail of one message to a path
sub outcome
{
	my ($path, %settings) = @_;
	my $sink = new_sink({ url => $server->url($path), %settings }, host => { timeout_ms => 5000 });

	return $sink->send(data => '{}');
}

# ---- what a response means ----

$server->requests;
my $nstatuses = 0;
foreach my $case (
	[ 'ok', 200, 201, 202, 203, 204, 299 ],
	[ 'fatal', 300, 301, 302, 303, 307, 308, 410 ],
	[ 'permanent', 400, 402, 406, 409, 411, 412, 413, 414, 415, 422, 451 ],
	[ 'retry', 408, 425, 429, 500, 501, 505, 599 ],
	[ 'retry_sink', 401, 403, 404, 405, 407, 502, 503, 504 ])
{
	my ($class, @statuses) = @$case;

	$nstatuses += @statuses;
	foreach my $status (@statuses)
	{
		my $result = outcome("/?status=$status");
		is("$result->{class} $result->{code} $result->{retry_after}", "$class $status -1", "$status is $class");
		is($result->{detail} eq '', $class eq 'ok', "and has a detail, or needs none");
	}
}
is(scalar $server->requests, $nstatuses, 'nothing is sent twice, and no redirect is followed');

foreach my $status (404, 405)
{
	my $sink = new_sink({ url => $server->url("/{topic}?status=$status") });
	is($sink->send(data => '{}', topic => 'a')->{class}, 'permanent',
		"$status where the message says where to go is about the message");
}

is(outcome('/?status=409', conflict_is_duplicate => \1)->{class}, 'duplicate', '409 as a duplicate');
is(outcome('/?status=409', conflict_is_duplicate => \0)->{class}, 'permanent', 'or not');

# ---- Retry-After ----

sub http_date
{
	my ($time) = @_;
	my @t = gmtime $time;

	return sprintf '%s, %02d %s %d %02d:%02d:%02d GMT', (qw(Sun Mon Tue Wed Thu Fri Sat))[ $t[6] ],
	  $t[3], (qw(Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec))[ $t[4] ], $t[5] + 1900, @t[ 2, 1, 0 ];
}

foreach my $case (
	[ 429, '7', 7000 ], [ 503, '0', 0 ], [ 408, '1', 1000 ], [ 503, ' 2 ', 2000 ],
	[ 503, http_date(time - 1000), 0 ], [ 503, 'soon', -1 ], [ 503, '-5', -1 ], [ 503, '', -1 ],
	[ 503, '99999999999999999999', 30 * 24 * 3600 * 1000 ], [ 400, '7', -1 ])
{
	my ($status, $value, $expected) = @$case;
	my $result = outcome("/?status=$status&header=Retry-After:" . ($value =~ s/ /+/gr));

	is($result->{retry_after}, $expected, "$status with Retry-After \"$value\"");
}
my $wait = outcome('/?status=429&header=retry-after:' . http_date(time + 100) =~ s/ /+/gr)->{retry_after};
cmp_ok($wait, '>', 90_000, 'a date in the future is a time to wait');
cmp_ok($wait, '<=', 100_000, 'up to it');

# ---- details ----

is(outcome('/?status=400&body=no+such+event')->{detail}, 'HTTP 400: no such event', 'an excerpt of the body');
is(outcome('/?status=400&body=a%0d%0ab%00c%1b[31m%7f%c2%9b.')->{detail}, 'HTTP 400: a  b c [31m   .',
	'without control characters');
is(outcome('/?status=400&body=%ff%c3%a9%c3x%ed%a0%80%c0%80.')->{detail}, "HTTP 400: ?\xc3\xa9?x?????.",
	'and as valid UTF-8');
is(outcome('/?status=400&body_size=201')->{detail}, 'HTTP 400: ' . 'x' x 200, '200 bytes of it');
is(outcome('/?status=400&body=' . 'x' x 199 . '%c3%a9')->{detail}, 'HTTP 400: ' . 'x' x 199,
	'no half of a character');
is(outcome('/?status=302&header=Location:/there')->{detail},
	'HTTP 302: redirects are not followed; set url to /there', 'a redirect says where to');
is(outcome('/?status=200&body_size=5000000')->{class}, 'ok', 'a body that is too long does not matter');
is(outcome('/?status=500&body_size=5000000')->{class}, 'retry', 'the status does');

# ---- no response ----

my $closed = IO::Socket::IP->new(LocalHost => '127.0.0.1', Listen => 1, Proto => 'tcp');
my $nobody = $closed->sockport;
close $closed;
is(new_sink({ url => "http://127.0.0.1:$nobody/" })->send(data => '{}')->{class}, 'retry_sink', 'connection refused');
is(outcome('/?reset=1')->{class}, 'retry_sink', 'reset instead of a response');
is(outcome('/?half=1&status=200&body=0123456789')->{class}, 'retry_sink', 'half a body');
is(outcome('/?half=1&status=200')->{class}, 'retry_sink', 'half a head');
is(outcome('/?garbage=1')->{class}, 'retry_sink', 'something that is not HTTP');

my @results;
my $impatient = { timeout_ms => 200 };
my $result = new_sink({ url => $server->url('/?hang=1') }, host => $impatient)->send(data => '{}');
is("$result->{class} $result->{detail}", 'retry no response within 200 ms', 'no response in time');
$result = new_sink({ url => $server->url('/?stall=1') }, host => $impatient)->send(size => 16 << 20);
is($result->{class}, 'retry', 'a body that is not read');
$result = new_sink({ url => $server->url('/?trickle=25') }, host => { timeout_ms => 800 })->send(size => 16 << 20);
is($result->{class}, 'ok', 'one that is read slowly, but is, may take longer');

# A full queue of connections: the kernel does not answer any more.
my $deaf = IO::Socket::IP->new(LocalHost => '127.0.0.1', Listen => 1, Proto => 'tcp');
listen $deaf, 0;
my @full = map { IO::Socket::IP->new(PeerHost => '127.0.0.1', PeerPort => $deaf->sockport,
	Proto => 'tcp', Blocking => 0) } 1 .. 3;
$result = new_sink({ url => 'http://127.0.0.1:' . $deaf->sockport, connect_timeout_ms => [200] })->send(data => '{}');
is($result->{class}, 'retry_sink', 'no connection in time is an outage');
like($result->{detail}, qr/timed? ?out/i, 'and says so');
my $start = time;
@results = new_sink({ url => 'https://127.0.0.1:' . $deaf->sockport, connect_timeout_ms => [300] })
  ->send_all(map { { data => '{}' } } 1 .. 64);
is(scalar(grep { $_->{class} eq 'retry_sink' } @results), 64, 'none of many waits for the others');
cmp_ok(time - $start, '<', 10, 'which would take 64 times as long');

is(new_sink({ url => 'http://nosuchhost.invalid/', connect_timeout_ms => [300] })->send(data => '{}')->{class},
	'retry_sink', 'a name that does not exist');

# Names are looked up in a thread, here one that gets no answer.
append_to_file("$tmp/slow_names.c", <<'END');
#include <unistd.h>
int getaddrinfo(const char *node, const char *service, const void *hints, void *result);
int getaddrinfo(const char *node, const char *service, const void *hints, void *result)
{
	for (;;)
		pause();
}
END
run_log([ $ENV{CC} // 'cc', '-shared', '-fPIC', '-o', "$tmp/slow_names.so", "$tmp/slow_names.c" ]) or die;
my @lookup = (env => { LD_PRELOAD => "$tmp/slow_names.so" });
my $sink = new_sink({ url => 'http://slow.example/', connect_timeout_ms => [200] }, @lookup);
is($sink->send(data => '{}')->{class}, 'retry_sink', 'a name that takes too long');
$sink->add(data => '{}') for 1 .. 5;
$sink->submit;
my @threads = grep { !/\/$sink->{pid}$/ } glob "/proc/$sink->{pid}/task/*";
cmp_ok(scalar @threads, '>', 0, 'there is a thread');
# signals 1 to 32 but SIGKILL and SIGSTOP, which cannot be, and glibc's own
is(scalar(grep { slurp_file("$_/status") !~ /^SigBlk:\t\w{8}(?i:7ffbfeff)$/m } @threads), 0, 'and it blocks all signals');
my ($took) = $sink->command('destroy');
cmp_ok($took, '<', 1000, 'nobody waits for it');
is($sink->finish, 0, 'nor does it matter when the process ends');

# ---- connections ----

$server->requests;
$sink = new_sink({ url => $server->url('/?gather=64') }, host => { in_flight => 64, timeout_ms => 60000 });
@results = $sink->send_all(map { { data => "[$_]" } } 1 .. 64);
is(scalar(grep { $_->{class} eq 'ok' } @results), 64, '64 requests are in flight at the same time');
$sink->send_all(map { { data => "[$_]" } } 1 .. 64);
my @requests = $server->requests;
my %used = map { $_->{connection} => 1 } @requests;
is(scalar @requests, 128, 'each is sent once');
is(scalar keys %used, 64, 'connections are used again');

$sink = new_sink({ url => $server->url });
$sink->send(data => "[$_]") for 1 .. 10;
@requests = $server->requests;
is(join(' ', map { $_->{body} } @requests), join(' ', map { "[$_]" } 1 .. 10), 'in order, one after the other');
is(scalar(grep { $_->{connection} == $requests[0]{connection} } @requests), 10, 'on one connection');

my $brief = http_server();
$sink = new_sink({ url => $brief->url });
is($sink->send(data => '1')->{class}, 'ok', 'a receiver');
$brief->stop;
my $again = http_server(port => $brief->{port});
is($sink->send(data => '2')->{class}, 'ok', 'is started again: its old connections do not matter');
$again->stop;

$sink = new_sink({ url => $server->url('/?header=Set-Cookie:a%3Db') });
$sink->send(data => '1') for 1 .. 2;
is_deeply([ map { $_->header('Cookie') } $server->requests ], [ undef, undef ], 'no cookies');

$sink = new_sink({ url => $server->url('/?hang=1') });
$sink->add(data => 'x') for 1 .. 64;
$sink->submit;
($took) = $sink->command('destroy');
cmp_ok($took, '<', 1000, 'destroy() with messages in flight does not wait');

# ---- formats ----

my %event = (id => $id, type => 'T', data => '{"é":"💡"}', content_type => 'application/json');
my $type = 'application/cloudevents+json; charset=utf-8';

sub received
{
	my ($format, $settings, @messages) = @_;
	my $sink = new_sink({ url => $server->url, %$settings }, host => { format => $format });

	$server->requests;
	my @results = $sink->send_all(@messages);
	is(join(' ', map { $_->{class} } @results), join(' ', map { 'ok' } @messages), "$format is sent");
	return $server->requests;
}

my ($request) = received('cloudevents', {}, \%event);
is($request->{body}, $event{data}, 'structured: the body is the message');
is($request->header('Content-Type'), $type, 'and Content-Type says so');
is($request->header('Idempotency-Key'), $id, 'with the idempotency key');
is($request->header('Authorization'), undef, 'and no password from ~/.netrc');
is("$request->{method} $request->{target}", 'POST /', 'POST to the URL');

($request) = received('cloudevents', { method => 'PUT', idempotency_header => '' }, \%event);
is($request->{method}, 'PUT', 'another method');
is($request->header('Idempotency-Key'), undef, 'no idempotency key');
($request) = received('cloudevents', { method => 'PATCH', idempotency_header => 'X-Id' }, \%event);
is("$request->{method} " . $request->header('X-Id'), "PATCH $id", 'or one of another name');

($request) = received('cloudevents-binary', {}, { %event,
	'a.specversion' => '1.0', 'a.id' => $id, 'a.type' => 'T', 'a.datacontenttype' => 'text/plain',
	'a.subject' => "Euro € 😀 \"q\" 100% ~\x7f!", 'a.inject' => "x\r\nX-Evil: 1", 'a.empty' => '' });
is($request->header('ce-subject'), 'Euro%20%E2%82%AC%20%F0%9F%98%80%20%22q%22%20100%25%20~%7F!',
	'binary: attributes are percent-encoded');
is($request->header('ce-inject'), 'x%0D%0AX-Evil:%201', 'what would be a second header, too');
is($request->header('X-Evil'), undef, 'there is none');
is($request->header('ce-empty'), '', 'an empty one is there');
is($request->header('ce-datacontenttype'), undef, 'datacontenttype is not a ce- header');
is($request->header('Content-Type'), 'application/json', 'but Content-Type');
is($request->{body}, $event{data}, 'and the body is the data');

($request) = received('raw', {}, { data => 'a,b', content_type => 'text/csv' });
is($request->header('Content-Type') . ': ' . $request->{body}, 'text/csv: a,b', 'raw');
($request) = received('raw', {}, {});
is($request->header('Content-Type'), undef, 'without data there is no Content-Type');
is($request->header('Content-Length'), '0', 'and no body');
($request) = received('raw', {}, { size => 16 << 20 });
is($request->{body_sha256}, sha256_hex('x' x (16 << 20)), '16 MB arrive whole');

# ---- batches ----

sub batches
{
	my ($host, $settings, @messages) = @_;
	my $sink = new_sink({ url => $server->url, %$settings }, host => { format => 'cloudevents-batch', %$host });

	$server->requests;
	my @results = $sink->send_all(@messages);
	# They are on their way together.
	return ([ map { $_->{class} } @results ], sort { $a->{body} cmp $b->{body} } $server->requests);
}

my ($classes, @batches) = batches({ batch_size => 3 }, {}, map { { data => "{\"n\":$_}" } } 1 .. 7);
is_deeply($classes, [ ('ok') x 7 ], 'batches: each message has its result');
is_deeply([ map { decode_json($_->{body}) } @batches ],
	[ [ map { { n => $_ } } 1 .. 3 ], [ map { { n => $_ } } 4 .. 6 ], [ { n => 7 } ] ],
	'arrays of at most batch_size');
is($batches[0]->header('Content-Type'), 'application/cloudevents-batch+json; charset=utf-8', 'of their type');
is($batches[0]->header('Idempotency-Key'), undef, 'a batch has no idempotency key');
($classes, @batches) = batches({ batch_bytes => 20 }, {}, map { { data => "\"$_\"" } } 'a' x 7, 'b' x 8, 'c' x 30, 'd');
is(join(' ', map { $_->{body} =~ tr/"//dr } @batches), "[aaaaaaa,bbbbbbbb] [" . 'c' x 30 . '] [d]',
	'of at most batch_bytes, unless it is one message');
($classes, @batches) = batches({}, { url => $server->url('/{topic}') },
	map { { data => "\"$_\"", topic => substr $_, 0, 1 } } qw(a1 a2 b3 a4));
is(join(' ', map { "$_->{target}=" . $_->{body} =~ tr/"//dr } @batches), '/a=[a1,a2] /a=[a4] /b=[b3]', 'and of one topic');
($classes, @batches) = batches({}, {}, { data => '1' }, {}, { data => '2' });
is_deeply([ $classes, map { $_->{body} } @batches ],
	[ [ 'ok', 'permanent', 'ok' ], '[1]', '[2]' ],
	'nothing does not become an element');
($classes) = batches({}, { url => $server->url('/?status=503') }, map { { data => $_ } } 1 .. 3);
is_deeply($classes, [ ('retry_sink') x 3 ], 'one response is for all');

# ---- topics ----

foreach my $case (
	[ 'orders', '/to/orders?t=orders' ],
	[ 'a/b?c#d&é %00', '/to/a%2Fb%3Fc%23d%26%C3%A9%20%2500?t=a%2Fb%3Fc%23d%26%C3%A9%20%2500' ],
	[ '../x', '/to/..%2Fx?t=..%2Fx' ])
{
	my ($topic, $target) = @$case;
	($request) = received('raw', { url => $server->url('/to/{topic}?t={topic}') }, { topic => $topic });
	is($request->{target}, $target, 'topic ' . explain_text($topic));
}
$sink = new_sink({ url => $server->url('/to/{topic}/in') });
foreach my $topic ('.', '..', '')
{
	is($sink->send(topic => $topic, data => '{}')->{class}, 'permanent', "topic \"$topic\" is not possible");
}
is(scalar $server->requests, 0, 'and not sent');

# ---- headers ----

$sink = new_sink({ url => $server->url, 'headers.X-One' => 'two words', 'headers.x-empty' => '',
	'headers.X-Key' => { secret => 'key' }, 'headers.User-Agent' => 'us' }, secrets => { key => 'k 1' });
is($sink->send('h.trace' => 'é; q=1', 'h.none' => '', data => '{}')->{class}, 'ok', 'headers');
($request) = $server->requests;
is_deeply([ map { $request->header($_) } qw(X-One x-empty X-Key User-Agent trace none) ],
	[ 'two words', '', 'k 1', 'us', 'é; q=1', '' ], 'of the relay and of the message');

foreach my $case (
	[ "a\r\nX-Evil", 'x' ], [ 'a b', 'x' ], [ 'a:', 'x' ], [ '', 'x' ], [ 'é', 'x' ], [ 'a', "x\r\nX-Evil: 1" ],
	[ 'a', "x\ny" ], [ 'a', "\x7f" ], [ 'Content-Length', '0' ], [ 'transfer-encoding', 'chunked' ], [ 'HOST', 'evil' ],
	[ 'Connection', 'close' ], [ 'ce-id', '1' ], [ 'content-type', 'a/b' ], [ 'idempotency-key', '1' ],
	[ 'x-one', '1' ], [ 'authorization', 'Bearer 1' ], [ 'X-Evstore-Signature', '1' ], [ 'Webhook-Id', '1' ])
{
	my ($name, $value) = @$case;
	my $result = $sink->send("h.$name" => $value, data => '{}');
	is($result->{class}, 'permanent', 'a message cannot have the header ' . explain_text("$name: $value"));
}
is($sink->send(content_type => "text/plain\r\nX-Evil: 1", data => '{}')->{class}, 'ok', 'a content type is not used here');
my $raw = new_sink({ url => $server->url }, host => { format => 'raw' });
is($raw->send(content_type => "text/plain\r\nX-Evil: 1", data => '{}')->{class}, 'permanent', 'or else refused');
my $binary = new_sink({ url => $server->url }, host => { format => 'cloudevents-binary' });
is($binary->send("a.x\r\nX-Evil" => 'x', data => '{}')->{class}, 'permanent', 'as are names of attributes');
is_deeply([ grep { defined $_->header('X-Evil') } $server->requests ], [], 'no header got in');

sub explain_text
{
	my ($text) = @_;

	return $text =~ s/([^\x20-\x7e])/sprintf '\\x%02x', ord $1/ger;
}

# ---- credentials ----

my $auth = new_sink({ url => $server->url('/?status=401&echo=1'), 'auth.type' => 'bearer',
	'auth.token' => { secret => 't' } }, secrets => { t => 'first-token' });
$result = $auth->send(data => '{}');
is("$result->{class}", 'retry_sink', 'credentials are refused');
unlike($result->{detail}, qr/first-token/, 'the receiver sends them back, but they are not shown');
like($result->{detail}, qr/Authorization: Bearer \*{11}/, 'only that they are there');
$auth->secret(t => 'second-token');
$auth->send(data => '{}');
is_deeply([ map { $_->header('Authorization') } $server->requests ],
	[ 'Bearer first-token', 'Bearer second-token' ], 'a new token is used at once');
$auth->secret('t');
is_deeply({ %{ $auth->send(data => '{}') }, cookie => 0 }, { class => 'fatal', code => 0, retry_after => -1,
	detail => 'there is no secret "t"', cookie => 0 }, 'without the secret nothing can be sent');
$auth->secret(t => "a\r\nX-Evil: 1");
is($auth->send(data => '{}')->{detail}, 'the secret "t" has a control character', 'nor with one that is no header');
$auth->secret(t => 'x' x 8192);
is($auth->send(data => '{}')->{detail}, 'the secret "t" is too long', 'nor with one that is too long');
is(scalar $server->requests, 0, 'and nothing was');

$auth = new_sink({ url => $server->url('/?status=403&echo=1'), 'auth.type' => 'basic', 'auth.user' => 'anna',
	'auth.password' => { secret => 'p' } }, secrets => { p => 'öpen:sesame' });
$result = $auth->send(data => '{}');
($request) = $server->requests;
is(decode_base64($request->header('Authorization') =~ s/^Basic //r), "anna:\xc3\xb6pen:sesame", 'basic');
unlike($result->{detail}, qr/\Q${\substr $request->header('Authorization'), 6}/, 'it is not shown either');

# ---- signatures ----

sub signed
{
	my ($format, $key, $settings, @messages) = @_;
	my $sink = new_sink({ url => $server->url, 'signature.secret' => { secret => 's' }, %$settings },
		secrets => { s => $key }, host => { format => $format });

	$server->requests;
	my @results = $sink->send_all(@messages);
	is(scalar(grep { $_->{class} eq 'ok' } @results), scalar @messages, 'signed');
	return $server->requests;
}

my $body = '{"a":1}';
($request) = signed('raw', 'geheim', {}, { data => $body });
is($request->header('X-Evstore-Signature'), 'sha256=' . hmac_sha256_hex($body, 'geheim'), 'sha256');
($request) = signed('raw', 'geheim', { 'signature.type' => 'sha256', 'signature.header' => 'X-Hub-Signature-256' }, {});
is($request->header('X-Hub-Signature-256'), 'sha256=' . hmac_sha256_hex('', 'geheim'), 'of nothing, in another header');

sub standard_webhook
{
	my ($request, $key) = @_;
	my $signature = hmac_sha256_base64(join('.', $request->header('webhook-id'),
		$request->header('webhook-timestamp'), $request->{body}), $key);

	# Digest::SHA leaves the padding out.
	return is($request->header('webhook-signature'), "v1,$signature=", 'Standard Webhooks');
}

my %webhook = ('signature.type' => 'standard-webhooks');
my $bytes = join '', map { chr } 0 .. 31, 200;
($request) = signed('raw', 'whsec_' . encode_base64($bytes, ''), \%webhook, { data => $body, id => 'e-1' });
standard_webhook($request, $bytes);
is($request->header('webhook-id'), 'e-1', 'the id is that of the event');
cmp_ok(abs($request->header('webhook-timestamp') - time), '<', 60, 'and the time is now');
($request) = signed('raw', 'no base64', \%webhook, { data => $body });
standard_webhook($request, 'no base64');
my @ids;
foreach my $list ([ 1, 2 ], [ 1, 2 ], [ 1, 2, 3 ], [ 2, 1 ])
{
	($request) = signed('cloudevents-batch', 'k', \%webhook, map { { data => $_, id => "e-$_" } } @$list);
	standard_webhook($request, 'k');
	push @ids, $request->header('webhook-id');
}
is($ids[0], $ids[1], 'a batch that comes again has the same id');
isnt($ids[0], $ids[$_], 'another batch has another') for 2, 3;
$sink = new_sink({ url => $server->url, 'signature.secret' => { secret => 's' }, %webhook }, secrets => { s => 'whsec_!' });
is($sink->send(data => '{}')->{class}, 'fatal', 'a key that is none');

# ---- handshake ----

sub handshake
{
	my ($query, %settings) = @_;

	$server->requests;
	return new_sink({ url => $server->url("/?$query"), handshake => \1, handshake_origin => 'events.example', %settings });
}

sub methods
{
	return join ' ', map { $_->{method} } $server->requests;
}

my $allow = 'options.status=200&options.header=WebHook-Allowed-Origin:';
$sink = handshake("$allow*&options.header=WebHook-Allowed-Rate:120", handshake_rate => [300]);
is(join(' ', map { $_->{class} } $sink->send_all({ data => '1' }, { data => '2' })), 'ok ok', 'permission for all');
is($sink->rate, 2, '120 requests a minute are 2 a second');
is($sink->send(data => '3')->{class}, 'ok', 'and more');
@requests = $server->requests;
is(join(' ', map { $_->{method} } @requests), 'OPTIONS POST POST POST', 'it is asked for once, before');
is_deeply([ map { $requests[0]->header($_) } qw(WebHook-Request-Origin WebHook-Request-Rate Content-Type) ],
	[ 'events.example', 300, undef ], 'with who we are, and how much we have');

$sink = handshake("${allow}Events.Example&options.header=WebHook-Allowed-Rate:*");
is($sink->send(data => '1')->{class}, 'ok', 'permission for us');
is($sink->rate, 0, 'any rate');
$sink = handshake("${allow}events.example");
$sink->send(data => '1');
is($sink->rate, -1, 'or none is said');
methods();

foreach my $case (
	[ "${allow}other.example", qr/allows the origin "other.example", not "events.example"/ ],
	[ 'options.status=200', qr/permission by callback is not supported/ ],
	[ 'options.status=405', qr/refused the handshake: HTTP 405/ ],
	[ 'options.status=403&options.header=WebHook-Allowed-Origin:*', qr/refused the handshake: HTTP 403/ ],
	[ 'options.status=302', qr/refused the handshake/ ])
{
	my ($query, $text) = @$case;
	$sink = handshake($query);
	my @results = $sink->send_all({ data => '1' }, { data => '2' });
	push @results, $sink->send(data => '3');
	is(join(' ', map { $_->{class} } @results), 'fatal fatal fatal', "no permission: $query");
	like($results[0]{detail}, $text, 'and it says so');
	is(methods(), 'OPTIONS', 'nothing is sent');
}

$sink = handshake("$allow*&options.status=503&options.first=1&options.header=Retry-After:3");
@results = $sink->send_all({ data => '1' }, { data => '2' });
is(join(' ', map { "$_->{class} $_->{retry_after}" } @results), 'retry_sink 3000 retry_sink 3000', 'nobody there to ask');
$server->control("$allow*");
is($sink->send(data => '1')->{class}, 'ok', 'later there is');
$server->control(undef);
is(methods(), 'OPTIONS OPTIONS POST', 'it is asked again');

$sink = handshake('options.hang=1');
$sink->add(data => '1');
$sink->submit;
($took) = $sink->command('destroy');
cmp_ok($took, '<', 1000, 'destroy() while it is asked');

# ---- what may be connected to ----

$sink = EvsSend->new($module, { url => $server->url });
$sink->command(deny => '127.0.0.1');
like($sink->validate, qr/^setting "url": connections to 127\.0\.0\.1, port \d+, are not allowed/, 'refused before it is resolved');
like($sink->open, qr/not allowed/, 'and when the relay starts');
$sink->command('permit');
is($sink->validate, '', 'allowed again');

$sink = new_sink({ url => $server->url('/', 'localhost') });
$sink->command('egress');
is($sink->send(data => '1')->{class}, 'ok', 'a name that is resolved');
my (undef, @asked) = $sink->command('egress');
is((grep { /^localhost 127\.0\.0\.1 $server->{port}$/ } @asked), 1, 'the address is asked for, with the name');
$sink = new_sink({ url => $server->url('/', 'localhost') });
$sink->command(deny => '::1');
is($sink->send(data => '1')->{class}, 'ok', 'one address of a name is refused, the other is used');
$sink->command('destroy');
$sink->open;
$sink->command(deny => '127.0.0.1');
$server->requests;
$result = $sink->send(data => '1');
is($result->{class}, 'fatal', 'all are refused');
like($result->{detail}, qr/^connections to (127\.0\.0\.1|::1), to which localhost was resolved, are not allowed/, 'and it says which');
is(scalar $server->requests, 0, 'no connection was made');

$sink = EvsSend->new($module, { url => "http://[::ffff:127.0.0.1]:$server->{port}/" });
is($sink->validate || $sink->open, '', 'IPv4 in IPv6');
$sink->command(deny => '127.0.0.1');
is($sink->send(data => '1')->{class}, 'fatal', 'is asked for as IPv4');

$sink = new_sink({ url => 'http://far.example/x', proxy => $server->url });
(undef, @asked) = $sink->command('egress');
is_deeply([ do { my %is = map { $_ => 1 } @asked; sort keys %is } ],
	[ "127.0.0.1 - $server->{port}", 'far.example - 80' ], 'both proxy and receiver must be allowed');
is($sink->send(data => '1')->{class}, 'ok', 'by a proxy');
($request) = $server->requests;
is($request->{target}, 'http://far.example/x', 'which is told where to');
$sink = EvsSend->new($module, { url => 'http://far.example/x', proxy => $server->url });
$sink->command(deny => '127.0.0.1');
like($sink->validate, qr/^setting "proxy": connections to 127/, 'a proxy that is not allowed');

# ---- settings ----

foreach my $case (
	[ {}, qr/"url" is missing/ ],
	[ { url => 'ftp://h/' }, qr/must begin with http/ ], [ { url => 'file:///etc/passwd' }, qr/must begin with http/ ],
	[ { url => 'h/x' }, qr/is not a URL/ ], [ { url => "http://h/a\nb" }, qr/is not a URL/ ], [ { url => [1] }, qr/must be a string/ ],
	[ { url => 'http://u:p@h/' }, qr/user or password/ ], [ { url => 'http://h/#f' }, qr/fragment/ ],
	[ { url => 'http://{topic}/' }, qr/in its path and query only/ ], [ { url => 'http://h:{topic}' }, qr/in its path and query only/ ],
	[ { url => 'http://h/{type}' }, qr/no other place/ ], [ { url => 'http://h/a/../b' }, qr/"\.\."/ ],
	[ { nonsense => '1' }, qr/"nonsense" is not known/ ], [ { 'tls.verify' => \0 }, qr/"tls.verify" is not known/ ],
	[ { method => 'GET' }, qr/"method" must be one of: POST, PUT, PATCH/ ], [ { http_version => '3' }, qr/one of: auto, 1.1/ ],
	[ { 'auth.type' => 'digest' }, qr/"auth.type" must be one of/ ],
	[ { 'auth.type' => 'bearer' }, qr/needs "auth.token"/ ], [ { 'auth.type' => 'basic', 'auth.user' => 'u' }, qr/needs/ ],
	[ { 'auth.type' => 'bearer', 'auth.token' => 't0psecret' }, qr/"auth.token" must not be in the configuration itself: use \{"secret": name\}/ ],
	[ { 'auth.type' => 'basic', 'auth.user' => 'u', 'auth.password' => 't0psecret' }, qr/"auth.password" must not be in/ ],
	[ { 'signature.secret' => 't0psecret' }, qr/"signature.secret" must not be in/ ], [ { 'headers.authorization' => 't0psecret' }, qr/must not be in/ ],
	[ { 'auth.token' => { secret => 's' } }, qr/needs "auth.type": "bearer"/ ], [ { 'auth.user' => 'u' }, qr/need "auth.type": "basic"/ ],
	[ { 'auth.type' => 'basic', 'auth.user' => 'a:b', 'auth.password' => { secret => 's' } }, qr/colon/ ],
	[ { 'auth.type' => 'bearer', 'auth.token' => { secret => 's' }, 'headers.Authorization' => { secret => 's' } }, qr/exclude each other/ ],
	[ { 'signature.type' => 'sha256' }, qr/"signature.secret" is missing/ ], [ { 'signature.header' => 'X', 'signature.secret' => { secret => 's' }, %webhook }, qr/names of Standard Webhooks are fixed/ ],
	[ { 'signature.header' => 'Host', 'signature.secret' => { secret => 's' } }, qr/"signature.header"/ ],
	[ { idempotency_header => 'a b' }, qr/"idempotency_header"/ ], [ { idempotency_header => 'Content-Length' }, qr/"idempotency_header"/ ],
	[ { "headers.a\r\nb" => 'x' }, qr/cannot be the name/s ], [ { 'headers.a' => "x\r\ny: z" }, qr/line ends/ ], [ { 'headers.a' => [1] }, qr/must be a string/ ],
	(map { [ { "headers.$_" => 'x' }, qr/the sink sets this header itself/ ] } qw(content-length Transfer-Encoding Host Content-Type ce-id Idempotency-Key)),
	[ { handshake => \1 }, qr/needs "handshake_origin"/ ], [ { handshake_origin => 'x' }, qr/need "handshake": true/ ], [ { handshake => 'yes' }, qr/true or false/ ],
	[ { url => 'http://h/{topic}', handshake => \1, handshake_origin => 'x' }, qr/must not contain \{topic\}/ ],
	[ { proxy => 'socks5://h:1' }, qr/"proxy" must begin with http/ ], [ { proxy => 'http://h' }, qr/must have a port/ ], [ { proxy => 'http://u:p@h:1' }, qr/user or password/ ],
	[ { 'tls.ca_file' => '/x' }, qr/needs a url that begins with https/ ], [ { url => 'https://h/', 'tls.ca_file' => 'x' }, qr/absolute path/ ],
	[ { url => 'https://h/', 'tls.cert_file' => '/x' }, qr/need each other/ ], [ { url => 'https://h/', 'tls.min_version' => '1.1' }, qr/one of: 1.2, 1.3/ ],
	[ { connect_timeout_ms => [0] }, qr/between 1 and/ ], [ { conflict_is_duplicate => 'maybe' }, qr/true or false/ ])
{
	my ($settings, $text) = @$case;
	my %all = (%$settings ? (url => 'http://h/') : (), %$settings);
	my $error = EvsSend->new($module, \%all)->validate;
	like($error, $text, 'refused: ' . explain_text(join ' ', map { "$_=$all{$_}" } grep { !ref $all{$_} } sort keys %all));
	unlike($error, qr/t0psecret/, 'without showing what should be secret');
}
is(EvsSend->new($module, { url => 'http://h/' }, host => { format => 'avro' })->validate,
	'the http sink cannot send the format "avro"', 'an unknown format');

# ---- TLS ----

SKIP:
{
	skip 'IO::Socket::SSL is not installed' unless eval { require IO::Socket::SSL };
	my $ca = make_ca("$tmp/ca");
	my %cert = map { $_->[0] => make_certificate("$tmp/$_->[0]", $_->[3] // $ca, names => $_->[1], days => $_->[2]) }
	  ([ 'good', undef, 1 ], [ 'elsewhere', 'DNS:elsewhere.example', 1 ], [ 'expired', undef, -1 ],
		[ 'unknown', undef, 1, make_ca("$tmp/other_ca") ], [ 'client', 'DNS:client.example', 1 ]);
	my %trust = ('tls.ca_file' => "$ca.pem");
	my $good = http_server(tls => $cert{good});

	sub by_tls
	{
		my ($server, %settings) = @_;
		my $sink = new_sink({ url => $server->url, %settings });

		return $sink->send(data => '{"by":"TLS"}');
	}

	is(by_tls($good, %trust)->{class}, 'ok', 'TLS');
	is(by_tls($good, %trust, http_version => '1.1', 'tls.min_version' => '1.3')->{class}, 'ok', 'TLS 1.3');
	is(join(' ', map { $_->{body} } $good->requests), '{"by":"TLS"} {"by":"TLS"}', 'it is received');
	$result = by_tls($good);
	is($result->{class}, 'fatal', 'a certificate of an authority that is not known');
	like($result->{detail}, qr/certificate/, 'and it says so');
	is(by_tls(http_server(tls => $cert{$_}), %trust)->{class}, 'fatal', "a certificate that is $_")
	  for qw(elsewhere expired unknown);
	is(by_tls(http_server(tls => $ca), %trust)->{class}, 'fatal', 'a certificate for no host');
	is(by_tls($good, 'tls.ca_file' => "$tmp/none.pem")->{class}, 'fatal', 'no file of authorities');
	is(scalar $good->requests, 0, 'nothing is sent without trust');
	my $old = http_server(tls => $cert{good}, args => [ '--tls', 'TLSv1_2' ]);
	is(by_tls($old, %trust)->{class}, 'ok', 'TLS 1.2');
	is(by_tls($old, %trust, 'tls.min_version' => '1.3')->{class}, 'retry_sink', 'is not enough for 1.3');
	my $strict = http_server(tls => $cert{good}, args => [ '--client-ca', "$ca.pem" ]);
	is(by_tls($strict, %trust)->{class}, 'retry_sink', 'a receiver that wants a certificate of ours');
	is(by_tls($strict, %trust, 'tls.cert_file' => "$cert{client}.pem", 'tls.key_file' => "$cert{client}.key")->{class},
		'ok', 'and gets it');
	is(scalar $strict->requests, 1, 'has one request');
	$sink = new_sink({ url => $good->url('/?gather=64'), connect_timeout_ms => [60000], %trust }, host => { timeout_ms => 60000 });
	is(scalar(grep { $_->{class} eq 'ok' } $sink->send_all(map { { size => 100_000 } } 1 .. 64)), 64,
		'64 requests are in flight by TLS, too');
}

# ---- HTTP/2 ----

SKIP:
{
	skip 'node is not installed' unless eval { run_log([ 'node', '-e', 'require("http2")' ]) };
	my $ca = -e "$tmp/ca.pem" ? "$tmp/ca" : make_ca("$tmp/ca");
	my $cert = make_certificate("$tmp/h2", $ca);
	append_to_file("$tmp/h2.js", <<'END');
const fs = require('fs'), base = process.argv[2];
const server = require('http2').createSecureServer({
	cert: fs.readFileSync(base + '.pem'), key: fs.readFileSync(base + '.key'), allowHTTP1: true });
let connections = 0;
server.on('secureConnection', () => connections++);
server.on('request', (request, response) => {
	request.resume();
	request.on('end', () => {
		response.writeHead(400, { 'Retry-After': 1 });
		response.end(`${request.httpVersion} ${connections} ${request.headers['idempotency-key']}`);
	});
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit()).resume();
END
	my $pid = IPC::Open2::open2(my $out, my $in, 'node', "$tmp/h2.js", $cert);
	chomp(my $port = readline $out);
	my %to = (url => "https://127.0.0.1:$port/", 'tls.ca_file' => "$ca.pem");
	@results = new_sink({%to})->send_all(map { { data => '{}' } } 1 .. 64);
	is_deeply([ map { $_->{detail} } @results ], [ ("HTTP 400: 2.0 1 $id") x 64 ],
		'HTTP/2: all share the first connection');
	like(new_sink({ %to, http_version => '1.1' })->send(data => '{}')->{detail}, qr/^HTTP 400: 1\.1 2/, 'or HTTP/1.1');
	close $in;
	waitpid $pid, 0;
}

# ---- the rules of sinks ----

my @key = ('--secret', 'k=0123456789', $module, 'auth.type=bearer', 'auth.token@=k');

foreach my $format (qw(cloudevents cloudevents-batch cloudevents-binary raw))
{
	my $run = harness_ok("$format keeps the rules", '--edge', '--test', '--format', $format, '--messages', 500,
		'--in-flight', 64, '--replay', 5, @key, 'url=' . $server->url);
	is($run->{value}{delivered} + $run->{value}{parked}, 506, "$format: every message has its result");
	is($run->{value}{parked}, 0, "$format: all arrive");
}

# Of each key the messages arrive in order, whatever happens on the way.
$server->requests;
my $run = harness_ok('an outage', '--messages', 2000, '--keys', 20, '--in-flight', 64, @key,
	'url=' . $server->url('/?status=503&first=50'));
is($run->{value}{delivered}, 2000, 'after it all arrive');
my (%last, $wrong);
foreach my $request ($server->requests)
{
	my $n = decode_json($request->{body})->{data}{n};
	$wrong++ if $n < ($last{ $n % 20 } // 0);
	$last{ $n % 20 } = $n;
}
is(keys %last, 20, 'of all keys');
is($wrong, undef, 'in order');

harness_ok('destroy() with messages in flight', '--messages', 100, '--keys', 0, '--destroy-at', 50, '--in-flight', 64,
	@key, 'url=' . $server->url('/?hang=1'));
harness_left('an outage of names', '--messages', 10, '--give-up', 1, @key, 'connect_timeout_ms:=300',
	'url=http://nosuchhost.invalid/');
harness_ok('a secret that changes', '--messages', 20, '--rotate', '10:k=abcdefgh', '--in-flight', 1, @key,
	'url=' . $server->url('/rotated'));
my %tokens;
$tokens{ $_->header('Authorization') }++ for grep { $_->{target} eq '/rotated' } $server->requests;
is_deeply(\%tokens, { 'Bearer 0123456789' => 10, 'Bearer abcdefgh' => 10 }, 'from one message to the next');

done_testing();
