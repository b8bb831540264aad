# cloud_double.pl
#
# A script of http_server.pl: doubles of Azure Event Grid, Service Bus and Event
# Hubs, and of Google Cloud Pub/Sub with its token endpoint.  They check what they
# get against the services' documentation, signatures included, and answer as it
# says.
#
#	/api/events, /topics/NAME:publish					Event Grid
#	/queue/..., /session/..., /hub/... , with /messages	Service Bus, Event Hubs
#	/v1/projects/P/topics/T:publish						Pub/Sub
#	/emulator/v1/projects/P/topics/T:publish			without credentials
#	/token												Google's token endpoint
#
# EVS_CLOUD_DIR has what they know:
#
#	keys.json		{"grid": base64, "bus": {POLICY: [KEY, KEY]}, "bearer": TOKEN, "expires_in": SECONDS}
#	public.pem		of the service account
#	now				what the time is; see fake_time.c
#
# and what they have taken, a line of JSON each, in the file accepted.
#
# With EVS_CLOUD_CHAOS, a seed, one in four requests goes wrong: it is refused, or
# taken and not answered.

package CloudDouble;

use strict;
use warnings;

use Digest::SHA 'hmac_sha256';
use JSON::PP;
use MIME::Base64 qw(encode_base64 decode_base64);
use Time::Local 'timegm';

my $dir = $ENV{EVS_CLOUD_DIR};
my $json = JSON::PP->new->utf8;
my (%tokens, $ntokens, %signed, $nids);

sub read_text
{
	my ($name) = @_;

	open my $fh, '<:raw', "$dir/$name" or return '';
	local $/;
	return readline($fh) // '';
}

sub now
{
	my ($how, $seconds) = read_text('now') =~ /^([=+])(\d+)/;

	return !$how ? time : $how eq '=' ? $seconds : time + $seconds;
}

sub keys_json
{
	return $json->decode(read_text('keys.json'));
}

sub accept_messages
{
	my (@messages) = @_;

	open my $fh, '>>:raw', "$dir/accepted" or die $!;
	syswrite $fh, join '', map { $json->encode($_) . "\n" } @messages;
	close $fh;
	return;
}

sub uri_decode
{
	my ($text) = @_;

	return $text =~ tr/+/ /r =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ger;
}

sub header
{
	my ($request, $name) = @_;
	my @values = map { $_->[1] } grep { lc $_->[0] eq lc $name } @{ $request->{headers} };

	return @values > 1 ? undef : $values[0];
}

