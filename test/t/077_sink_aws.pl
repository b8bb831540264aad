# The profiles of AWS of the http sink: signatures against the published vectors and
# against aws4, requests byte for byte, what errors mean, and local doubles of the
# services.
#
# EVS_AWS_SEED chooses what fails in the property test.

use strict;
use warnings;
use utf8;

use Digest::SHA 'sha256_hex';
use FindBin;
use IPC::Open2;
use JSON::PP;
use lib $FindBin::Bin;
use MIME::Base64;
use EvsHttp;
use EvsSend;
use EvsSink;
use EvsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $module = sink_module('http');
plan skip_all => 'the http sink was not built' unless -e $module;

my $tools = "$FindBin::Bin/../tools";
my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my $json = JSON::PP->new->utf8->canonical;
my $seed = $ENV{EVS_AWS_SEED} // int rand 1_000_000;
my %credentials = (access_key_id => 'AKIDEXAMPLE', secret_access_key => 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY');
my %secrets = (aws => $json->encode(\%credentials));
my $account = '123456789012';
my %destination = (
	'aws-eventbridge' => [ event_bus => 'orders' ],
	'aws-kinesis' => [ stream => 'orders' ],
	'aws-sns' => [ topic_arn => "arn:aws:sns:eu-central-1:$account:orders" ],
	'aws-sqs' => [ queue_url => "https://sqs.eu-central-1.amazonaws.com/$account/orders" ]);

note "EVS_AWS_SEED=$seed";

sub settings
{
	my ($profile, %more) = @_;

	return { profile => $profile, region => 'eu-central-1', 'auth.credentials' => { secret => 'aws' },
		@{ $destination{$profile} }, %more };
}

sub new_sink
{
	my ($profile, $settings, %opt) = @_;
	my $sink = EvsSend->new($module, settings($profile, %$settings), secrets => {%secrets}, %opt);
	my $error = $sink->validate || $sink->open;

	die "the sink does not open: $error" if $error;
	return $sink;
}

# ---- signatures: the published vectors ----

my $vectors = $json->decode(slurp_file("$FindBin::Bin/../data/aws_sigv4.json"));

foreach my $vector (@{ $vectors->{requests} })
{
	my @arguments = (@credentials{qw(access_key_id secret_access_key)}, $vector->{token},
		@$vectors{qw(region service timestamp)}, @$vector{qw(method path)}, map { @$_ } @{ $vector->{headers} });
	utf8::encode($_) for @arguments;
	my $pid = open2(my $out, my $in, "$tools/aws_sign", @arguments);
	print $in $vector->{body};
	close $in;
	my ($signature) = join('', readline $out) =~ /Signature=(\w+)/;
	waitpid $pid, 0;
	is($signature, $vector->{signature}, "vector $vector->{name}");
}

# ---- settings ----

sub refused
{
	my ($profile, $more, $error, $host) = @_;
	my $settings = settings($profile, %$more);

	delete @$settings{ grep { !defined $more->{$_} } keys %$more };
	my $got = EvsSend->new($module, $settings, $host ? (host => $host) : ())->validate;
	return like($got, $error, "$profile: " . ($got || 'no error'));
}

refused('aws-nothing', {}, qr/^setting "profile" must be one of: webhook, aws-eventbridge/) if $destination{'aws-nothing'} = [];
foreach my $profile (grep { $_ ne 'aws-nothing' } sort keys %destination)
{
	my ($name) = @{ $destination{$profile} };
	is(EvsSend->new($module, settings($profile))->validate, '', "$profile is possible");
	refused($profile, { url => 'http://x/' }, qr/^setting "url" is not known$/);
	refused($profile, { 'auth.credentials' => 'x' }, qr/^setting "auth.credentials" must not be in the configuration itself/);
	refused($profile, { 'auth.credentials' => undef }, qr/^setting "auth.credentials", or .* is missing$/);
	refused($profile, { 'auth.access_key_id' => { secret => 'x' } }, qr/exclude each other/);
	refused($profile, { 'auth.credentials' => undef, 'auth.access_key_id' => { secret => 'x' } }, qr/need each other/);
	refused($profile, { region => 'Mars/x' }, qr/^setting "region" must be the name of a region/);
	refused($profile, { $name => [1] }, qr/^setting "$name" must be a string/);
	refused($profile, { $name => 'arn:{nothing}' }, qr/^setting "$name" can have the places \{id\}/);
	refused($profile, { $name => undef }, qr/^setting "$name" is missing$/) unless $name eq 'event_bus';
	refused($profile, { max_bytes => [1023] }, qr/^setting "max_bytes" must be a whole number between 1024/);
	refused($profile, { endpoint => 'ftp://x/' }, qr/^setting "endpoint" must begin with http/);
	refused($profile, { endpoint => 'https://x/?a=b' }, qr/^setting "endpoint" must not have a query/);
	refused($profile, {}, qr/^the profile "$profile" of the http sink cannot send the format "$_"$/, { format => $_ })
	  for qw(cloudevents-batch cloudevents-binary);
	refused($profile, { endpoint => 'http://127.0.0.1/', 'tls.ca_file' => '/x' }, qr/^setting "tls.ca_file" needs a url/);
	refused($profile, { endpoint => 'http://x/' }, qr/^setting "endpoint" must begin with https/);
}
refused('aws-eventbridge', { region => undef }, qr/^setting "region" is missing$/);
refused('aws-eventbridge', { 'resources.0' => '{x}' }, qr/^setting "resources.0" can have the places/);
refused('aws-kinesis', { max_record_bytes => [0] }, qr/^setting "max_record_bytes" must be/);
refused('aws-sns', { topic_arn => 'orders' }, qr/^setting "topic_arn" must be the ARN/);
refused('aws-sns', { subject => "a\nb" }, qr/^setting "subject" must have 1 to 100 ASCII/);
refused('aws-sns', { 'attributes.a..b' => 'x' }, qr/^setting "attributes.a..b": this cannot be the name/);
refused('aws-sqs', { 'attributes.AWS.x' => 'x' }, qr/this cannot be the name of an attribute$/);
refused('aws-sqs', { map { ("attributes.a$_" => 'x') } 1 .. 11 }, qr/can have 10 attributes at most$/);
refused('aws-sqs', { queue_url => 'orders' }, qr/^setting "queue_url" must be the URL of a queue/);
refused('aws-sqs', { queue_url => 'https://{topic}/1/x' }, qr/^setting "queue_url" can have places to fill in in its path/);

# The region is in what is configured, and the endpoint follows from it.
foreach my $case (
	[ 'aws-sqs', { queue_url => "https://sqs.eu-west-3.amazonaws.com/$account/q" }, 'sqs.eu-west-3.amazonaws.com 443' ],
	[ 'aws-sqs', { queue_url => "https://vpce-1.sqs.us-east-1.vpce.amazonaws.com/$account/q" }, 'vpce-1.sqs.us-east-1.vpce.amazonaws.com 443' ],
	[ 'aws-sns', { topic_arn => "arn:aws-us-gov:sns:us-gov-west-1:$account:{topic}" }, 'sns.us-gov-west-1.amazonaws.com 443' ],
	[ 'aws-kinesis', { stream => "arn:aws-cn:kinesis:cn-north-1:$account:stream/x" }, 'kinesis.cn-north-1.amazonaws.com.cn 443' ],
	[ 'aws-eventbridge', { endpoint => 'https://events.eu-central-2.amazonaws.com' }, 'events.eu-central-2.amazonaws.com 443' ],
	[ 'aws-eventbridge', { region => 'sa-east-1' }, 'events.sa-east-1.amazonaws.com 443' ])
{
	my ($profile, $more, $expected) = @$case;
	my $settings = settings($profile, %$more);
	delete $settings->{region} unless $more->{region};
	my $sink = EvsSend->new($module, $settings);
	is($sink->validate, '', "$profile without a region of its own");
	my (undef, @asked) = $sink->command('egress');
	like("@asked", qr/\Q@{[ $expected =~ s{ .*}{}r ]}\E/, "goes to $expected");
}

# ---- requests, byte for byte ----

my $id = '00000000-0000-4000-8000-000000000000';
my $service = http_server(args => [ '--script', "$tools/aws_double.pl" ]);
my @signed;						# for aws4

# Send messages; the requests that came of them. Results are compared with the classes.
sub sent
{
	my ($profile, $settings, $classes, @messages) = @_;
	my $sink = new_sink($profile, { endpoint => $service->url, %$settings }, host => { format => 'raw' });

	$service->requests;
	my @results = $sink->send_all(@messages);
	is(join(' ', map { $_->{class} } @results), $classes, "$profile: $classes")
	  or diag(explain(\@results));
	my @requests = $service->requests;
	push @signed, map { [ $profile =~ s/^aws-//r =~ s/eventbridge/events/r, $_ ] } @requests;
	return @requests;
}

sub headers_are
{
	my ($request, $type, $target) = @_;

	is($request->header('Content-Type'), $type, 'its content type');
	is($request->header('X-Amz-Target'), $target, 'and operation');
	is("$request->{method} $request->{target}", 'POST /', 'in a POST');
	return like($request->header('X-Amz-Date'), qr/^\d{8}T\d{6}Z$/, 'with the time');
}

my ($request) = sent('aws-eventbridge', { 'resources.0' => 'arn:{stream}', 'resources.1' => 'arn:{{x}}' }, 'ok ok',
	{ type => 'Ordered', source => '/shop', time_us => '1700000000999999', data => '{"a":"é\"\\\\"}',
		'h.X-Amzn-Trace-Id' => 'Root=1-2-3', 'h.other' => 'x' },
	{ type => 'Ordered', source => '/shop', stream => 's"2', data => '{}' });
is($request->{body}, '{"Entries":['
	  . '{"EventBusName":"orders","Source":"/shop","DetailType":"Ordered","Time":1700000000,"Resources":["arn:s-1","arn:{x}"],'
	  . '"TraceHeader":"Root=1-2-3","Detail":"{\\"a\\":\\"é\\\\\\"\\\\\\\\\\"}"},'
	  . '{"EventBusName":"orders","Source":"/shop","DetailType":"Ordered","Time":0,"Resources":["arn:s\\"2","arn:{x}"],'
	  . '"Detail":"{}"}]}', 'PutEvents');
headers_are($request, 'application/x-amz-json-1.1', 'AWSEvents.PutEvents');
($request) = sent('aws-eventbridge', { event_bus => 'bus-{topic}', source => 'shop', detail_type => 'x {type}' }, 'ok ok',
	{ topic => 'a', data => '{}' }, { topic => 'b', data => ' {}' });
is_deeply([ map { [ @$_{qw(EventBusName Source DetailType)} ] } @{ $json->decode($request->{body})->{Entries} } ],
	[ [ 'bus-a', 'shop', 'x T' ], [ 'bus-b', 'shop', 'x T' ] ], 'templates; each entry has its bus');
is(scalar sent('aws-eventbridge', {}, 'permanent permanent permanent', { data => '[]' }, {}, { data => "{\xff}" }), 0,
	'what is no JSON object is not sent');

($request) = sent('aws-kinesis', {}, 'ok ok ok', { key => 'k"1', data => "\xff\xfe\n" }, {}, { key => 'ü' x 257, data => 'x' });
is($request->{body}, '{"Records":[{"PartitionKey":"k\"1","Data":"//4K"},{"PartitionKey":"' . $id . '","Data":""},'
	  . '{"PartitionKey":"' . sha256_hex("\xc3\xbc" x 257) . '","Data":"eA=="}],"StreamName":"orders"}', 'PutRecords');
headers_are($request, 'application/x-amz-json-1.1', 'Kinesis_20131202.PutRecords');
my @requests = sent('aws-kinesis', { stream => "arn:aws:kinesis:eu-central-1:$account:stream/{topic}", partition_key => '{stream}' },
	'ok ok ok', { topic => 'a', data => '1' }, { topic => 'a', data => '2' }, { topic => 'b', data => '3' });
is_deeply([ sort map { $_->{body} } @requests ],
	[ map { my ($topic, @data) = @$_; '{"Records":[' . join(',', map { "{\"PartitionKey\":\"s-1\",\"Data\":\"$_\"}" } @data)
		  . "],\"StreamARN\":\"arn:aws:kinesis:eu-central-1:$account:stream/$topic\"}" } [ 'a', 'MQ==', 'Mg==' ], [ 'b', 'Mw==' ] ],
	'a request for each stream');

($request) = sent('aws-sqs', { 'attributes.type' => '{type}', 'attributes.position' => '{position}' }, 'ok ok',
	{ data => "a\"\t\n💡", 'h.trace' => 'é', 'h.none' => '' }, { key => 'k', data => 'x' });
is($request->{body}, '{"Entries":[{"Id":"0","MessageBody":"a\"\u0009\u000a💡","MessageAttributes":{'
	  . '"position":{"DataType":"Number","StringValue":"1"},"type":{"DataType":"String","StringValue":"T"},'
	  . '"trace":{"DataType":"String","StringValue":"é"}}},{"Id":"1","MessageBody":"x","MessageAttributes":{'
	  . '"position":{"DataType":"Number","StringValue":"2"},"type":{"DataType":"String","StringValue":"T"}}}],'
	  . "\"QueueUrl\":\"https://sqs.eu-central-1.amazonaws.com/$account/orders\"}", 'SendMessageBatch');
headers_are($request, 'application/x-amz-json-1.0', 'AmazonSQS.SendMessageBatch');
my $fifo = "https://sqs.eu-central-1.amazonaws.com/$account/{topic}.fifo";
($request) = sent('aws-sqs', { queue_url => $fifo }, 'ok ok ok ok ok', map { { topic => 'o', data => 'x', @$_ } }
	  [ key => 'k:1' ], [ id => 'no-key' ], [ key => 'two words' ], [ key => 'k' x 128 ], [ key => 'k' x 129 ]);
is_deeply([ map { [ @$_{qw(MessageGroupId MessageDeduplicationId)} ] } @{ $json->decode($request->{body})->{Entries} } ],
	[ [ 'k:1', $id ], [ 'no-key', 'no-key' ], [ sha256_hex('two words'), $id ], [ 'k' x 128, $id ], [ sha256_hex('k' x 129), $id ] ],
	'FIFO: group and deduplication; groups that AWS does not take are hashed');
($request) = sent('aws-sqs', { group_id => '{stream}' }, 'ok', { data => 'x' });
my $entry = $json->decode($request->{body})->{Entries}[0];
is_deeply([ $entry->{MessageGroupId}, exists $entry->{MessageDeduplicationId} ], [ 's-1', !!0 ], 'groups in other queues');
is(scalar sent('aws-sqs', {}, join(' ', ('permanent') x 8), { data => "a\x01b" }, { data => "\xff" }, { data => "\x{ffff}" }, {},
		{ data => 'x', 'h.a b' => 'x' }, { data => 'x', 'h.a' => "\x02" }, { data => 'x', map { ("h.$_" => 'x') } 'a' .. 'k' },
		{ data => 'x', 'h.Amazon.x' => 'x' }), 0, 'what SQS does not take is not sent');
is(scalar sent('aws-sqs', { queue_url => $fifo }, join(' ', ('permanent') x 4), map { { data => 'x', topic => $_ } }
		  '', 'a/b', '../999/x', 'a b'), 0, 'nor what would lead to another place');

my $form = "Action=PublishBatch&Version=2010-03-31";
my $member = 'PublishBatchRequestEntries.member';
my $arn = "arn%3Aaws%3Asns%3Aeu-central-1%3A$account%3Aorders";
($request) = sent('aws-sns', { subject => 'about {type}', 'attributes.v' => '{version}' }, 'ok ok',
	{ data => '{"a": "é&="}', 'h.trace' => 'a b' }, { key => 'k', data => "\n" });
is($request->{body}, "$form&$member.1.Id=0&$member.1.Message=%7B%22a%22%3A%20%22%C3%A9%26%3D%22%7D&$member.1.Subject=about%20T"
	  . "&$member.1.MessageAttributes.entry.1.Name=v&$member.1.MessageAttributes.entry.1.Value.DataType=Number"
	  . "&$member.1.MessageAttributes.entry.1.Value.StringValue=1"
	  . "&$member.1.MessageAttributes.entry.2.Name=trace&$member.1.MessageAttributes.entry.2.Value.DataType=String"
	  . "&$member.1.MessageAttributes.entry.2.Value.StringValue=a%20b"
	  . "&$member.2.Id=1&$member.2.Message=%0A&$member.2.Subject=about%20T"
	  . "&$member.2.MessageAttributes.entry.1.Name=v&$member.2.MessageAttributes.entry.1.Value.DataType=Number"
	  . "&$member.2.MessageAttributes.entry.1.Value.StringValue=1&TopicArn=$arn", 'PublishBatch');
headers_are($request, 'application/x-www-form-urlencoded; charset=utf-8', undef);
($request) = sent('aws-sns', { topic_arn => "arn:aws:sns:eu-central-1:$account:{topic}" }, 'ok',
	{ topic => 'o.fifo', key => 'k', data => 'x' });
is($request->{body}, "$form&$member.1.Id=0&$member.1.Message=x&$member.1.MessageGroupId=k&$member.1.MessageDeduplicationId=$id"
	  . "&TopicArn=" . $arn =~ s/orders/o.fifo/r, 'FIFO topics');
is(scalar sent('aws-sns', { subject => '{type}' }, 'permanent permanent permanent permanent',
		map { { data => 'x', type => $_ } } 'é', "a\nb", 'x' x 101, ' x'), 0, 'subjects that SNS does not take');

# ---- splitting ----

sub entries_in
{
	my ($profile, $settings, $host, @messages) = @_;
	my $sink = new_sink($profile, { endpoint => $service->url, %$settings },
		host => { format => 'raw', in_flight => 2000, batch_size => 1000, batch_bytes => 100_000_000, %$host });

	$service->requests;
	my @results = $sink->send_all(@messages);
	is(scalar(grep { $_->{class} eq 'ok' } @results), scalar @messages, "$profile: all are sent")
	  or diag(explain((grep { $_->{class} ne 'ok' } @results)[0]));
	return join ' ', sort { $b <=> $a } map {
		my $body = $_->{body};
		defined $body ? scalar(() = $body =~ /"EventBusName"|"PartitionKey"|"MessageBody"|\.Message=/g) : 'large' } $service->requests;
}

my @few = map { { data => "{\"n\":$_}" } } 1 .. 23;
foreach my $profile (qw(aws-eventbridge aws-sns aws-sqs))
{
	is(entries_in($profile, {}, {}, @few), '10 10 3', 'ten at most');
	is(entries_in($profile, {}, { batch_size => 4 }, @few), '4 4 4 4 4 3', 'and no more than batch_size');
}
is(entries_in('aws-kinesis', {}, {}, map { { data => $_ } } 1 .. 1203), '500 500 203', 'five hundred at most');
is(entries_in('aws-kinesis', {}, { batch_bytes => 4 }, map { { data => '12' } } 1 .. 3), '2 1', 'and no more than batch_bytes');

# 2,000 bytes each as EventBridge counts: 14 + 5 + 1 + 1980
my $detail = '{"a":"' . 'x' x 1972 . '"}';
is(entries_in('aws-eventbridge', { max_bytes => [4000] }, {}, map { { data => $detail } } 1 .. 3), '2 1', 'up to the limit in bytes');
is(entries_in('aws-eventbridge', { max_bytes => [3999] }, {}, map { { data => $detail } } 1 .. 3), '1 1 1', 'and not beyond it');
# 1000 and those of the attribute: a, String, xyz
is(entries_in($_, { max_bytes => [2020] }, {}, map { { data => 'x' x 1000, 'h.a' => 'xyz' } } 1 .. 3), '2 1', 'attributes count')
  for qw(aws-sns aws-sqs);
is(entries_in('aws-sqs', { max_bytes => [2019] }, {}, map { { data => 'x' x 1000, 'h.a' => 'xyz' } } 1 .. 3), '1 1 1', 'all bytes do');
is(entries_in('aws-kinesis', { max_bytes => [2020] }, {}, map { { data => 'x' x 1000, key => 'k' x 10 } } 1 .. 3), '2 1',
	'so does the partition key');

foreach my $case ([ 'aws-eventbridge', 262144 - 20, '{"a":"%s"}' ], [ 'aws-sns', 262144 ], [ 'aws-sqs', 262144 ],
	[ 'aws-kinesis', 1048576 - 36 ])
{
	my ($profile, $most, $form) = @$case;
	my $sink = new_sink($profile, { endpoint => $service->url }, host => { format => 'raw' });
	my @messages = map { { data => sprintf $form // '%s', 'x' x ($_ - ($form ? length($form) - 2 : 0)) } } $most, $most + 1;
	my @results = map { $sink->send(%$_) } @messages;
	is(join(' ', map { $_->{class} } @results), 'ok permanent', "$profile: $most bytes are the most");
	like($results[1]{detail}, qr/^the message has @{[ $most < 262144 ? $profile eq 'aws-kinesis' ? 0 : 262145 : $profile eq 'aws-kinesis' ? 1048577 : 262145 ]} bytes as the service counts them/,
		'and a message says so');
}
$service->requests;

# ---- what errors mean ----

# one entry among others that fails with a code
my %entry_class = (
	'aws-eventbridge' => {
		ThrottlingException => 'retry_sink 1000', InternalFailure => 'retry -1', InternalException => 'retry -1',
		MalformedDetail => 'permanent -1', InvalidArgument => 'permanent -1', NotAuthorizedForSourceException => 'permanent -1',
		NotAuthorizedForDetailTypeException => 'permanent -1', AccessDeniedException => 'retry_sink -1',
		ResourceNotFoundException => 'retry_sink -1', SomethingNew => 'retry -1' },
	'aws-kinesis' => {
		ProvisionedThroughputExceededException => 'retry_sink 1000', InternalFailure => 'retry -1',
		KMSThrottlingException => 'retry_sink 1000', KMSAccessDeniedException => 'retry_sink -1' },
	'aws-sns' => {
		InternalError => 'retry -1', InvalidParameter => 'permanent -1', Throttled => 'retry_sink 1000',
		AuthorizationError => 'retry_sink -1', NotFound => 'retry_sink -1', KMSThrottling => 'retry_sink 1000' },
	'aws-sqs' => {
		InternalError => 'retry -1', RequestThrottled => 'retry_sink 1000', InvalidMessageContents => 'permanent -1',
		InvalidParameterValue => 'permanent -1', 'AWS.SimpleQueueService.NonExistentQueue' => 'retry_sink -1' });
foreach my $profile (sort keys %entry_class)
{
	my @codes = sort keys %{ $entry_class{$profile} };
	my $sink = new_sink($profile, { endpoint => $service->url }, host => { format => 'raw' });
	my @results = $sink->send_all(map { ({ data => '{}' }, { data => "{\"fail\":\"$_\"}" }) } @codes);
	is(scalar(grep { $_->{cookie} % 2 && $_->{class} eq 'ok' && $_->{detail} eq '' } @results), scalar @codes,
		"$profile: those beside it are taken");
	foreach my $i (0 .. $#codes)
	{
		my $result = $results[ 2 * $i + 1 ];
		is("$result->{class} $result->{retry_after}", $entry_class{$profile}{ $codes[$i] }, "$profile: $codes[$i]");
		like($result->{detail}, qr/\b\Q$codes[$i]\E: told to: <?\Q$codes[$i]\E/, 'and the detail says it');
	}
}
foreach my $profile (qw(aws-sns aws-sqs))
{
	my $sink = new_sink($profile, { endpoint => $service->url }, host => { format => 'raw' });
	is($sink->send(data => "{\"fail\":\"New\",\"sender\":$_->[0]}")->{class}, $_->[1], "$profile: the sender's fault: $_->[0]")
	  for [ 'true', 'permanent' ], [ 'false', 'retry' ];
}
is(new_sink('aws-sns', { endpoint => $service->url, topic_arn => "arn:aws:sns:eu-central-1:$account:{topic}" })
	  ->send(topic => 'a', data => '{"fail":"NotFound"}')->{class}, 'permanent',
	'where the message names the destination, that it is not there is about the message');

# a request that fails as a whole
sub whole
{
	my ($profile, $status, $body, $header) = @_;
	my $sink = new_sink($profile, { endpoint => $service->url }, host => { format => 'raw', timeout_ms => 5000 });

	$service->control("status=$status&body=" . $body =~ s/([^\w.])/sprintf '%%%02x', ord $1/ger . ($header ? "&header=$header" : ''));
	my ($result) = $sink->send_all({ data => '{}' });
	$service->control(undef);
	return $result;
}

foreach my $case (
	[ 400, 'ExpiredTokenException', 'The security token included in the request is expired', 'retry_sink', qr/^the credentials are refused/ ],
	[ 403, 'ExpiredToken', 'expired', 'retry_sink', qr/^the credentials are refused/ ],
	[ 400, 'UnrecognizedClientException', 'The security token included in the request is invalid.', 'retry_sink', qr/^the credentials/ ],
	[ 403, 'InvalidClientTokenId', 'invalid', 'retry_sink', qr/^the credentials are refused/ ],
	[ 400, 'AccessDeniedException', 'User is not authorized', 'retry_sink', qr/^the credentials are refused, or do not allow it/ ],
	[ 403, 'SignatureDoesNotMatch', 'The request signature we calculated', 'retry_sink', qr/^the credentials are refused/ ],
	[ 400, 'InvalidSignatureException', 'Signature expired: 20150830T123600Z is now earlier', 'retry_sink', qr/^the clock of this server/ ],
	[ 403, 'RequestTimeTooSkewed', 'too large', 'retry_sink', qr/^the clock of this server/ ],
	[ 400, 'ThrottlingException', 'Rate exceeded', 'retry_sink', qr/^ThrottlingException: Rate exceeded/ ],
	[ 400, 'LimitExceededException', 'x', 'retry_sink', qr/^LimitExceeded/ ],
	[ 500, 'InternalFailure', 'x', 'retry', qr/^InternalFailure/ ],
	[ 503, 'ServiceUnavailable', 'x', 'retry_sink', qr/^ServiceUnavailable/ ],
	[ 503, 'New', 'x', 'retry_sink', qr/^New/ ],
	[ 400, 'ResourceNotFoundException', 'Stream x not found', 'retry_sink', qr/^there is no such destination/ ],
	[ 400, 'com.amazonaws.sqs#QueueDoesNotExist', 'x', 'retry_sink', qr/^there is no such destination: QueueDoesNotExist: x/ ],
	[ 400, 'UnknownOperationException', 'x', 'retry_sink', qr/^UnknownOperation/ ],
	[ 400, 'ValidationException', '1 validation error detected', 'permanent', qr/^ValidationException: 1 validation/ ])
{
	my ($status, $code, $message, $class, $detail) = @$case;
	my $result = whole('aws-kinesis', $status, "{\"__type\":\"$code\",\"message\":\"$message\"}");
	is("$result->{class} $result->{code}", "$class $status", "$status $code");
	like($result->{detail}, $detail, 'says what it is');
}
my $result = whole('aws-sns', 403, '<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error><Type>Sender</Type>'
	  . '<Code>InvalidClientTokenId</Code><Message>a &lt;b&gt; &amp; c</Message></Error></ErrorResponse>');
is("$result->{class} $result->{detail}",
	'retry_sink the credentials are refused, or do not allow it: InvalidClientTokenId: a <b> & c', 'in XML, too');
$result = whole('aws-sqs', 400, '{"__type":"com.amazonaws.sqs#RequestThrottled"}', 'Retry-After:7');
is("$result->{class} $result->{retry_after}", 'retry_sink 7000', 'Retry-After is obeyed');
foreach my $profile (sort keys %entry_class)
{
	is(whole($profile, 200, $_)->{class}, 'retry_sink', "$profile: 200 with " . substr($_ || 'nothing', 0, 20) . ' is no delivery')
	  for 'OK', '', '<a><b></a>', '{"Entries":[', '<!DOCTYPE x><x/>';
	is(whole($profile, 200, $profile eq 'aws-sns' ? '<x/>' : '{}')->{class}, 'retry', 'nor is one that does not mention the message');
	is(whole($profile, 503, 'busy')->{class}, 'retry_sink', 'without a code the status counts');
}
is(whole('aws-kinesis', 200, '{"Records":[{"SequenceNumber":"1"},{"SequenceNumber":"2"}]}')->{class}, 'ok', 'answers of too much');
is(whole('aws-sqs', 200, '{"Successful":[{"Id":"99999999999999"},{"Id":"-1"},{"Id":"x"}]}')->{class}, 'retry', 'and of others');
{
	my $sink = new_sink('aws-kinesis', { endpoint => $service->url });
	$service->control('status=200&body_size=3000000');
	is($sink->send(data => '{}')->{class}, 'retry_sink', 'answers without an end');
	$service->control(undef);
}

# One of several is to blame for the refusal of all: each is sent by itself.
{
	my $sink = new_sink('aws-sqs', { endpoint => $service->url('/once') }, host => { format => 'raw' });
	$service->requests;
	$service->control('status=400&first=1&body=' . '%7B%22__type%22:%22InvalidParameterValue%22%7D');
	my @results = $sink->send_all(map { { data => $_ } } 1 .. 5);
	$service->control(undef);
	# After the first refusal the server answers 204 to each, which says nothing of the message.
	is(scalar(my @asked = $service->requests), 6, 'a refused request is followed by one for each message');
	is_deeply([ sort map { scalar @{ $json->decode($_->{body})->{Entries} } } @asked ], [ 1, 1, 1, 1, 1, 5 ], 'with nothing else');
}

# ---- credentials ----

{
	my $sink = EvsSend->new($module, { %{ settings('aws-sqs', endpoint => $service->url) }, 'auth.credentials' => { secret => 'one' } },
		host => { format => 'raw' });
	is($sink->validate || $sink->open, '', 'credentials');
	is($sink->send(data => 'x')->{detail}, 'there is no secret "one"', 'without the secret nothing is sent');
	foreach my $bad ('x', '{}', '{"access_key_id":"a"}', '{"secret_access_key":"a"}', '{"access_key_id":"a",}')
	{
		$sink->secret(one => $bad);
		is($sink->send(data => 'x')->{detail},
			'the secret "one" is not a JSON object with access_key_id and secret_access_key', "nor with $bad");
	}
	$sink->secret(one => '{"access_key_id":"a\u000ab","secret_access_key":"c"}');
	is($sink->send(data => 'x')->{class}, 'fatal', 'nor with a line end');
	is(scalar $service->requests, 0, 'indeed');
	$sink->secret(one => $json->encode({ %credentials, session_token => 'T0KEN+/=' }));
	is($sink->send(data => 'x')->{class}, 'ok', 'with a token');
	$sink->secret(one => $secrets{aws});
	is($sink->send(data => 'x')->{class}, 'ok', 'and without');
	my @requests = $service->requests;
	is_deeply([ map { $_->header('X-Amz-Security-Token') } @requests ], [ 'T0KEN+/=', undef ], 'the next request has the new secret');
	push @signed, [ 'sqs', $requests[0], 'T0KEN+/=' ], [ 'sqs', $requests[1] ];
	$sink->secret(one => $json->encode({ %credentials, session_token => 'T0KEN+/=' }));
	$service->control('status=403&echo=1');
	$result = $sink->send(data => 'x');
	$service->control(undef);
	$service->requests;
	is($result->{class}, 'retry_sink', 'refused');
	unlike($result->{detail}, qr/T0KEN/, 'what the other side sends back does not show the token');
}
{
	my $settings = settings('aws-sqs', endpoint => $service->url,
		map { ("auth.$_" => { secret => $_ }) } qw(access_key_id secret_access_key session_token));
	delete $settings->{'auth.credentials'};
	my $sink = EvsSend->new($module, $settings, secrets => { %credentials, session_token => 'T' }, host => { format => 'raw' });
	is($sink->validate || $sink->open, '', 'three secrets');
	is($sink->send(data => 'x')->{class}, 'ok', 'will do');
	push @signed, map { [ 'sqs', $_, 'T' ] } $service->requests;
}

# A request is signed anew when it is tried again, with the time of then.
{
	my $sink = new_sink('aws-sqs', { endpoint => $service->url('/a%20b/c') }, host => { format => 'raw' });
	$service->control('status=503&first=1');
	is(join(' ', map { $sink->send(data => 'x')->{class} } 1 .. 2), 'retry_sink ok', 'an outage');
	$service->control(undef);
	my @requests = $service->requests;
	isnt($requests[0]->header('X-Amz-Date'), undef, 'is signed');
	push @signed, map { [ 'sqs', $_ ] } @requests;
}

SKIP:
{
	skip 'IO::Socket::SSL is not installed' unless eval { require IO::Socket::SSL };
	my $ca = make_ca("$tmp/ca");
	my $tls = http_server(tls => make_certificate("$tmp/tls", $ca), args => [ '--script', "$tools/aws_double.pl" ]);
	my %to = (endpoint => $tls->url('', 'localhost'));
	is(new_sink('aws-kinesis', {%to})->send(data => 'x')->{class}, 'fatal', 'TLS: a certificate that cannot be trusted');
	is(scalar $tls->requests, 0, 'sees no signature');
	is(new_sink('aws-kinesis', { %to, 'tls.ca_file' => "$ca.pem" })->send(data => 'x')->{class}, 'ok', 'one that can');
	my ($request) = $tls->requests;
	is($request->header('Host'), "localhost:$tls->{port}", 'the host with its port');
	push @signed, [ 'kinesis', $request ];
}

# ---- aws4, and doubles of the services ----

SKIP:
{
	skip 'npm is not installed' unless eval { run_log([ 'npm', '--version' ]) };
	my $dir = PostgreSQL::Test::Utils::tempdir;
	system('cp', glob("$tools/aws/*.js*"), $dir) == 0 or die 'cp failed';
	my $npm = `cd '$dir' && npm install --no-package-lock --no-audit --no-fund --loglevel=error 2>&1`;
	is($?, 0, 'aws4 and the doubles are installed') or BAIL_OUT($npm);

	my @questions = map {
		my ($name, $request, $token) = @$_;
		my %headers = map { ($_ => $request->header($_)) } grep { defined $request->header($_) }
		  qw(Host Content-Type X-Amz-Target X-Amz-Date X-Amz-Security-Token);
		my $body = $request->{body};
		utf8::encode($body);
		$json->encode({ request => { service => $name, region => 'eu-central-1', method => 'POST', path => $request->{target},
			headers => \%headers, body => encode_base64($body, '') },
			credentials => { accessKeyId => $credentials{access_key_id}, secretAccessKey => $credentials{secret_access_key} } });
	} @signed;
	append_to_file("$dir/in", join '', map { "$_\n" } @questions);
	my @answers = split /\n/, `cd '$dir' && node verify.js <in`;
	cmp_ok(scalar @signed, '>=', 16, 'many requests were signed');
	is_deeply([ map { $_->[1]->header('Authorization') } @signed ], \@answers, 'as aws4 signs them');

	my $pid = open2(my $out, my $in, 'sh', '-c', "cd '$dir' && exec node services.js");
	my $ports = $json->decode(scalar readline $out);
	my $ask = sub { print $in "@_\n"; $in->flush; return $json->decode(scalar readline $out) };
	my %to = (endpoint => "http://127.0.0.1:$ports->{queues}/", region => 'us-east-1');
	my $queue = "http://sqs.us-east-1.localhost:$ports->{queues}/000000000000";
	my $topic = 'arn:aws:sns:us-east-1:000000000000';
	my @messages = map { { id => sprintf('00000000-0000-4000-8000-%012d', $_), key => 'k' . $_ % 3, type => "T$_",
		data => "{\"n\":$_,\"é\":\"€&<\"}" } } 1 .. 23;
	my @bodies = sort map { my $data = $_->{data}; $data } @messages;

	my $deliver = sub {
		my ($profile, @more) = @_;
		my $sink = new_sink($profile, { %to, @more }, host => { format => 'raw' });
		my @results = map { $sink->send_all(@$_) } [ @messages[ 0 .. 11 ] ], [ @messages[ 12 .. 22 ] ];
		return is(scalar(grep { $_->{class} eq 'ok' } @results), scalar @messages, "$profile @more[0 .. 1]")
		  || diag(explain([ grep { $_->{class} ne 'ok' } @results ]));
	};
	my $has = sub {
		my ($name, $ordered) = @_;
		my @there = map { $_->{body} } @{ $ask->('queue', $name) };
		return is_deeply([ sort @there ], \@bodies, "the queue $name has them");
	};

	$deliver->('aws-sqs', queue_url => "$queue/plain", 'attributes.type' => '{type}');
	$has->('plain');
	$deliver->('aws-sqs', queue_url => "$queue/ordered.fifo");
	$has->('ordered.fifo');
	$deliver->('aws-sqs', queue_url => "$queue/ordered.fifo");
	$has->('ordered.fifo');
	$deliver->('aws-sns', topic_arn => "$topic:news", subject => 'News', 'attributes.type' => '{type}');
	$has->('subscriber');
	$deliver->('aws-sns', topic_arn => "$topic:news.fifo");
	$has->('subscriber.fifo');
	is(new_sink('aws-sqs', { %to, queue_url => "$queue/nothing" })->send(data => 'x')->{class}, 'retry_sink', 'no such queue');
	$result = new_sink('aws-sns', { %to, topic_arn => "$topic:nothing" })->send(data => 'x');
	is($result->{class}, 'retry_sink', 'no such topic') or diag(explain($result));

	$to{endpoint} = "http://127.0.0.1:$ports->{kinesis}/";
	$deliver->('aws-kinesis', stream => 'stream');
	my @records = @{ $ask->('stream') };
	is_deeply([ sort map { $_->{data} } @records ], \@bodies, 'the stream has them');
	is($records[0]{key}, 'k' . $json->decode(do { my $d = $records[0]{data}; utf8::encode($d); $d })->{n} % 3, 'by their keys');
	$result = new_sink('aws-kinesis', { %to, stream => 'nothing' })->send(data => 'x');
	is("$result->{class} $result->{detail}",
		'retry_sink there is no such destination: ResourceNotFoundException: Stream nothing under account 000000000000 not found.',
		'no such stream');
	close $in;
	waitpid $pid, 0;
}
$service->stop;

# ---- the rules of sinks, and what must hold whatever happens ----

my $n = 1500;

# All keys in order, nothing missing, from what a double has taken.
sub check_taken
{
	my ($name, $log, $keys) = @_;
	my (%last, %seen, $wrong);

	foreach my $line (split /\n/, slurp_file($log))
	{
		my $payload = $json->decode($line)->{payload};
		utf8::encode($payload);
		my $data = $json->decode($payload)->{data} or next;
		my $key = $data->{n} % $keys;
		# Again is allowed; one that was never seen below one that was is not.
		$wrong //= "$data->{n} after $last{$key}" if !$seen{ $data->{n} }++ && $data->{n} < ($last{$key} // -1);
		$last{$key} = $data->{n} if $data->{n} > ($last{$key} // -1);
	}
	is(scalar keys %seen, $n, "$name: nothing is missing");
	return is($wrong, undef, "$name: each key is in order");
}

foreach my $profile (sort keys %entry_class)
{
	my @where = ('--secret', "aws=$secrets{aws}", $module, "profile=$profile", 'region=eu-central-1', 'auth.credentials@=aws',
		join '=', @{ $destination{$profile} });
	my $log = "$tmp/$profile.log";
	local $ENV{AWS_DOUBLE_LOG} = $log;
	my $server = http_server(args => [ '--script', "$tools/aws_double.pl" ]);
	harness_ok("$profile keeps the rules", '--edge', '--test', '--messages', 300, '--in-flight', 64, '--replay', 5,
		@where, 'endpoint=' . $server->url);
	truncate $log, 0 or die $!;

	local $ENV{AWS_DOUBLE_FAIL} = 5;
	local $ENV{AWS_DOUBLE_SEED} = $seed;
	my $flaky = http_server(args => [ '--script', "$tools/aws_double.pl" ]);
	my $run = harness_ok("$profile: entries fail at random", '--messages', $n, '--keys', 50, '--in-flight', 64,
		'--attempts', 20, @where, 'endpoint=' . $flaky->url);
	is($run->{value}{delivered}, $n, 'all arrive');
	check_taken("$profile, entries", $log, 50);
	my $taken = () = slurp_file($log) =~ /\n/g;
	is($taken, $n, 'and only what failed was sent again');
	truncate $log, 0 or die $!;

	# What was taken is in the log before the answer, of which half may be lost.
	srand $seed;
	my $port = $flaky->{port};
	$run = start_harness('--messages', $n, '--keys', 50, '--in-flight', 64, '--attempts', 1000, '--give-up', 1000,
		@where, "endpoint=http://127.0.0.1:$port/");
	foreach my $round (1 .. 5)
	{
		my $before = -s $log;
		wait_for_harness($run, sub { -s $log > $before + 10_000 });
		my $what = (qw(half reset kill))[ rand 3 ];
		if ($what eq 'kill')
		{
			kill 'KILL', $flaky->{pid};
			$flaky->stop;
			$flaky = http_server(port => $port, args => [ '--script', "$tools/aws_double.pl" ]);
		}
		else
		{
			my $at = -s $log;
			$flaky->control("$what=1");
			wait_for_harness($run, sub { -s $log > $at });
			$flaky->control(undef);
		}
	}
	finish_harness($run);
	is($run->{status}, 0, "$profile: half answers, lost ones, killed servers") or diag($run->{out} . $run->{err});
	cmp_ok($run->{count}{retry_sink} // 0, '>=', 5, 'each of which was an outage');
	check_taken("$profile, disturbed", $log, 50);
}

# ---- from a store: one message of a batch fails, and those behind it of its key wait ----

{
	my $log = "$tmp/store.log";
	local $ENV{AWS_DOUBLE_LOG} = $log;
	my $server = http_server(args => [ '--script', "$tools/aws_double.pl" ]);
	my $node = new_node('aws');
	my $store = session($node, new_store($node, 'store'));
	$store->query("SET evstore.egress_allow = '127.0.0.1'");
	$store->query("SELECT evstore.create_secret('aws', '$secrets{aws}')");
	$store->query(q{SELECT count(evstore.append('order-' || i % 5, 'Noted', jsonb_build_object('n', i)
		|| CASE WHEN i = 7 THEN '{"fail": "InternalError", "times": 1}' ELSE '{}' END::jsonb)) FROM generate_series(1, 25) i});
	my $config = $json->encode({ profile => 'aws-sqs', queue_url => "https://sqs.eu-central-1.amazonaws.com/$account/o.fifo",
		endpoint => $server->url, auth => { credentials => { secret => 'aws' } } });
	$store->query("SELECT evstore.create_relay('aws', 'http', '$config', options => '{\"retry\": {\"initial\": 0.01, \"max\": 0.05}}')");
	my $sent = 0;
	poll(sub { $sent += $store->query("SELECT evstore.run_relay('aws')"); return $sent >= 25 });
	is($sent, 25, 'a relay of a store sends all');
	my %order;
	foreach my $line (split /\n/, slurp_file($log))
	{
		my $message = $json->decode($line);
		my ($n) = $message->{payload} =~ /"n": ?(\d+)/;
		push @{ $order{ $message->{group} } }, $n;
	}
	is_deeply([ map { join ' ', @{ $order{"order-$_"} } } 0 .. 4 ],
		[ '5 10 15 20 25', '1 6 11 16 21', '2 7 12 17 22', '3 8 13 18 23', '4 9 14 19 24' ], 'each key in order, nothing twice');
	is(scalar(grep { $_->{body} =~ /InternalError/ } $server->requests), 2, 'what failed was sent again, once');
}

done_testing();
