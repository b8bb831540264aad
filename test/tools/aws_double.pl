# aws_double.pl
#
# Answers as EventBridge, Kinesis, SNS and SQS do, for http_server.pl --script: in the
# documented form, and with the documented errors.  The receivers of a test are told
# apart by that; signatures are checked by the test.
#
# A message says what it wants: {"fail": "CODE"} in its payload fails with this code,
# "sender": true for the sender's fault, "times": N only that often.
#
#	AWS_DOUBLE_LOG     what was taken: a line of JSON for each message
#	AWS_DOUBLE_FAIL    that many of a hundred entries fail at random
#	AWS_DOUBLE_SEED    of that

package AwsDouble;

use strict;
use warnings;

use IO::Handle;
use JSON::PP;
use MIME::Base64;

my $json = JSON::PP->new->utf8->canonical;
my ($next, %failed, $log) = (0);
# Those that are throttled are tried again a second later.
my @reasons = (('InternalFailure') x 30, 'ThrottlingException');

srand($ENV{AWS_DOUBLE_SEED} // 1);
if ($ENV{AWS_DOUBLE_LOG})
{
	open $log, '>>:raw', $ENV{AWS_DOUBLE_LOG} or die "$ENV{AWS_DOUBLE_LOG}: $!\n";
	$log->autoflush;
}

# How an entry fails: code and whose fault; nothing if it does not.
sub failure
{
	my ($payload) = @_;
	my ($code) = $payload =~ /"fail": ?"([\w.]+)"/;
	my ($times) = $payload =~ /"times": ?(\d+)/;

	return ($code, $payload =~ /"sender": ?true/ ? 1 : 0)
	  if $code && (!$times || $failed{$payload}++ < $times);
	return ($reasons[ rand @reasons ], 0) if rand(100) < ($ENV{AWS_DOUBLE_FAIL} // 0);
	return;
}

sub take
{
	my (%message) = @_;

	print $log $json->encode(\%message), "\n" if $log;
	return;
}

sub id { return sprintf '%08x-0000-4000-8000-000000000000', ++$next }

sub answer
{
	my ($status, $type, $body) = @_;

	return { status => $status, body => $body, header => ["Content-Type: $type", 'x-amzn-RequestId: ' . id()] };
}

sub json_error
{
	my ($code, $message) = @_;

	return answer(400, 'application/x-amz-json-1.1', $json->encode({ __type => $code, message => $message }));
}

# ---- EventBridge and Kinesis: an array in the order of the request's ----

sub in_order
{
	my ($entries, $count, $array, $payload_of, $taken) = @_;
	my $nfailed = 0;
	my @answers;

	foreach my $entry (@$entries)
	{
		my $payload = $payload_of->($entry);
		my ($code) = failure($payload);
		$nfailed++ if $code;
		push @answers, $code ? { ErrorCode => $code, ErrorMessage => "told to: $code" } : $taken->($entry, $payload);
	}
	return answer(200, 'application/x-amz-json-1.1', $json->encode({ $count => $nfailed, $array => \@answers }));
}

sub put_events
{
	my ($request) = @_;
	my $size = 0;

	foreach my $entry (@{ $request->{Entries} })
	{
		my @counted = (@$entry{qw(Source DetailType Detail)}, @{ $entry->{Resources} // [] });
		$size += (defined $entry->{Time} ? 14 : 0);
		utf8::encode($_) for @counted;
		$size += length for @counted;
	}
	return json_error('ValidationException', 'too many entries') if @{ $request->{Entries} } > 10;
	return json_error('ValidationException', 'Total size of the entries in the request is over the limit.')
	  if $size > 262144;
	return in_order($request->{Entries}, 'FailedEntryCount', 'Entries', sub { $_[0]{Detail} }, sub {
		my ($entry, $payload) = @_;
		take(service => 'eventbridge', destination => $entry->{EventBusName}, payload => $payload);
		return { EventId => id() };
	});
}

sub put_records
{
	my ($request) = @_;
	my $size = 0;

	$size += length(decode_base64($_->{Data})) + length($_->{PartitionKey}) for @{ $request->{Records} };
	return json_error('InvalidArgumentException', 'too many records') if @{ $request->{Records} } > 500;
	return json_error('InvalidArgumentException', 'Records size exceeds 5 MB limit') if $size > 5242880;
	return in_order($request->{Records}, 'FailedRecordCount', 'Records', sub { decode_base64($_[0]{Data}) }, sub {
		my ($record, $payload) = @_;
		take(service => 'kinesis', destination => $request->{StreamName} // $request->{StreamARN},
			key => $record->{PartitionKey}, payload => $payload);
		return { SequenceNumber => 'n' . ++$next, ShardId => 'shardId-000000000000' };
	});
}

# ---- SQS and SNS: what was taken, and what was not, by their ids; not in order ----

sub by_id
{
	my ($service, $destination, @entries) = @_;
	my (@successful, @failed);

	foreach my $entry (@entries)
	{
		my ($code, $is_senders) = failure($entry->{payload});
		if ($code)
		{
			unshift @failed, { Id => $entry->{id}, Code => $code, Message => "told to: <$code>",
				SenderFault => $is_senders ? JSON::PP::true : JSON::PP::false };
			next;
		}
		take(service => $service, destination => $destination, %$entry);
		unshift @successful, { Id => $entry->{id}, MessageId => id() };
	}
	return (\@successful, \@failed);
}

sub send_message_batch
{
	my ($request) = @_;
	my @entries = map { { id => $_->{Id}, payload => $_->{MessageBody}, group => $_->{MessageGroupId},
		deduplication => $_->{MessageDeduplicationId} } } @{ $request->{Entries} };
	my $size = 0;

	foreach my $entry (@{ $request->{Entries} })
	{
		my @counted = ($entry->{MessageBody});
		while (my ($name, $value) = each %{ $entry->{MessageAttributes} // {} })
		{
			push @counted, $name, @$value{qw(DataType StringValue)};
		}
		utf8::encode($_) for @counted;
		$size += length for @counted;
	}
	return json_error('com.amazonaws.sqs#TooManyEntriesInBatchRequest', 'too many') if @entries > 10;
	return json_error('com.amazonaws.sqs#BatchRequestTooLong', 'too long') if $size > 262144;
	my ($successful, $failed) = by_id('sqs', $request->{QueueUrl}, @entries);
	return answer(200, 'application/x-amz-json-1.0', $json->encode({ Successful => $successful,
		@$failed ? (Failed => $failed) : () }));
}

sub xml_text { return $_[0] =~ s/&/&amp;/gr =~ s/</&lt;/gr =~ s/>/&gt;/gr }

sub xml_list
{
	my ($name, $members) = @_;

	return "<$name/>" unless @$members;
	return "<$name>" . join('', map { my $member = $_; '<member>' . join('', map {
		my $value = ref $member->{$_} ? ($member->{$_} ? 'true' : 'false') : xml_text($member->{$_});
		"<$_>$value</$_>" } sort keys %$member) . '</member>' } @$members) . "</$name>";
}

sub publish_batch
{
	my (%is) = @_;
	my @entries;

	foreach my $n (1 .. 11)
	{
		my $prefix = "PublishBatchRequestEntries.member.$n";
		last unless defined $is{"$prefix.Id"};
		push @entries, { id => $is{"$prefix.Id"}, payload => $is{"$prefix.Message"},
			group => $is{"$prefix.MessageGroupId"}, subject => $is{"$prefix.Subject"} };
	}
	my $xmlns = 'xmlns="http://sns.amazonaws.com/doc/2010-03-31/"';
	return answer(400, 'text/xml', "<ErrorResponse $xmlns><Error><Type>Sender</Type>"
		  . '<Code>TooManyEntriesInBatchRequest</Code><Message>too many</Message></Error></ErrorResponse>') if @entries > 10;
	my ($successful, $failed) = by_id('sns', $is{TopicArn}, @entries);
	return answer(200, 'text/xml', qq{<?xml version="1.0"?>\n<PublishBatchResponse $xmlns>\n  <PublishBatchResult>}
		  . xml_list('Failed', $failed) . xml_list('Successful', $successful)
		  . '</PublishBatchResult><ResponseMetadata><RequestId>' . id() . '</RequestId></ResponseMetadata></PublishBatchResponse>');
}

sub form
{
	my ($body) = @_;

	return map { my ($name, $value) = split /=/, $_, 2; s/%([0-9A-F]{2})/chr hex $1/ge for $name, $value; ($name, $value) }
	  split /&/, $body;
}

sub {
	my ($request) = @_;
	my %header = map { lc $_->[0] => $_->[1] } @{ $request->{headers} };
	my $target = $header{'x-amz-target'};

	return answer(403, 'text/plain', 'not signed') unless ($header{authorization} // '') =~ /^AWS4-HMAC-SHA256 /;
	return publish_batch(form($request->{body})) unless $target;
	my $message = $json->decode($request->{body});
	return put_events($message) if $target eq 'AWSEvents.PutEvents';
	return put_records($message) if $target eq 'Kinesis_20131202.PutRecords';
	return send_message_batch($message) if $target eq 'AmazonSQS.SendMessageBatch';
	return json_error('UnknownOperationException', 'no such operation');
};
