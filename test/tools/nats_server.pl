#!/usr/bin/perl
#
# nats_server.pl --log FILE [--refuse FROM-TO]
#
# As much of NATS with one JetStream stream as the sink speaks with: it takes each
# message, except that the publications with these numbers, counted from 1, find
# nobody there.  A server that has just started is like that, at a moment that
# cannot be chosen.  It knows no duplicates.
#
# Prints "port=N" when it listens on the loopback, and ends when it is killed.  The log
# has the positions in the order of arrival, one a line.

use strict;
use warnings;

use Getopt::Long;
use IO::Handle;
use IO::Socket::INET;
use MIME::Base64 'encode_base64';

my %option = (refuse => '0-0');
GetOptions(\%option, 'log=s', 'refuse=s') or die "usage: nats_server.pl --log FILE [--refuse FROM-TO]\n";
my ($refuse_from, $refuse_to) = split /-/, $option{refuse};
my $npublished = 0;
my @stored;

open my $log, '>', $option{log} or die "$option{log}: $!";
$log->autoflush;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5) or die "listen: $!";
STDOUT->autoflush;
print 'port=', $listener->sockport, "\n";

# The answer of JetStream's API, in JSON.
sub api
{
	my ($what, $body) = @_;
	my $last = @stored;

	return qq({"state":{"first_seq":1,"last_seq":$last}}) if $what eq 'INFO';
	my ($sequence) = $body =~ /"seq":(\d+)/;
	return '{"error":{"code":404,"err_code":10037}}' unless $sequence && $sequence <= $last;
	return qq({"message":{"seq":$sequence,"hdrs":") . encode_base64($stored[ $sequence - 1 ], '') . '"}}';
}

# The answer to a publication; nothing if nobody takes it.
sub publish
{
	my ($headers) = @_;
	my ($expected) = $headers =~ /^Nats-Expected-Last-Sequence: (\d+)/m;
	my ($position) = $headers =~ /^Evstore-Position: (\d+)/m;

	$npublished++;
	return if $npublished >= $refuse_from && $npublished <= $refuse_to;
	return '{"error":{"code":400,"err_code":10071,"description":"wrong last sequence"}}'
	  if defined $expected && $expected != @stored;
	push @stored, $headers;
	print $log "$position\n";
	return '{"stream":"s","seq":' . @stored . '}';
}

while (my $client = $listener->accept)
{
	my $sid;

	$client->autoflush;
	print $client qq(INFO {"server_id":"x","version":"2.9.0","headers":true,"max_payload":1048576}\r\n);
	while (my $line = <$client>)
	{
		print $client "PONG\r\n" if $line =~ /^PING/;
		$sid = $1 if $line =~ /^SUB \S+ (\S+)\r/;
		next unless $line =~ /^H?PUB (\S+) (\S+) (?:(\d+) )?(\d+)\r/;
		my ($subject, $reply, $header_size, $size) = ($1, $2, $3 // 0, $4);
		read $client, my $message, $size + 2;
		my $answer = $subject =~ /^\$JS\.API\.STREAM\.(INFO|MSG\.GET)/ ? api($1, $message)
		  : publish(substr $message, 0, $header_size);
		if (defined $answer)
		{
			print $client "MSG $reply $sid ", length $answer, "\r\n$answer\r\n";
		}
		else
		{
			print $client "HMSG $reply $sid 16 16\r\nNATS/1.0 503\r\n\r\n\r\n";
		}
	}
}