# Does the signed resource cover this URL?
sub covers
{
	my ($request, $resource) = @_;
	my $url = header($request, 'Host') . ($request->{target} =~ s/\?.*//sr);

	return index($url, $resource =~ s{^https?://}{}r) == 0;
}

sub base64
{
	return encode_base64($_[0], '');
}

# ---- Event Grid ----

sub grid_error
{
	my ($status, $code, $text) = @_;

	return { status => $status, header => ['Content-Type: application/json'],
		body => $json->encode({ error => { code => $code, message => $text } }) };
}

# 1/31/2020 12:05:00 AM
sub american_time
{
	my ($month, $day, $year, $hour, $minute, $second, $half) =
	  $_[0] =~ m{^(\d+)/(\d+)/(\d{4}) (\d+):(\d\d):(\d\d) ([AP])M$} or return 0;

	return timegm($second, $minute, $hour % 12 + ($half eq 'P' ? 12 : 0), $day, $month - 1, $year);
}

sub grid_denies
{
	my ($request) = @_;
	my $known = keys_json();
	my $key = header($request, 'aeg-sas-key');
	my $token = header($request, 'aeg-sas-token');
	my $bearer = header($request, 'Authorization');

	return grep({ $key eq $_ } $known->{grid}) ? undef : 'the key is wrong' if defined $key;
	return $bearer eq "Bearer $known->{bearer}" ? undef : 'the token is wrong' if defined $bearer;
	my ($signed, $resource, $expiry, $signature) = ($token // '') =~ /^(r=([^&]+)&e=([^&]+))&s=([^&]+)$/
	  or return 'there is no token';
	return 'the signature is wrong'
	  if uri_decode($signature) ne base64(hmac_sha256($signed, decode_base64($known->{grid})));
	return 'the token has expired' if american_time(uri_decode($expiry)) <= now();
	if ($request->{target} =~ m{^(/topics/[\w-]+):publish\?})
	{
		return uri_decode($resource) =~ m{^https?://\Q@{[ header($request, 'Host') . $1 ]}\E$} ? undef : 'the token is for another topic';
	}
	my ($url, $version) = uri_decode($resource) =~ /^(.*)\?apiVersion=(.*)$/ or return 'no version';
	return 'the token is for another topic' if !covers($request, $url) || $request->{target} !~ /api-version=\Q$version\E$/;
	return undef;
}

sub grid_event_is_wrong
{
	my ($event) = @_;

	return 'not an object' if ref $event ne 'HASH';
	foreach my $name (qw(id source type specversion))
	{
		return "no $name" unless defined $event->{$name} && !ref $event->{$name} && $event->{$name} ne '';
	}
	return $event->{specversion} eq '1.0' ? undef : 'not 1.0';
}

sub event_grid
{
	my ($request) = @_;
	my $denied = grid_denies($request);

	return grid_error(401, 'Unauthorized', "The request authorization failed: $denied") if $denied;
	return grid_error(413, 'RequestEntityTooLarge', 'The maximum size (1048576) has been exceeded')
	  if length $request->{body} > 1048576;
	return grid_error(415, 'UnsupportedMediaType', 'not a batch')
	  if header($request, 'Content-Type') ne 'application/cloudevents-batch+json; charset=utf-8';
	my $events = eval { $json->decode($request->{body}) };
	return grid_error(400, 'BadRequest', 'This is not an array of JSON') unless ref $events eq 'ARRAY' && @$events;
	foreach my $event (@$events)
	{
		my $wrong = grid_event_is_wrong($event) or next;
		return grid_error(400, 'BadRequest', "This resource is configured to receive event in CloudEvents v1.0 schema: $wrong");
	}
	accept_messages(map { { event => $_, id => $_->{id} } } @$events);
	return { status => 200, $request->{target} =~ /:publish/ ? (body => '{}') : () };
}

# ---- Service Bus and Event Hubs ----

sub bus_error
{
	my ($status, $text) = @_;

	return { status => $status, header => ['Content-Type: application/xml; charset=utf-8'],
		body => "<Error><Code>$status</Code><Detail>$text. TrackingId:0c1f, SystemTracker:ns:q, Timestamp:2026-01-01T00:00:00</Detail></Error>" };
}

sub bus_denies
{
	my ($request) = @_;
	my $known = keys_json();
	my $authorization = header($request, 'Authorization') // '';

	return $1 eq $known->{bearer} ? undef : 'InvalidToken' if $authorization =~ /^Bearer (.*)/;
	my ($resource, $signature, $expiry, $policy) =
	  $authorization =~ /^SharedAccessSignature sr=([^&]+)&sig=([^&]+)&se=(\d+)&skn=([\w.-]+)$/ or return 'MalformedToken: The authorization header is wrong';
	my @keys = @{ $known->{bus}{$policy} // [] };
	return 'InvalidSignature: The token has an invalid signature'
	  unless grep { uri_decode($signature) eq base64(hmac_sha256("$resource\n$expiry", $_)) } @keys;
	return 'ExpiredToken' if $expiry <= now();
	return 'InvalidAudience: The authorization header contains a token signed for another audience'
	  unless covers($request, uri_decode($resource));
	return undef;
}

my %broker_properties = map { $_ => 1 } qw(CorrelationId ForcePersistence Label MessageId PartitionKey ReplyTo
  ReplyToSessionId ScheduledEnqueueTimeUtc SessionId TimeToLive TimeToLiveTimeSpan To ViaPartitionKey);

sub properties_are_wrong
{
	my ($properties) = @_;

	return 'BrokerProperties are no object' unless ref $properties eq 'HASH';
	foreach my $name (keys %$properties)
	{
		return "the broker property $name is not known" unless $broker_properties{$name};
	}
	foreach my $name (qw(MessageId SessionId PartitionKey))
	{
		return "$name is too long" if length($properties->{$name} // '') > 128;
	}
	return undef;
}

# the custom properties among the headers
sub custom_properties
{
	my ($request) = @_;
	my %not = map { $_ => 1 } qw(authorization brokerproperties content-type content-length host user-agent accept);

	return { map { @$_ } grep { !$not{ lc $_->[0] } } @{ $request->{headers} } };
}

sub bus_messages
{
	my ($request) = @_;
	my $header = header($request, 'BrokerProperties');
	my $properties = defined $header ? eval { $json->decode($header) } // 'not JSON' : {};
	my $type = header($request, 'Content-Type');

	my $text = $request->{body};

	utf8::decode($text);
	die "the header is not ASCII\n" if ($header // '') =~ /[^\x20-\x7e]/;
	return { body => $text, type => $type, properties => $properties, custom => custom_properties($request) }
	  if ($type // '') ne 'application/vnd.microsoft.servicebus.json';
	my $array = eval { $json->decode($request->{body}) };
	die "the body is no array\n" unless ref $array eq 'ARRAY' && @$array;
	return map {
		my %entry = %$_;
		my $body = delete $entry{Body};
		die "there is a Body that is no string\n" if !defined $body || ref $body;
		my $own = delete $entry{BrokerProperties} // {};
		my $custom = delete $entry{UserProperties} // {};
		die "there is something else: @{[ keys %entry ]}\n" if %entry;
		{ body => $body, properties => $own, custom => $custom, header => $properties }
	} @$array;
}

sub bus
{
	my ($request, $is_hub) = @_;
	my $denied = bus_denies($request);
	my @messages = eval { bus_messages($request) };

	return bus_error(401, $denied) if $denied;
	return bus_error(400, $@ =~ s/\n//r) if $@;
	return bus_error(403, 'The received message (size:300000 bytes) exceeds the limit (262144 bytes) currently allowed')
	  if length $request->{body} > ($is_hub ? 1048576 : 262144);
	return bus_error(400, 'the api-version is missing') if $is_hub && $request->{target} !~ /\?api-version=2014-01$/;
	my %keys;
	foreach my $message (@messages)
	{
		my $wrong = properties_are_wrong($message->{properties});
		my $properties = $message->{properties};
		return bus_error(400, $wrong) if $wrong;
		return bus_error(400, 'the header and the array differ')
		  if $is_hub && $message->{header} && ($message->{header}{PartitionKey} // '') ne ($properties->{PartitionKey} // '');
		$message->{key} = $properties->{SessionId} // $properties->{PartitionKey};
		$message->{id} = $properties->{MessageId};
		$keys{ $message->{key} // '' } = 1;
	}
	return bus_error(400, 'Batched messages must have the same partition key') if keys %keys > 1 && $request->{target} !~ m{^/session/};
	accept_messages(@messages);
	return { status => 201, header => [ 'Content-Type: ' . (header($request, 'Content-Type') // 'text/plain') ] };
}

# ---- Google Cloud ----

sub rpc_error
{
	my ($http, $status, $text, @details) = @_;

	return { status => $http, header => ['Content-Type: application/json; charset=UTF-8'],
		body => $json->encode({ error => { code => $http, message => $text, status => $status,
			@details ? (details => \@details) : () } }) };
}

sub base64url
{
	my ($text) = @_;

	die "padding\n" if $text =~ /[^\w-]/;
	return decode_base64($text =~ tr{-_}{+/}r);
}

# header and claims of a token that the account has signed; dies
sub verify_jwt
{
	my ($token) = @_;
	my ($signed, $header, $claims, $signature) = $token =~ /^(([\w-]+)\.([\w-]+))\.([\w-]+)$/ or die "not a token\n";

	if (!$signed{$token})
	{
		open my $fh, '>:raw', "$dir/signature" or die $!;
		print $fh base64url($signature);
		close $fh;
		open $fh, '>:raw', "$dir/signed" or die $!;
		print $fh $signed;
		close $fh;
		system("openssl dgst -sha256 -verify '$dir/public.pem' -signature '$dir/signature' '$dir/signed' >/dev/null 2>&1") == 0
		  or die "Invalid JWT Signature.\n";
		$signed{$token} = [ map { $json->decode(base64url($_)) } $header, $claims ];
	}
	($header, $claims) = @{ $signed{$token} };
	die "the algorithm is wrong\n" unless $header->{alg} eq 'RS256' && $header->{typ} eq 'JWT' && $header->{kid} eq 'key-1';
	die "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.\n"
	  if abs($claims->{iat} - now()) > 3600 || $claims->{exp} - $claims->{iat} > 3600 || $claims->{exp} <= now();
	die "the account is not known\n" unless $claims->{iss} eq 'relay@project.iam.gserviceaccount.com';
	return $claims;
}

sub token_endpoint
{
	my ($request) = @_;
	my %form = map { uri_decode($_) } map { split /=/, $_, 2 } split /&/, $request->{body};
	my $host = header($request, 'Host');

	return { status => 400, body => '{"error":"unsupported_grant_type","error_description":"Invalid grant_type"}' }
	  unless $form{grant_type} eq 'urn:ietf:params:oauth:grant-type:jwt-bearer' && keys %form == 2
	  && header($request, 'Content-Type') eq 'application/x-www-form-urlencoded';
	my $claims = eval { verify_jwt($form{assertion}) };
	my $error = $@ || ($claims->{aud} !~ m{^https?://\Q$host\E/token$} ? 'the audience is wrong' : '') ||
	  ($claims->{scope} ne 'https://www.googleapis.com/auth/pubsub' ? 'the scope is wrong' : '');
	chomp $error;
	return { status => 400, body => $json->encode({ error => 'invalid_grant', error_description => $error }) } if $error;
	my $seconds = keys_json()->{expires_in} // 3599;
	my $token = 'ya29.c.access-token-' . ++$ntokens;
	$tokens{$token} = now() + $seconds;
	return { status => 200, header => ['Content-Type: application/json; charset=utf-8'],
		body => qq({"access_token":"$token","expires_in":$seconds,"token_type":"Bearer"}) };
}

sub gcp_denies
{
	my ($request) = @_;
	my ($token) = (header($request, 'Authorization') // '') =~ /^Bearer (\S+)$/ or return 'no token';

	return undef if $token eq keys_json()->{bearer};
	return $tokens{$token} > now() ? undef : 'ACCESS_TOKEN_EXPIRED' if $tokens{$token};
	my $claims = eval { verify_jwt($token) } or return "invalid: $@";
	return $claims->{sub} eq $claims->{iss} && $claims->{aud} eq 'https://pubsub.googleapis.com/' ? undef : 'the claims are wrong';
}

sub pubsub_message_is_wrong
{
	my ($message) = @_;
	my $attributes = $message->{attributes} // {};

	foreach my $name (keys %$message)
	{
		return "Unknown name \"$name\"" unless $name =~ /^(data|attributes|orderingKey)$/;
	}
	return 'One or more messages is empty' if ($message->{data} // '') eq '' && !%$attributes;
	return 'base64' if ($message->{data} // '') !~ m{^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$};
	return 'too many attributes' if keys %$attributes > 100;
	foreach my $name (keys %$attributes)
	{
		my ($key, $value) = ($name, $attributes->{$name});
		utf8::encode($key);
		utf8::encode($value);
		return "the attribute $key is wrong" if $key eq '' || length $key > 256 || length $value > 1024 || $key =~ /^goog/;
	}
	return undef;
}

sub pubsub
{
	my ($request) = @_;
	my $denied = $request->{target} =~ m{^/emulator/} ? undef : gcp_denies($request);

	return rpc_error(401, 'UNAUTHENTICATED', "Request had invalid authentication credentials: $denied") if $denied;
	my $publish = eval { $json->decode($request->{body}) };
	return rpc_error(400, 'INVALID_ARGUMENT', 'Invalid JSON payload received')
	  unless ref $publish eq 'HASH' && join(' ', keys %$publish) eq 'messages' && header($request, 'Content-Type') eq 'application/json';
	my @messages = @{ $publish->{messages} };
	my %keys = map { ($_->{orderingKey} // '') => 1 } @messages;
	return rpc_error(400, 'INVALID_ARGUMENT', 'The request has no messages, or too many') if !@messages || @messages > 1000;
	return rpc_error(400, 'INVALID_ARGUMENT', 'In an ordered request, all messages must have the same ordering key') if keys %keys > 1;
	foreach my $message (@messages)
	{
		my $wrong = pubsub_message_is_wrong($message) or next;
		return rpc_error(400, 'INVALID_ARGUMENT', $wrong);
	}
	accept_messages(map { { key => $_->{orderingKey}, attributes => $_->{attributes} // {}, data => $_->{data} } } @messages);
	return { status => 200, header => ['Content-Type: application/json; charset=UTF-8'],
		body => $json->encode({ messageIds => [ map { '' . ++$nids } @messages ] }) };
}

# ---- all of them ----

sub serve
{
	my ($request) = @_;
	my $target = $request->{target};

	return { status => 405 } if $request->{method} ne 'POST';
	return event_grid($request) if $target =~ m{^/(api/events|topics/[\w-]+:publish)\?api-version=[\w-]+$};
	return bus($request, 0) if $target =~ m{^/(queue|session)[\w-]*/messages$};
	return bus($request, 1) if $target =~ m{^/hub[\w-]*/messages\?};
	return pubsub($request) if $target =~ m{^(/emulator)?/v1/projects/[\w-]+/topics/[\w-]+:publish$};
	return token_endpoint($request) if $target eq '/token';
	return { status => 404 };
}

my @refusals = ({ status => 429 }, { status => 503 }, { status => 403 }, { reset => 1 }, { garbage => 1 });
my @losses = ({ half => 1 }, { reset => 1 }, { garbage => 1 });

srand $ENV{EVS_CLOUD_CHAOS} if defined $ENV{EVS_CLOUD_CHAOS};

return sub {
	my ($request) = @_;
	my $luck = defined $ENV{EVS_CLOUD_CHAOS} ? rand : 1;

	return $refusals[ rand @refusals ] if $luck < 0.125;
	return { %{ serve($request) }, $luck < 0.25 ? %{ $losses[ rand @losses ] } : () };
};
