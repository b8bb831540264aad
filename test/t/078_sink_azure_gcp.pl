# The http sink's profiles for Azure Event Grid, Service Bus and Event Hubs, and for
# Google Cloud Pub/Sub: against doubles that check signatures, tokens and bodies as
# the services' documentation says, and against libraries from npm.
#
# EVS_CLOUD_SEED chooses what goes wrong in the last part.

use strict;
use warnings;
use utf8;

use Cwd 'abs_path';
use Digest::SHA 'hmac_sha256_base64';
use Encode ();
use FindBin;
use JSON::PP;
use lib $FindBin::Bin;
use MIME::Base64;
use EvsCloud;
use EvsHttp;
use EvsSend;
use EvsSink;
use EvsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $module = sink_module('http');
plan skip_all => 'the http sink was not built' unless -e $module;

my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my $root = abs_path("$FindBin::Bin/../..");
my $seed = $ENV{EVS_CLOUD_SEED} // int rand 1e6;
note "EVS_CLOUD_SEED=$seed";

# ---- keys ----

# Not a real key: it says so.
my $grid_key = 'dGhpcyBpcyBub3QgYSByZWFsIEV2ZW50R3JpZCBrZXk=';
my $bus_key = 'S4lxDe/kdGFgi7xbIVdBakWpx+PitKsGFUPFxZKT14=';
my $next_key = 'another+one/that=is=not=one=of=Azures';

run_log([ 'openssl', 'genrsa', '-out', "$tmp/$_.pem", '2048' ]) or die for qw(account other);
run_log([ 'openssl', 'rsa', '-in', "$tmp/account.pem", '-pubout', '-out', "$tmp/public.pem" ]) or die;
run_log([ 'openssl', 'ecparam', '-genkey', '-name', 'prime256v1', '-noout', '-out', "$tmp/ec.pem" ]) or die;

my $cloud = cloud_double(known => { grid => $grid_key, bus => { send => [ $bus_key, $next_key ] }, bearer => 'a-bearer-token' });
$cloud->put('public.pem', slurp_file("$tmp/public.pem"));

# The key file of the service account, with other members
sub account
{
	my (%members) = @_;

	return encode_json({ type => 'service_account', project_id => 'project', private_key_id => 'key-1',
		private_key => slurp_file("$tmp/account.pem"), client_email => 'relay@project.iam.gserviceaccount.com',
		token_uri => $cloud->url('/token'), %members });
}

my %secrets = (grid => $grid_key, bus => $bus_key, bearer => 'a-bearer-token', account => account());

# ---- sinks ----

my %sas = ('auth.policy' => 'send', 'auth.key' => { secret => 'bus' });
my %service = (
	grid => sub { (profile => 'azure-eventgrid', url => $cloud->url('/api/events'), 'auth.key' => { secret => 'grid' }) },
	bus => sub { (profile => 'azure-servicebus', url => $cloud->url('/queue'), %sas) },
	hub => sub { (profile => 'azure-eventhubs', url => $cloud->url('/hub'), %sas) },
	pubsub => sub { (profile => 'gcp-pubsub', endpoint => $cloud->url(''), project => 'p', topic => 't',
		'auth.credentials' => { secret => 'account' }, 'auth.token_uri' => $cloud->url('/token')) });

# Settings of a service; those that are undefined are left out.
sub settings
{
	my ($service, %more) = @_;
	my %all = ($service{$service}->(), %more);

	return { map { $_ => $all{$_} } grep { defined $all{$_} } keys %all };
}

