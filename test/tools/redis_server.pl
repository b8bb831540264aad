#!/usr/bin/perl
#
# redis_server.pl [--answer BYTES]... [--greeting BYTES]
#
# A Redis that says what it is told to, for what a real one never says: whoever
# signs in is let in, and each script that is to be run gets the next answer, the
# last one again and again.  BYTES are with escapes such as \r\n and \0.  With a
# greeting it says that to each connection, and nothing else.
#
# Prints "port=N" when it listens on the loopback, and ends when it is killed.

use strict;
use warnings;

use Getopt::Long;
use IO::Socket::INET;

my (@answers, $greeting);
GetOptions('answer=s' => \@answers, 'greeting=s' => \$greeting)
  or die "usage: redis_server.pl [--answer BYTES]... [--greeting BYTES]\n";
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5) or die "listen: $!";
$| = 1;
$SIG{PIPE} = 'IGNORE';
print 'port=', $listener->sockport, "\n";

sub bytes
{
	my ($text) = @_;

	$text =~ s/\\([rn0])/{ r => "\r", n => "\n", 0 => "\0" }->{$1}/ge;
	return $text;
}

# The next command, as a list of its words; nothing at the end.
sub read_command
{
	my ($client) = @_;
	my $line = <$client> // return;
	my ($n) = $line =~ /^\*(\d+)\r\n/ or return;
	my @words;

	while (@words < $n)
	{
		my ($length) = (<$client> // return) =~ /^\$(\d+)\r\n/ or return;
		read($client, my $word, $length + 2) == $length + 2 or return;
		push @words, substr $word, 0, $length;
	}
	return @words;
}

sub serve
{
	my ($client) = @_;

	syswrite $client, bytes($greeting) if defined $greeting;
	while (my ($command) = read_command($client))
	{
		next if defined $greeting;
		my $answer = "+OK\r\n";
		$answer = "+PONG\r\n" if $command eq 'PING';
		$answer = bytes(@answers > 1 ? shift @answers : $answers[0]) if $command =~ /^EVAL/;
		syswrite $client, $answer;
	}
	return;
}

while (my $client = $listener->accept)
{
	serve($client);
}