# A sink that is open, of a service.  "host" and "secrets" go to EvsSend.
sub new_sink
{
	my ($service, %more) = @_;
	my %host = %{ delete $more{host} // {} };
	my %own = %{ delete $more{secrets} // {} };
	my $sink = EvsSend->new($module, settings($service, %more), host => \%host,
		secrets => { %secrets, %own }, env => { fake_time($cloud) });
	my $error = $sink->validate || $sink->open;

	die "the sink does not open: $error" if $error;
	$cloud->requests;
	$cloud->accepted;
	return $sink;
}

sub classes
{
	return join ' ', map { $_->{class} } @_;
}

# an event, as the relay writes it
sub event
{
	my ($id, %more) = @_;

	return JSON::PP->new->utf8->canonical->encode({ specversion => '1.0', id => $id, source => '/s', type => 'T', data => { text => "é\"\\\n💡" }, %more });
}

# all headers but those of every request, as "Name: value"
sub headers
{
	my ($request) = @_;

	return join "\n", map { "$_->[0]: $_->[1]" }
	  grep { $_->[0] !~ /^(?:Host|Accept|User-Agent|Content-Length)$/ } @{ $request->{headers} };
}

my $now = 1_900_000_000;
$cloud->set_time("=$now");

# ---- signatures ----

# The example of Azure's own tests, and the parts that signatures are made of.
append_to_file("$tmp/vectors.c", <<'END');
#include <stdio.h>
#include <string.h>
#include "http_azure.h"
int main(void)
{
	static const char key[] = "dGhpcyBpcyBub3QgYSByZWFsIEV2ZW50R3JpZCBrZXk=";
	static const char resource[] = "https://eg-topic.westus-2.eventgrid.azure.net/api/events?apiVersion=2018-01-01";
	static const long long times[] = {1577836800, 1577934245, 1577970621, 1577924421};
	for (int i = 0; i < 4; i++)
	{
		evs_sink_buffer token = {0};
		int ok = evs_azure_add_grid_sas(&token, resource, key, strlen(key), times[i]);
		printf("%d %s\n", ok, token.data);
	}
	evs_sink_buffer none = {0};
	printf("%d %d %d\n", evs_azure_add_grid_sas(&none, resource, "no base64!", 10, 0),
		   evs_azure_add_grid_sas(&none, resource, "", 0, 0), evs_azure_add_bus_sas(&none, "https://x/", "p", "", 0, 1));
}
END
run_log([ $ENV{CC} // 'cc', '-o', "$tmp/vectors", "-I$root/src/sinks", "-I$root/src/include", "$tmp/vectors.c",
	map({ "$root/src/sinks/$_.c" } qw(http_azure_sas http_text sink_util sink_json)), '-lcrypto' ]) or die;
my @vectors = split /\n/, `$tmp/vectors`;
my $resource = 'r=https%3A%2F%2Feg-topic.westus-2.eventgrid.azure.net%2Fapi%2Fevents%3FapiVersion%3D2018-01-01';
is($vectors[0], "1 $resource&e=1%2F1%2F2020%2012%3A00%3A00%20AM&s=ZzvNAYRyvJwDrOJKYxbNAPNCoSqgOJVLFi4IMXOrW2Q%3D",
	'Event Grid: the published example');
like($vectors[1], qr/&e=1%2F2%2F2020%203%3A04%3A05%20AM&/, 'times: in the morning');
like($vectors[2], qr/&e=1%2F2%2F2020%201%3A10%3A21%20PM&/, 'in the afternoon');
like($vectors[3], qr/&e=1%2F2%2F2020%2012%3A20%3A21%20AM&/, 'after midnight');
is($vectors[4], '0 0 0', 'what is no key cannot sign');

# ---- Event Grid ----

my @events = map { { data => event("e-$_"), id => "e-$_", key => "k$_" } } 1 .. 3;
my $type = 'Content-Type: application/cloudevents-batch+json; charset=utf-8';
my $sink = new_sink('grid');
is(classes($sink->send_all(@events)), 'ok ok ok', 'Event Grid: messages of several keys');
my @requests = $cloud->requests;
is(scalar @requests, 1, 'are one request');
is("$requests[0]{method} $requests[0]{target}", 'POST /api/events?api-version=2018-01-01', 'to the endpoint, with the version');
is(headers($requests[0]), "$type\naeg-sas-key: $grid_key", 'with the key');
is($requests[0]{body}, decode('[' . join(',', map { $_->{data} } @events) . ']'), 'and an array of events');
is_deeply([ map { $_->{event} } $cloud->accepted ], [ map { decode_json($_->{data}) } @events ], 'which arrive as they are');

sub decode
{
	my ($bytes) = @_;

	utf8::decode($bytes);
	return $bytes;
}

$sink = new_sink('grid', 'auth.type' => 'sas');
is($sink->send(%{ $events[0] })->{class}, 'ok', 'with a signature');
my ($request) = $cloud->requests;
my $endpoint = $cloud->url('/api/events') =~ s/:/%3A/gr =~ s{/}{%2F}gr;
# 1900003600: 17 March 2030, 18:46:40
my $unsigned = "r=$endpoint%3FapiVersion%3D2018-01-01&e=3%2F17%2F2030%206%3A46%3A40%20PM";
my $signature = hmac_sha256_base64($unsigned, decode_base64($grid_key)) . '=';
is(headers($request), "$type\naeg-sas-token: $unsigned&s=" . $signature =~ s/([+\/=])/sprintf '%%%02X', ord $1/ger,
	'which is good for an hour');
$sink = new_sink('grid', 'auth.type' => 'bearer', 'auth.key' => undef, 'auth.token' => { secret => 'bearer' });
is($sink->send(%{ $events[0] })->{class}, 'ok', 'with a token');
is(headers($cloud->requests), "$type\nAuthorization: Bearer a-bearer-token", 'that somebody else gets');

$sink = new_sink('grid', url => $cloud->url('/topics/orders:publish'), 'auth.type' => 'sas', host => { format => 'cloudevents-batch' });
is(classes($sink->send_all(@events)), 'ok ok ok', 'a topic of a namespace');
($request) = $cloud->requests;
is($request->{target}, '/topics/orders:publish?api-version=2023-11-01', 'has another version');
$sink = new_sink('grid', url => $cloud->url('/topics/{topic}:publish'), api_version => '2024-06-01', 'auth.type' => 'sas');
is(classes($sink->send_all(map { { %{ $events[$_] }, topic => qw(a b b) [$_] } } 0 .. 2)), 'ok ok ok', 'topics by message');
is(join(' ', sort map { $_->{target} } $cloud->requests),
	'/topics/a:publish?api-version=2024-06-01 /topics/b:publish?api-version=2024-06-01', 'one request each');

# ---- Service Bus ----

my %message = (data => event('m-1'), id => 'm-1', key => "k€y💡", type => 'Örder', 'h.Priority' => 'High');
$sink = new_sink('bus', time_to_live_s => [90061]);
is($sink->send(%message)->{class}, 'ok', 'Service Bus: a message');
($request) = $cloud->requests;
is("$request->{method} $request->{target}", 'POST /queue/messages', 'is sent to the queue');
my $queue = $cloud->url('/queue') =~ s/:/%3A/gr =~ s{/}{%2F}gr;
my $expiry = $now + 3600;

sub bus_sas
{
	my ($resource) = @_;
	my $signature = hmac_sha256_base64("$resource\n$expiry", $bus_key) . '=';

	return "Authorization: SharedAccessSignature sr=$resource&sig=" .
	  $signature =~ s/([+\/=])/sprintf '%%%02X', ord $1/ger . "&se=$expiry&skn=send";
}

is(headers($request), join("\n", 'Content-Type: application/cloudevents+json; charset=utf-8',
	'BrokerProperties: {"MessageId":"m-1","Label":"\u00d6rder","SessionId":"k\u20acy\ud83d\udca1","TimeToLive":90061}',
	'Priority: High', bus_sas($queue)), 'its headers');
my ($got) = $cloud->accepted;
is_deeply([ @$got{qw(key id body)} ], [ "k€y💡", 'm-1', decode(event('m-1')) ], 'and what arrives') or diag explain $got;

my $batch_type = 'Content-Type: application/vnd.microsoft.servicebus.json';
$sink = new_sink('bus', time_to_live_s => [90061], host => { format => 'cloudevents-batch' });
is(classes($sink->send_all({%message}, { %message, id => 'm-2', 'h.Ö' => '"é"' })), 'ok ok', 'a batch');
($request) = $cloud->requests;
is(headers($request), "$batch_type\n" . bus_sas($queue), 'has a type of its own');
my $body = JSON::PP->new->allow_nonref->encode(decode(event('m-1')));
my $properties = '"Label":"\u00d6rder","SessionId":"k\u20acy\ud83d\udca1","TimeToLiveTimeSpan":"1.01:01:01"}';
is($request->{body} =~ s/\\u000a/\\n/gr, '[{"Body":' . $body . ',"BrokerProperties":{"MessageId":"m-1",' . $properties . ',"UserProperties":{"Priority":"High"}},' .
	'{"Body":' . $body . ',"BrokerProperties":{"MessageId":"m-2",' . $properties . ',"UserProperties":{"Priority":"High","Ö":"\"é\""}}]', 'and is an array');
is_deeply([ map { $_->{body} } $cloud->accepted ], [ (decode(event('m-1'))) x 2 ], 'of the same bodies');

# What a request may have: messages of one key, in order.
sub submissions
{
	my ($service, $more, @keys) = @_;
	my $sink = new_sink($service, host => { format => 'cloudevents-batch' }, %$more);
	my $n = 0;

	$sink->add(data => event(++$n), id => "i-$n", defined $_ ? (key => $_) : ()) for @keys;
	my $accepted = $sink->submit;
	my @results = $sink->wait_for($accepted);
	my %is = map { $_->{class} => 1 } @results;
	my @sizes;
	foreach my $request ($cloud->requests)
	{
		my $body = eval { decode_json(Encode::encode_utf8($request->{body})) } or next;
		push @sizes, scalar @{ ref $body eq 'HASH' ? $body->{messages} : $body };
	}
	return join(' ', sort keys %is) . " $accepted: " . join '+', sort @sizes;
}

is(submissions('bus', {}, qw(a a b c c)), 'ok 5: 1+2+2', 'a request has messages of one session');
is(submissions('bus', {}, qw(a a b a c)), 'ok 3: 1+2', 'a key is in one request: the rest comes later');
is(submissions('bus', { url => $cloud->url('/session'), mix_keys => \1 }, qw(a a b a c)), 'ok 5: 5', 'unless keys may be mixed');
is(submissions('bus', { key => 'none' }, qw(a a b a c)), 'ok 5: 5', 'or do not matter');
is(submissions('hub', {}, qw(a a b), undef, undef), 'ok 5: 1+2+2', 'Event Hubs: one partition key');
is(submissions('hub', { key => 'none' }, qw(a a b), undef), 'ok 4: 4', 'or none');
is(submissions('pubsub', {}, qw(a a b), undef, undef, 'a'), 'ok 5: 1+2+2', 'Pub/Sub: one ordering key');
is(submissions('pubsub', { ordering => \0 }, qw(a a b), undef, undef, 'a'), 'ok 6: 6', 'or no order');
is(submissions('grid', {}, qw(a a b), undef, undef, 'a'), 'ok 6: 6', 'Event Grid: it does not matter');

$sink = new_sink('bus', key => 'partition', host => { format => 'raw' });
is($sink->send(data => "\xff\xfe\x01", content_type => 'application/octet-stream', key => 'k')->{class}, 'ok', 'raw: bytes');
($request) = $cloud->requests;
is(headers($request), join("\n", 'Content-Type: application/octet-stream',
	'BrokerProperties: {"MessageId":"00000000-0000-4000-8000-000000000000","Label":"T","PartitionKey":"k"}', bus_sas($queue)), 'with their type');
is(decode_base64($request->{body_base64}), "\xff\xfe\x01", 'and as they are');
is($sink->send()->{class}, 'ok', 'nothing is a message too');
is(headers($cloud->requests) =~ /^(\S+)/ && $1, 'BrokerProperties:', 'without a type');
is($sink->send("h.$_" => 'x', data => '1')->{class}, 'permanent', "a message cannot have the header $_")
  for qw(Authorization BrokerProperties content-length x-ms-retrypolicy Host);
is($sink->send('h.a' => "x\r\ny: z", data => '1')->{class}, 'permanent', 'nor one that is two');
is(scalar(my @sent = $cloud->requests), 0, 'and it is not sent');
is(new_sink('bus')->send(data => '{}', key => 'k' x 129)->{detail}, 'the key has more than 128 characters', 'a key that is too long');
is(new_sink('bus')->send(data => '{}', key => 'é' x 128)->{class}, 'ok', 'characters, not bytes');

# ---- Event Hubs ----

$sink = new_sink('hub', url => $cloud->url('/hub/'));
is(classes($sink->send_all({%message}, { data => event('m-2') })), 'ok ok', 'Event Hubs: messages');
my $hub = $cloud->url('/hub') =~ s/:/%3A/gr =~ s{/}{%2F}gr;
my ($with, $without) = sort { length headers($b) <=> length headers($a) } $cloud->requests;
is(headers($with), join("\n", 'Content-Type: application/cloudevents+json; charset=utf-8',
	'BrokerProperties: {"PartitionKey":"k\u20acy\ud83d\udca1"}', 'Priority: High', bus_sas($hub)), 'one with a key');
is(headers($without), "Content-Type: application/cloudevents+json; charset=utf-8\n" . bus_sas($hub), 'one without');
is($with->{target}, '/hub/messages?api-version=2014-01', 'to the hub');
$sink = new_sink('hub', host => { format => 'cloudevents-batch' });
is(classes($sink->send_all({%message}, {%message})), 'ok ok', 'a batch');
($request) = $cloud->requests;
is(headers($request), "$batch_type\n" . 'BrokerProperties: {"PartitionKey":"k\u20acy\ud83d\udca1"}' . "\n" . bus_sas($hub), 'has the key in the header');
my $entry = qq({"Body":$body,"BrokerProperties":{"PartitionKey":"k\\u20acy\\ud83d\\udca1"},"UserProperties":{"Priority":"High"}});
is($request->{body} =~ s/\\u000a/\\n/gr, "[$entry,$entry]", 'and in the array');

# ---- Pub/Sub ----

$sink = new_sink('pubsub');
is($sink->send(%message)->{class}, 'ok', 'Pub/Sub: a message');
my ($token_request, $publish) = $cloud->requests;
is("$token_request->{method} $token_request->{target}", 'POST /token', 'a token comes first');
is(headers($token_request), 'Content-Type: application/x-www-form-urlencoded', 'in a form');
my ($assertion) = $token_request->{body} =~ /^grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=([\w.-]+)$/;
my ($jwt_header, $claims) = map { decode_base64(tr{-_}{+/}r) } split /\./, $assertion // '..';
is($jwt_header, '{"alg":"RS256","typ":"JWT","kid":"key-1"}', 'the header of what the account signs');
is($claims, '{"iss":"relay@project.iam.gserviceaccount.com","scope":"https://www.googleapis.com/auth/pubsub","aud":"' .
	$cloud->url('/token') . qq(","iat":$now,"exp":$expiry}), 'and its claims');
is($publish->{target}, '/v1/projects/p/topics/t:publish', 'then the message');
is(headers($publish), "Content-Type: application/json\nAuthorization: Bearer ya29.c.access-token-" . last_token(), 'with the token');
is($publish->{body}, '{"messages":[{"attributes":{"content-type":"application/cloudevents+json; charset=utf-8","Priority":"High"},' .
	'"data":"' . encode_base64(event('m-1'), '') . '","orderingKey":"k€y💡"}]}', 'its body');

sub last_token
{
	my ($n) = ($publish->header('Authorization') // '') =~ /(\d+)$/;

	return $n // 'none';
}

$sink = new_sink('pubsub', host => { format => 'cloudevents-binary' });
is($sink->send(data => '{"é":1}', content_type => 'application/json', 'a.specversion' => '1.0', 'a.id' => 'm-1',
	'a.subject' => '50% é', 'a.datacontenttype' => 'application/json', 'h.x' => '1')->{class}, 'ok', 'binary');
(undef, $publish) = $cloud->requests;
is($publish->{body}, '{"messages":[{"attributes":{"content-type":"application/json","ce-id":"m-1","ce-specversion":"1.0","ce-subject":"50% é","x":"1"},' .
	'"data":"eyLDqSI6MX0="}]}', 'attributes are attributes');
$sink = new_sink('pubsub', topic => '{topic}', host => { format => 'raw' });
is($sink->send(data => "\x01\xff", topic => 'orders')->{class}, 'ok', 'raw, to the topic of the message');
(undef, $publish) = $cloud->requests;
is("$publish->{target} $publish->{body}", '/v1/projects/p/topics/orders:publish {"messages":[{"data":"Af8="}]}', 'bytes');
is($sink->send(topic => 'orders')->{detail}, 'the message has neither data nor attributes', 'nothing is not a message');
is($sink->send(topic => 'orders', 'h.a' => '1')->{class}, 'ok', 'an attribute is');
foreach my $case (
	[ { 'h.' . 'n' x 257 => '1' }, qr/name of an attribute, "n{40}", is empty or has more than 256 bytes/ ],
	[ { 'h.a' => 'é' x 513 }, qr/attribute "a" has more than 1024 bytes/ ],
	[ { map { ("h.a$_" => 1) } 1 .. 100 }, undef ], [ { map { ("h.a$_" => 1) } 1 .. 101 }, qr/the message has more than 100 attributes/ ],
	[ { 'h.googclient' => '1' }, qr/cannot have the header "googclient"/ ], [ { 'h.CE-id' => '1' }, qr/"CE-id"/ ],
	[ { 'h.Content-Type' => '1' }, qr/"Content-Type"/ ], [ { key => 'k' x 1025 }, qr/the key has more than 1024 bytes/ ])
{
	my ($more, $text) = @$case;
	my $result = $sink->send(data => '1', topic => 'orders', %$more);
	my $name = substr join(' ', sort keys %$more), 0, 20;
	is($result->{class}, $text ? 'permanent' : 'ok', "a message with $name");
	like($result->{detail}, $text // qr/^$/, 'and why');
}
$sink = new_sink('pubsub', endpoint => $cloud->url('/emulator'), 'auth.type' => 'none', 'auth.credentials' => undef, 'auth.token_uri' => undef);
is($sink->send(%message)->{class}, 'ok', 'an emulator');
($request) = $cloud->requests;
is("$request->{target} " . headers($request), '/emulator/v1/projects/p/topics/t:publish Content-Type: application/json', 'needs no token');
$sink = new_sink('pubsub', 'auth.type' => 'bearer', 'auth.credentials' => undef, 'auth.token_uri' => undef, 'auth.token' => { secret => 'bearer' });
is($sink->send(%message)->{class}, 'ok', 'a token that somebody else gets');

# ---- tokens ----

sub targets
{
	return join ' ', map { $_->{target} =~ /(token|publish)/ } @_;
}

$cloud->set_time('+0');
my $oauth = new_sink('pubsub');
is(classes($oauth->send_all(map { { %message, key => $_ } } 1 .. 5)), 'ok ok ok ok ok', 'several messages at once');
is(targets($cloud->requests), 'token publish publish publish publish publish', 'ask for one token');
$cloud->set_time('+3000');
$oauth->send(%message);
is(targets($cloud->requests), 'publish', 'which is kept');
$cloud->set_time('+3300');
is($oauth->send(%message)->{class}, 'ok', 'and renewed before it ends');
is(targets($cloud->requests), 'token publish', 'by another');
# It is a new server to the double: what it gave is not known.
$cloud->kill;
$cloud->start;
my $result = $oauth->send(%message);
is("$result->{class} $result->{code}", 'retry_sink 401', 'a token that is refused is an outage');
like($result->{detail}, qr/^HTTP 401 UNAUTHENTICATED: Request had invalid authentication credentials/, 'with what the service says');
is($oauth->send(%message)->{class}, 'ok', 'which ends with the next');
is(targets($cloud->requests), 'publish token publish', 'that asks for another token');
unlike($result->{detail}, qr/ya29/, 'tokens are not shown');

$cloud->know(expires_in => 50);
$oauth = new_sink('pubsub');
$oauth->send(%message);
$cloud->set_time('+3330');
$oauth->send(%message);
is(targets($cloud->requests), 'token publish publish', 'a short one is used for most of its time');
$cloud->set_time('+3346');
is($oauth->send(%message)->{class}, 'ok', 'not to its end');
is(targets($cloud->requests), 'token publish', 'but renewed');
$cloud->know(expires_in => 3599);

$oauth = new_sink('pubsub');
$cloud->control('only=token&status=503&header=Retry-After:7&body=busy');
$result = $oauth->send(%message);
is("$result->{class} $result->{code} $result->{retry_after} $result->{detail}", 'retry_sink 503 7000 no access token: HTTP 503: busy',
	'the token endpoint does not work: an outage');
foreach my $case (
	[ 'status=200&body={}', 'retry_sink 200 no access token: HTTP 200 without one' ],
	[ 'status=200&body={"access_token":"secret', 'retry_sink 200 no access token: HTTP 200 without one' ],
	[ 'status=200&body={"access_token":"a%0d%0ab","expires_in":3599}', 'retry_sink 200 no access token: HTTP 200 without one' ],
	[ 'status=200&body={"access_token":"a%5cr%5cnX-Evil:1","expires_in":3599}', 'retry_sink 200 no access token: HTTP 200 without one' ],
	[ 'status=200&body={"access_token":7}', 'retry_sink 200 no access token: HTTP 200 without one' ],
	[ 'status=200&body_size=2000000', 'retry_sink 200 no access token: HTTP 200 without one' ],
	[ 'status=429', 'retry_sink 429 no access token: HTTP 429' ],
	[ 'status=400&body={"error":"invalid_grant","error_description":"Invalid+JWT+Signature."}',
		'retry_sink 400 no access token: HTTP 400 invalid_grant: Invalid JWT Signature.' ],
	[ 'status=302&header=Location:/there', 'fatal 302 no access token: HTTP 302: redirects are not followed; set url to /there' ])
{
	my ($control, $text) = @$case;
	$cloud->control("only=token&$control");
	$result = new_sink('pubsub')->send(%message);
	is("$result->{class} $result->{code} $result->{detail}", $text, "the token endpoint: $control");
}
foreach my $control ('half=1', 'reset=1', 'garbage=1')
{
	$cloud->control("only=token&$control");
	my @results = new_sink('pubsub')->send_all(map { { %message, key => $_ } } 1 .. 3);
	is(classes(@results), 'retry_sink retry_sink retry_sink', "$control: an outage of all that wait");
	like($results[0]{detail}, qr/^no access token: \S/, 'and it says of what');
}
$cloud->control('only=token&hang=1');
is(new_sink('pubsub', host => { timeout_ms => 200 })->send(%message)->{class}, 'retry_sink', 'no answer');
$cloud->control(undef);
is($oauth->send(%message)->{class}, 'ok', 'when it works again so does the sink');

my $self = new_sink('pubsub', 'auth.type' => 'self-signed', 'auth.token_uri' => undef);
is($self->send(%message)->{class}, 'ok', 'a token that the account signs');
($request) = $cloud->requests;
($jwt_header, $claims) = map { decode_base64(tr{-_}{+/}r) } split /\./, $request->header('Authorization') =~ s/^Bearer //r;
my $self_signed = $request->header('Authorization') =~ s/^Bearer //r;
is_deeply([ @{ decode_json($claims) }{qw(iss sub aud)} ], [ ('relay@project.iam.gserviceaccount.com') x 2, 'https://pubsub.googleapis.com/' ], 'and its claims');
is(decode_json($claims)->{exp} - decode_json($claims)->{iat}, 3600, 'for an hour');
$self->send(%message);
($request) = $cloud->requests;
is($request->header('Authorization'), "Bearer $self_signed", 'it is kept');
$cloud->set_time('+6700');
is($self->send(%message)->{class}, 'ok', 'and renewed in time');
my ($renewed) = $cloud->requests;
isnt($renewed->header('Authorization'), "Bearer $self_signed", 'by another');

# A key is changed while it runs: the old one is not known any more.
my $changed = new_sink('pubsub', 'auth.type' => 'self-signed', 'auth.token_uri' => undef,
	secrets => { account => account(private_key => slurp_file("$tmp/other.pem")) });
like($changed->send(%message)->{detail}, qr/Invalid JWT Signature/, 'another key is not accepted');
$changed->secret(account => account());
is($changed->send(%message)->{class}, 'ok', 'the right one is used at once');
$changed = new_sink('pubsub', secrets => { account => account(private_key => slurp_file("$tmp/other.pem")) });
is($changed->send(%message)->{detail}, 'no access token: HTTP 400 invalid_grant: Invalid JWT Signature.', 'the same for access tokens');
$changed->secret(account => account());
is($changed->send(%message)->{class}, 'ok', 'they come when the key is right');

foreach my $case (
	[ 'nonsense', 'it is not JSON' ], [ '{}', 'its type is not service_account' ],
	[ account(type => 'authorized_user'), 'its type is not service_account' ], [ account(client_email => ''), 'it has no client_email' ],
	[ account(private_key => 'x'), 'its private_key is not an RSA key in PEM without a password' ],
	[ account(private_key => slurp_file("$tmp/ec.pem")), 'its private_key is not an RSA key in PEM without a password' ],
	[ account(client_email => 'x' x 400), 'a member of it is not a string, or too long' ],
	[ account(token_uri => 'https://evil.example/token'), 'its token_uri is not the setting "auth.token_uri"' ])
{
	my ($secret, $text) = @$case;
	$result = new_sink('pubsub', secrets => { account => $secret })->send(%message);
	is("$result->{class} $result->{detail}", "fatal the secret \"account\" is not the key of a service account: $text", $text);
}

# ---- keys of Azure ----

foreach my $case ([ 'bus', 'bus', 'ok', {} ], [ 'hub', 'bus', 'ok', {} ], [ 'grid', 'grid', 'ok', {} ], [ 'grid', 'grid', 'ok', { 'auth.type' => 'sas' } ])
{
	my ($service, $name, undef, $more) = @$case;
	my $other = encode_base64('another key, not a real one', '');
	my $sink = new_sink($service, %$more, secrets => { $name => $other });
	my $result = $sink->send(%message);
	is("$result->{class} $result->{code}", 'retry_sink 401', "$service: another key is an outage");
	unlike($result->{detail}, qr/\Q$other\E/, 'it is not shown');
	$sink->secret($name => $secrets{$name});
	is($sink->send(%message)->{class}, 'ok', 'the right one ends it');
	$sink->secret($name);
	is($sink->send(%message)->{class}, 'fatal', 'without one nothing can be sent');
}
is(new_sink('grid', 'auth.type' => 'sas', secrets => { grid => 'no base64' })->send(%message)->{detail},
	'the secret "grid" is not a key to sign with', 'Event Grid: what is no key');
is(new_sink('bus', secrets => { bus => '' })->send(%message)->{class}, 'fatal', 'Service Bus: an empty one');
is(new_sink('grid', secrets => { grid => "a\r\nX-Evil: 1" })->send(%message)->{class}, 'fatal', 'or one that is two headers');
foreach my $service ('bus', 'grid')
{
	my $sink = new_sink($service, $service eq 'grid' ? ('auth.type' => 'sas') : ());
	# the double's clock alone, two hours ahead
	$cloud->{http}->control(undef);
	$sink->send(%message);
	my ($request) = $cloud->requests;
	my $token = $request->header($service eq 'grid' ? 'aeg-sas-token' : 'Authorization');
	$cloud->control('echo=1&status=401');
	unlike($sink->send(%message)->{detail}, qr/\Q${\substr $token, -20}\E/, "$service: a signature that is sent back is not shown");
	$cloud->control(undef);
}

# ---- what responses mean ----

sub xml
{
	return '&body=' . "<Error><Code>$_[0]</Code><Detail>$_[1]. TrackingId:1</Detail></Error>" =~ s/ /+/gr;
}

sub rpc
{
	my ($code, $status, @details) = @_;

	return '&body=' . encode_json({ error => { code => $code, message => 'why', status => $status, @details ? (details => \@details) : () } });
}

my $no_order = { 'auth.type' => 'none', 'auth.credentials' => undef, 'auth.token_uri' => undef };
my %retry_info = ('@type' => 'type.googleapis.com/google.rpc.RetryInfo');
foreach my $case (
	[ 'grid', 'status=400&body={"error":{"code":"BadRequest","message":"no"}}', 'permanent 400 -1 HTTP 400 BadRequest: no' ],
	[ 'grid', 'status=401&body={"error":{"code":"Unauthorized","message":"no"}}', 'retry_sink 401 -1 HTTP 401 Unauthorized: no' ],
	[ 'grid', 'status=403', 'retry_sink 403 -1 HTTP 403' ], [ 'grid', 'status=404', 'retry_sink 404 -1 HTTP 404' ],
	[ 'grid', 'status=410', 'fatal 410 -1 HTTP 410: the receiver is gone and wants nothing more' ],
	[ 'grid', 'status=413', 'permanent 413 -1 HTTP 413' ], [ 'grid', 'status=429&header=Retry-After:9', 'retry_sink 429 9000 HTTP 429' ],
	[ 'grid', 'status=500', 'retry 500 -1 HTTP 500' ], [ 'grid', 'status=503&header=Retry-After:2', 'retry_sink 503 2000 HTTP 503' ],
	[ 'bus', 'status=400' . xml(400, 'no'), 'permanent 400 -1 HTTP 400: no. TrackingId:1' ],
	[ 'bus', 'status=401' . xml(401, 'ExpiredToken'), 'retry_sink 401 -1 HTTP 401: ExpiredToken. TrackingId:1' ],
	[ 'bus', 'status=403' . xml(403, 'The maximum entity size has been reached or exceeded'),
		'retry_sink 403 -1 HTTP 403: The maximum entity size has been reached or exceeded. TrackingId:1' ],
	[ 'bus', 'status=403' . xml(403, 'MessageSizeExceeded'), 'permanent 403 -1 HTTP 403: MessageSizeExceeded. TrackingId:1' ],
	[ 'bus', 'status=404', 'retry_sink 404 -1 HTTP 404' ], [ 'bus', 'status=413', 'permanent 413 -1 HTTP 413' ],
	[ 'bus', 'status=410' . xml(410, 'no such queue'), 'retry_sink 410 -1 HTTP 410: no such queue. TrackingId:1' ],
	[ 'bus', 'status=410', 'retry_sink 410 -1 HTTP 410: there is no such entity' ],
	[ 'hub', 'status=429&header=Retry-After:4', 'retry_sink 429 4000 HTTP 429' ],
	[ 'hub', 'status=500' . xml(500, 'again'), 'retry 500 -1 HTTP 500: again. TrackingId:1' ],
	[ 'hub', 'status=503&header=Retry-After:10' . xml(503, '50002 Error'), 'retry_sink 503 10000 HTTP 503: 50002 Error. TrackingId:1' ],
	[ 'bus', 'status=500&body=<Error><Detail>never+ends', 'retry 500 -1 HTTP 500: <Error><Detail>never ends' ],
	[ 'bus', 'status=301&header=Location:/x', 'fatal 301 -1 HTTP 301: redirects are not followed; set url to /x' ],
	[ 'pubsub', 'status=400' . rpc(400, 'INVALID_ARGUMENT'), 'permanent 400 -1 HTTP 400 INVALID_ARGUMENT: why' ],
	[ 'pubsub', 'status=400' . rpc(400, 'FAILED_PRECONDITION'), 'retry_sink 400 -1 HTTP 400 FAILED_PRECONDITION: why' ],
	[ 'pubsub', 'status=401' . rpc(401, 'UNAUTHENTICATED'), 'retry_sink 401 -1 HTTP 401 UNAUTHENTICATED: why' ],
	[ 'pubsub', 'status=403' . rpc(403, 'PERMISSION_DENIED'), 'retry_sink 403 -1 HTTP 403 PERMISSION_DENIED: why' ],
	[ 'pubsub', 'status=404' . rpc(404, 'NOT_FOUND'), 'retry_sink 404 -1 HTTP 404 NOT_FOUND: why' ],
	[ 'pubsub', 'status=409' . rpc(409, 'ABORTED'), 'retry_sink 409 -1 HTTP 409 ABORTED: why' ],
	[ 'pubsub', 'status=429&header=Retry-After:3' . rpc(429, 'RESOURCE_EXHAUSTED'), 'retry_sink 429 3000 HTTP 429 RESOURCE_EXHAUSTED: why' ],
	[ 'pubsub', 'status=429' . rpc(429, 'RESOURCE_EXHAUSTED', { %retry_info, retryDelay => '1.5s' }), 'retry_sink 429 1500 HTTP 429 RESOURCE_EXHAUSTED: why' ],
	[ 'pubsub', 'status=429' . rpc(429, 'RESOURCE_EXHAUSTED', { %retry_info, retryDelay => 'soon' }), 'retry_sink 429 -1 HTTP 429 RESOURCE_EXHAUSTED: why' ],
	[ 'pubsub', 'status=429', 'retry_sink 429 -1 HTTP 429' ],
	[ 'pubsub', 'status=500' . rpc(500, 'INTERNAL'), 'retry 500 -1 HTTP 500 INTERNAL: why' ],
	[ 'pubsub', 'status=503' . rpc(503, 'UNAVAILABLE'), 'retry_sink 503 -1 HTTP 503 UNAVAILABLE: why' ],
	[ 'pubsub', 'status=504' . rpc(504, 'DEADLINE_EXCEEDED'), 'retry 504 -1 HTTP 504 DEADLINE_EXCEEDED: why' ],
	[ 'pubsub', 'status=502&body=<html>', 'retry_sink 502 -1 HTTP 502: <html>' ],
	[ 'pubsub', 'status=200&body={}', 'retry_sink 200 -1 HTTP 200: the answer has 0 ids for 1 messages' ],
	[ 'pubsub', 'status=200&body={"messageIds":["1","2"]}', 'retry_sink 200 -1 HTTP 200: the answer has 2 ids for 1 messages' ],
	[ 'pubsub', 'status=200&body={"messageIds":["1"', 'retry_sink 200 -1 HTTP 200: the answer has 0 ids for 1 messages' ],
	[ 'pubsub', 'status=200&body={"messageIds":["1"]}', 'ok 200 -1 ' ])
{
	my ($service, $control, $text) = @$case;
	my $sink = new_sink($service, $service eq 'pubsub' ? %$no_order : ());
	$cloud->control($control =~ s/\+/%2b/gr =~ s/(?<=[\w,.])%2b(?=\w)/+/gr);
	my $result = $sink->send(data => '{}');
	is("$result->{class} $result->{code} $result->{retry_after} $result->{detail}", $text, "$service: " . substr $control, 0, 40);
}
$cloud->control('status=410');
is(new_sink('bus', url => $cloud->url('/{topic}'))->send(data => '{}', topic => 'q')->{class}, 'permanent', 'where the message says where to go it is about the message');
foreach my $service (sort keys %service)
{
	foreach my $control ('half=1', 'reset=1', 'garbage=1')
	{
		$cloud->control("$control&only=/");
		my @results = new_sink($service, $service eq 'pubsub' ? %$no_order : ())->send_all(map { { data => event($_), key => $_ } } 1 .. 3);
		is(classes(@results), 'retry_sink retry_sink retry_sink', "$service: $control is an outage");
	}
}
$cloud->control(undef);

# One of several is to blame: each is tried by itself.
is(classes(new_sink('grid')->send_all({ data => event('1') }, { data => '{"id":"2"}' }, { data => event('3') })), 'ok permanent ok', 'Event Grid: a bad event');
is(scalar(@sent = $cloud->requests), 4, 'three went together, then by themselves');
is(classes(new_sink('pubsub', ordering => \0, host => { format => 'raw' })
	  ->send_all({ data => '1' }, { data => '2', 'h.bad' => '' }, { data => '3' })), 'ok ok ok', 'an attribute may be empty');

# ---- limits ----

sub sizes
{
	return join ' ', sort { $a <=> $b } map { $_->{body_length} } $cloud->requests;
}

my %large = (host => { batch_bytes => 1 << 30, batch_size => 5000, in_flight => 5000 });
$sink = new_sink('grid', %large);
is(classes($sink->send_all(map { { size => 400_000 } } 1 .. 2), $sink->send(size => (1 << 20) - 1)), 'permanent permanent permanent',
	'Event Grid: what is no event');
$cloud->control('status=200');
$cloud->requests;
is(classes($sink->send_all(map { { size => 400_000 } } 1 .. 5), $sink->send(size => (1 << 20) - 2)), 'ok ok ok ok ok ok', 'Event Grid: 1 MB');
is(sizes(), '400002 800003 800003 1048576', 'is the limit of a request');
is($sink->send(size => (1 << 20) - 1)->{detail}, 'the message has 1048576 bytes as the service counts them, more than the 1048575 that it may have', 'and of a message');
$sink = new_sink('bus', %large);
is($sink->send(size => 262144)->{class}, 'ok', 'Service Bus: 256 kB');
is($sink->send(size => 262145)->{detail}, 'the message has 262145 bytes, more than the 262144 of max_bytes', 'is the limit of a message');
is(new_sink('bus', max_bytes => [1048576])->send(size => 262145)->{class}, 'ok', 'in the standard tier');
$cloud->requests;
$sink = new_sink('bus', key => 'none', host => { %{ $large{host} }, format => 'cloudevents-batch' });
is(classes($sink->send_all(map { { size => 100_000 } } 1 .. 5)), 'ok ok ok ok ok', 'and of a batch');
is(sizes() =~ s/\d{4} / /gr =~ s/\d{4}$//r, '10 20 20', 'which is divided');
$cloud->control('only=publish&status=200&body=' . encode_json({ messageIds => [ ('1') x 1000 ] }));
$sink = new_sink('pubsub', %$no_order, %large, ordering => \0);
is(classes($sink->send_all(map { { data => '1' } } 1 .. 2000)), join(' ', ('ok') x 2000), 'Pub/Sub: 1000 messages');
is(scalar(@sent = $cloud->requests), 2, 'are the limit of a request');
$cloud->control('only=publish&status=200&body={"messageIds":["1","1"]}');
is(classes($sink->send_all(map { { size => 4_900_000 } } 1 .. 4)), 'ok ok ok ok', 'and 10 MB');
is(scalar(@sent = $cloud->requests), 2, 'are another');
is($sink->send(size => 10_000_001)->{class}, 'permanent', 'of a message, too');
$cloud->control(undef);

# ---- settings ----

foreach my $case (
	[ 'grid', { url => undef }, qr/"url", the topic's endpoint, is missing/ ], [ 'grid', { url => 'http://far.example/x' }, qr/"url" must begin with https/ ],
	[ 'grid', { url => 'https://h/x?api-version=1' }, qr/must not have a query/ ], [ 'grid', { api_version => 'a b' }, qr/"api_version" must be like/ ],
	[ 'grid', { 'auth.key' => 't0psecret' }, qr/"auth.key" must not be in the configuration itself/ ], [ 'grid', { 'auth.key' => undef }, qr/"auth.key" is missing/ ],
	[ 'grid', { 'auth.type' => 'basic' }, qr/one of: key, sas, bearer/ ], [ 'grid', { 'auth.policy' => 'x' }, qr/"auth.policy" is not known/ ],
	[ 'grid', { 'auth.token' => { secret => 'x' } }, qr/needs "auth.type": "bearer"/ ], [ 'grid', { method => 'PUT' }, qr/"method" is not known/ ],
	[ 'bus', { url => undef }, qr/"url".*is missing/ ], [ 'bus', { url => 'http://far.example/q' }, qr/must begin with https/ ],
	[ 'bus', { 'auth.policy' => undef }, qr/"auth.policy".*is missing/ ], [ 'bus', { 'auth.policy' => 'a&b' }, qr/not the name of a policy/ ],
	[ 'bus', { 'auth.key' => 't0psecret' }, qr/must not be in/ ], [ 'bus', { 'auth.type' => 'bearer', 'auth.token' => { secret => 'x' } }, qr/exclude/ ],
	[ 'bus', { 'auth.type' => 'bearer', 'auth.key' => undef, 'auth.policy' => undef }, qr/"auth.token" is missing/ ], [ 'bus', { key => 'label' }, qr/one of: session, partition, none/ ],
	[ 'bus', { max_bytes => [2_000_000] }, qr/"max_bytes" must be a whole number/ ], [ 'bus', { time_to_live_s => [0] }, qr/"time_to_live_s"/ ],
	[ 'bus', { mix_keys => 'x' }, qr/"mix_keys" must be true or false/ ], [ 'hub', { key => 'session' }, qr/one of: partition, none/ ],
	[ 'hub', { time_to_live_s => [9] }, qr/"time_to_live_s" is not known/ ], [ 'hub', { url => 'https://{topic}/' }, qr/in its path and query only/ ],
	[ 'pubsub', { project => undef }, qr/"project" is missing/ ], [ 'pubsub', { project => 'a/b' }, qr/"project" must begin/ ], [ 'pubsub', { project => '{topic}' }, qr/"project" must begin/ ],
	[ 'pubsub', { topic => undef }, qr/"topic" is missing/ ], [ 'pubsub', { topic => 'a/{topic}' }, qr/"topic" must begin/ ], [ 'pubsub', { topic => '..' }, qr/"topic" must begin/ ],
	[ 'pubsub', { endpoint => 'http://far.example' }, qr/"endpoint" must begin with https/ ], [ 'pubsub', { endpoint => 'https://h/?a' }, qr/"endpoint" must not have/ ],
	[ 'pubsub', { 'auth.token_uri' => 'http://far.example/token' }, qr/"auth.token_uri" must begin with https/ ], [ 'pubsub', { 'auth.token_uri' => 'x' }, qr/"auth.token_uri"/ ],
	[ 'pubsub', { 'auth.credentials' => 't0psecret' }, qr/must not be in/ ], [ 'pubsub', { 'auth.credentials' => undef }, qr/"auth.credentials" is missing/ ],
	[ 'pubsub', { 'auth.type' => 'self-signed' }, qr/"auth.token_uri" needs/ ], [ 'pubsub', { 'auth.audience' => 'x' }, qr/"auth.audience" needs/ ],
	[ 'pubsub', { 'auth.type' => 'none', 'auth.token_uri' => undef }, qr/"auth.credentials" needs/ ], [ 'pubsub', { 'auth.token' => { secret => 'x' } }, qr/"auth.token" needs/ ],
	[ 'pubsub', { ordering => 'x' }, qr/"ordering" must be true or false/ ], [ 'pubsub', { profile => 'gcp' }, qr/"profile" must be one of: webhook/ ])
{
	my ($service, $more, $text) = @$case;
	my $error = EvsSend->new($module, settings($service, %$more))->validate;
	like($error, $text, "$service: refused: " . join ' ', map { "$_=" . ($more->{$_} // 'none') } keys %$more);
	unlike($error, qr/t0psecret/, 'without showing what should be secret');
}
foreach my $case ([ 'grid', 'raw' ], [ 'grid', 'cloudevents-binary' ], [ 'bus', 'cloudevents-binary' ])
{
	my ($service, $format) = @$case;
	like(EvsSend->new($module, settings($service), host => { format => $format })->validate, qr/cannot send the format "$format"/, "$service: not $format");
}
$sink = EvsSend->new($module, settings('pubsub', 'auth.token_uri' => 'https://tokens.example/'));
$sink->command(deny => 'tokens.example');
like($sink->validate, qr/^setting "auth.token_uri": connections to tokens.example, port 443, are not allowed/, 'where tokens come from must be allowed');
$sink = EvsSend->new($module, settings('pubsub', 'auth.token_uri' => $cloud->url('/token', 'localhost')),
	secrets => { account => account(token_uri => $cloud->url('/token', 'localhost')) });
is($sink->validate || $sink->open, '', 'its name is');
$sink->command(deny => $_) for '::1', '127.0.0.1';
$result = $sink->send(%message);
like("$result->{class} $result->{detail}", qr/^fatal no access token: connections to \S+, to which localhost was resolved, are not allowed/, 'but not its address');

# ---- libraries ----

SKIP:
{
	system('cp', "$root/test/tools/cloud/package.json", "$root/test/tools/cloud/oracle.js", $tmp) == 0 or die 'cp failed';
	my $npm = `cd '$tmp' && npm install --no-package-lock --no-audit --no-fund --loglevel=error 2>&1`;
	is($?, 0, 'the libraries to compare with are installed') or skip "npm: $npm", 1;

	sub oracle
	{
		my (@lines) = @_;

		unlink "$tmp/in";
		append_to_file("$tmp/in", join '', map { encode_json($_) . "\n" } @lines);
		return map { JSON::PP->new->allow_nonref->utf8->decode($_) } split /\n/, `cd '$tmp' && node oracle.js <in`;
	}

	$cloud->set_time("=$now");
	new_sink('bus')->send(%message);
	my ($bus_request) = $cloud->requests;
	new_sink('grid')->send_all(@events);
	my ($grid_request) = $cloud->requests;
	my %batch = (headers => { map { lc $_->[0] => $_->[1] } @{ $grid_request->{headers} } }, body => $grid_request->{body});
	my %single = (headers => { 'content-type' => $bus_request->header('Content-Type') }, body => $bus_request->{body});
	my %jwt = (pem => slurp_file("$tmp/public.pem"), now => $now);
	my ($sas, $jwt, $refused, $batch, $single) = oracle(
		{ sas => [ $cloud->url('/queue'), 'send', $bus_key ], now => $now },
		{ jwt => $assertion, %jwt }, { jwt => $assertion, %jwt, now => $now + 3601 }, { events => \%batch }, { events => \%single });
	is("Authorization: $sas", $bus_request->header('Authorization') =~ s/^/Authorization: /r, '@azure/core-amqp makes the same signature');
	is($jwt->{claims}{iss}, 'relay@project.iam.gserviceaccount.com', 'jose accepts what the account signs');
	like($refused->{error}, qr/JWTExpired/, 'not when it has expired');
	is(join(' ', map { $_->{id} } @$batch), 'e-1 e-2 e-3', 'cloudevents reads a batch');
	is_deeply($batch->[0]{data}, decode_json(event('e-1'))->{data}, 'with its data');
	is($single->[0]{id}, 'm-1', 'and a single event') or diag explain $single;
}
$cloud->set_time('+0');

# ---- TLS ----

SKIP:
{
	skip 'IO::Socket::SSL is not installed' unless eval { require IO::Socket::SSL };
	my $cert = make_certificate("$tmp/cloud", make_ca("$tmp/ca"));
	my $secure = cloud_double(tls => $cert, known => { grid => $grid_key, bus => { send => [ $bus_key, $next_key ] }, bearer => 'a-bearer-token' });
	my $plain = $cloud;
	$secure->put('public.pem', slurp_file("$tmp/public.pem"));
	$cloud = $secure;
	my %trust = ('tls.ca_file' => "$tmp/ca.pem");
	is(new_sink($_, %trust)->send(%message)->{class}, 'ok', "$_ by TLS") for qw(grid bus hub);
	is(new_sink('pubsub', %trust, 'auth.type' => 'self-signed', 'auth.token_uri' => undef)->send(%message)->{class}, 'ok', 'pubsub by TLS');
	is(new_sink('pubsub', %trust, secrets => { account => account() })->send(%message)->{class}, 'ok', 'its tokens, too');
	is(targets($secure->requests), 'token publish', 'from there');
	foreach my $service ('bus', 'pubsub')
	{
		my $result = new_sink($service, secrets => { account => account() })->send(%message);
		is($result->{class}, 'fatal', "$service: not with somebody who is not trusted");
		like($result->{detail}, qr/certificate/, 'and it says so');
	}
	is(scalar(@sent = $secure->requests), 0, 'who gets nothing');
	$cloud = $plain;
}

# ---- the rules of sinks ----

# Settings as the harness wants them
sub arguments
{
	my ($service, %more) = @_;
	my $settings = settings($service, %more);

	return (map({ ('--secret', "$_=$secrets{$_}") } sort keys %secrets), $module, map {
		my $value = $settings->{$_};
		ref $value eq 'HASH' ? "$_\@=$value->{secret}" : ref $value eq 'SCALAR' ? "$_:=" . ($$value ? 'true' : 'false') : "$_=$value"
	} sort keys %$settings);
}

foreach my $case ([ 'grid', 'cloudevents', 'cloudevents-batch' ], [ 'bus', 'cloudevents', 'cloudevents-batch', 'raw' ],
	[ 'hub', 'cloudevents', 'cloudevents-batch', 'raw' ], [ 'pubsub', 'cloudevents', 'cloudevents-batch', 'cloudevents-binary', 'raw' ])
{
	my ($service, @formats) = @$case;
	foreach my $format (@formats)
	{
		my $run = harness_ok("$service: $format keeps the rules", '--edge', '--test', '--format', $format, '--messages', 300,
			'--in-flight', 64, '--replay', 5, arguments($service));
		is($run->{value}{delivered} + $run->{value}{parked}, 306, 'every message has its result');
		cmp_ok($run->{value}{delivered}, '>=', 290, 'and all but a few odd ones arrive');
	}
}
$cloud->control('hang=1');
harness_ok("$_: destroy() with messages in flight", '--messages', 100, '--keys', 0, '--destroy-at', 50, '--in-flight', 64, arguments($_))
  for sort keys %service;
$cloud->control(undef);

$cloud->requests;
harness_ok('a key that changes', '--messages', 40, '--in-flight', 1, '--rotate', "20:bus=$next_key", arguments('bus'));
my %signed_by;
foreach my $request ($cloud->requests)
{
	my ($resource, $sig, $se) = $request->header('Authorization') =~ /sr=([^&]+)&sig=([^&]+)&se=(\d+)/;
	my ($n) = grep { hmac_sha256_base64("$resource\n$se", ($bus_key, $next_key)[$_]) . '=' eq $sig =~ s/%(..)/chr hex $1/ger } 0, 1;
	$signed_by{ $n // 'nobody' }++;
}
is_deeply(\%signed_by, { 0 => 20, 1 => 20 }, 'from one message to the next');

# ---- from a store ----

my $node = new_node('cloud');
my $store = session($node, new_store($node, 'store'));
$store->query('SET evstore.egress_allow = \'127.0.0.1\'');
$store->query("SELECT evstore.create_secret('$_', \$v\$$secrets{$_}\$v\$)") for sort keys %secrets;
$store->query("SELECT evstore.append('order-1', '$_', '{}')") for qw(Placed Paid);
foreach my $case ([ 'grid', 'cloudevents' ], [ 'grid', 'cloudevents-batch' ], [ 'bus', 'cloudevents' ], [ 'hub', 'cloudevents-batch' ],
	[ 'pubsub', 'cloudevents-binary' ], [ 'pubsub', 'cloudevents-batch' ])
{
	my ($service, $format) = @$case;
	my %nested;
	my $settings = settings($service);
	foreach my $name (keys %$settings)
	{
		my ($group, $member) = $name =~ /^(?:(auth)\.)?(.*)$/;
		($group ? $nested{$group} //= {} : \%nested)->{$member} = $settings->{$name};
	}
	$cloud->accepted;
	$store->query("SELECT evstore.create_relay('$service $format', 'http', '" . encode_json(\%nested) . qq[', options => '{"format": "$format"}')]);
	is($store->query("SELECT evstore.run_relay('$service $format')"), 2, "$service: $format from a store");
	my @got = $cloud->accepted;
	my @types = map { $_->{attributes}{'ce-type'} // event_in($_)->{type} } @got;
	is(join(' ', @types), 'Placed Paid', 'arrives in order');
}

# ---- whatever is killed ----

# the event in what a service has taken
sub event_in
{
	my ($message) = @_;

	return $message->{event} // decode_json($message->{data} ? decode_base64($message->{data}) : Encode::encode_utf8($message->{body}));
}

my ($nmessages, $nkeys) = (1000, 15);
foreach my $case ([ 'grid', 'cloudevents' ], [ 'grid', 'cloudevents-batch' ], [ 'bus', 'cloudevents' ], [ 'hub', 'cloudevents-batch' ],
	[ 'pubsub', 'cloudevents', {} ], [ 'pubsub', 'cloudevents', { ordering => \0 } ])
{
	my ($service, $format, $more) = @$case;
	my $name = "$service, $format" . ($more && %$more ? ', no ordering' : '');
	my $port = $cloud->{http}{port};
	# Tokens are good for a second.
	my $wild = cloud_double(known => { %{ $cloud->{known} }, expires_in => 1 }, port => $port, env => { EVS_CLOUD_CHAOS => $seed++ })
	  if !$cloud->kill;
	$wild->put('public.pem', slurp_file("$tmp/public.pem"));
	my $run = start_harness('--messages', $nmessages, '--keys', $nkeys, '--in-flight', 32, '--format', $format, '--timeout', 20000,
		'--attempts', 1000, '--give-up', 60, arguments($service, %{ $more // {} }));
	foreach my $n (100, 300, 600)
	{
		wait_for_harness($run, sub { $wild->naccepted >= $n }) or last;
		$wild->kill;
		$wild->start;
	}
	finish_harness($run);
	is($run->{status}, 0, "$name: the server is killed, and loses answers") or diag $run->{out}, $run->{err};
	my (%seen, %last, $wrong);
	foreach my $n (map { event_in($_)->{data}{n} } $wild->accepted)
	{
		$seen{$n}++;
		$wrong //= "$n after $last{ $n % $nkeys }" if $n < ($last{ $n % $nkeys } // 0);
		$last{ $n % $nkeys } = $n;
	}
	is(scalar keys %seen, $nmessages, 'nothing is missing');
	is($wrong, undef, 'each key is in order');
	cmp_ok(scalar(grep { $_ > 1 } values %seen), '>', 0, 'what was not answered came again');
	$wild->{http}->stop;
	$cloud->start;
}

done_testing();
