#!/usr/bin/perl
#
# amqp_server.pl --log FILE [option...]
#
# As much of an AMQP 0-9-1 server as the sink speaks with, for what RabbitMQ does
# not do when it is told to.  It also looks at what the client sends: frames that are
# too long, bodies that are not whole.
#
# Prints "port=N" when it listens on the loopback, and ends when it is killed.  It
# serves one client after the other.  The log has lines
#
#	publish POSITION		a message came, in the order of arrival
#	taken POSITION			and was acknowledged
#	connection, channel, heartbeat
#	response HEX			of SASL
#	violation TEXT			what a client must not do
#
# Publications are counted from 1 over all connections.

use strict;
use warnings;

use Getopt::Long;
use IO::Handle;
use IO::Select;
use IO::Socket::INET;
use Socket qw(IPPROTO_TCP TCP_NODELAY SOL_SOCKET SO_RCVBUF);

my %option = (
	ack => 1,                  # acknowledge so many together, with "multiple"; -N: one by one, the last first
	nack => '0-0',             # publications with these numbers are not taken
	return => '0-0',           # they come back, and are acknowledged
	poison => '',              # POSITION:CODE:WHAT: closes the channel or connection whenever it comes
	flow => 0,                 # before a channel is closed for it, the client is told to send nothing on it
	block => 0,                # behind this publication nothing is read until --unblock is there
	unblock => '',             # a file
	garbage => '',             # WHAT, instead of the first acknowledgement; see below
	greeting => '',            # WHAT, instead of connection.start
	chop => 0,                 # each byte for itself
	frame_max => 131072,
	heartbeat => 60,
	mechanisms => 'PLAIN AMQPLAIN',
	slow => 0,                 # so many milliseconds between reads of 64 kB
	mute => 0,                 # no heartbeats, and nothing else behind this publication
);
GetOptions(\%option, 'log=s', 'ack=i', 'nack=s', 'return=s', 'poison=s', 'flow', 'block=i', 'unblock=s', 'garbage=s',
	'greeting=s', 'chop', 'frame_max=i', 'heartbeat=i', 'mechanisms=s', 'slow=i', 'mute=i')
  or die "usage: amqp_server.pl --log FILE [option...]\n";

open my $log, '>', $option{log} or die "$option{log}: $!";
$log->autoflush;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5, ReuseAddr => 1) or die "listen: $!";
STDOUT->autoflush;
setsockopt $listener, SOL_SOCKET, SO_RCVBUF, 65536 if $option{slow};
print 'port=', $listener->sockport, "\n";

my ($npublished, $garbage_sent) = (0, 0);

# ---- of a connection ----

my ($client, $in, $lost, $frame_max);
my ($tag, @waiting, $closing, $heard);

sub note { print $log "@_\n"; return; }
sub violation { note('violation', @_); return; }
sub is_in { my ($n, $range) = @_; my ($from, $to) = split /-/, $range; return $n >= $from && $n <= $to; }

sub put
{
	my ($bytes) = @_;

	return if $option{mute} && $npublished >= $option{mute};
	for my $part ($option{chop} ? split(//, $bytes) : $bytes)
	{
		$lost = 1 unless defined syswrite $client, $part;
	}
	return;
}

sub frame { my ($type, $channel, $payload) = @_; return pack('CnN', $type, $channel, length $payload) . $payload . "\xce"; }
sub method { my ($channel, $class, $method, $arguments) = @_; return put(frame(1, $channel, pack('nn', $class, $method) . ($arguments // ''))); }
sub short { my ($text) = @_; return pack 'C/a', $text; }
sub long { my ($text) = @_; return pack 'N/a', $text; }

# More to read; heartbeats go out while nothing comes.
sub fill
{
	my $select = IO::Select->new($client);

	while (!$lost && !$select->can_read($option{heartbeat} ? $option{heartbeat} / 2 : undef))
	{
		put(frame(8, 0, ''));
	}
	return if $lost;
	select undef, undef, undef, $option{slow} / 1000 if $option{slow};
	$lost = 1 unless sysread $client, $in, 65536, length $in;
	return;
}

# [type, channel, payload], or nothing at the end
sub next_frame
{
	while (!$lost)
	{
		if (length $in >= 7)
		{
			my ($type, $channel, $size) = unpack 'CnN', $in;
			violation("a frame of $size bytes") if $size + 8 > $frame_max;
			if (length $in >= $size + 8)
			{
				my $payload = substr $in, 7, $size;
				violation('a frame without its end') if substr($in, 7 + $size, 1) ne "\xce";
				substr $in, 0, $size + 8, '';
				return [ $type, $channel, $payload ];
			}
		}
		fill();
	}
	return;
}

# ---- signing in ----

sub greet
{
	fill() while !$lost && length $in < 8;
	violation('the protocol header') if substr($in, 0, 8, '') ne "AMQP\0\0\x09\x01";
	my $greeting = $option{greeting};
	return put("AMQP\0\0\x09\x02") if $greeting eq 'version';
	return put("HTTP/1.1 400 Bad Request\r\n\r\n") if $greeting eq 'http';
	return if $greeting eq 'silent';
	return method(0, 10, 10, "\0\x09" . long('') . long($option{mechanisms}) . long('en_US'));
}

sub start_ok
{
	my ($arguments) = @_;
	my ($properties, $mechanism, $response, $locale) = unpack 'N/a C/a N/a C/a', $arguments;

	note('response', $mechanism, unpack('H*', $response));
	violation('the name of the connection') unless $properties =~ /connection_nameS....evstore relay /s;
	return method(0, 10, 50, pack('n', 403) . short('ACCESS_REFUSED') . pack('nn', 0, 0)) if $response =~ /wrong/;
	return method(0, 10, 30, pack 'nNn', 2047, $option{frame_max}, $option{heartbeat});
}

sub tune_ok
{
	my ($arguments) = @_;
	my ($channels, $max, $heartbeat) = unpack 'nNn', $arguments;

	violation("frame_max $max") if ($option{frame_max} && $max > $option{frame_max}) || $max < 4096;
	violation("heartbeat $heartbeat") if $option{heartbeat} && $heartbeat > $option{heartbeat};
	$frame_max = $max;
	return;
}

# ---- messages ----

sub position_of
{
	my ($header) = @_;
	my (undef, undef, $size, $flags, $rest) = unpack 'nnQ>na*', $header;

	(undef, $rest) = unpack 'C/a a*', $rest if $flags & 0x8000;
	(undef, $rest) = unpack 'N/a a*', $rest if $flags & 0x2000;
	$rest = substr $rest, ($flags & 0x1000 ? 1 : 0) + ($flags & 0x0800 ? 1 : 0);
	(undef, $rest) = unpack 'C/a a*', $rest if $flags & 0x0100;
	my ($id) = unpack 'C/a', $rest;
	return ($size, hex substr($id, -12));
}

sub acknowledge
{
	return if !@waiting;
	# it may be killed as soon as the client has heard
	note('taken', $_->[1]) for @waiting;
	if ($option{ack} < 0)
	{
		method(1, 60, 80, pack 'Q>C', $_->[0], 0) for reverse @waiting;
	}
	else
	{
		method(1, 60, 80, pack 'Q>C', $waiting[-1][0], @waiting > 1);
	}
	@waiting = ();
	return;
}

# What no server should send.
my %garbage = (
	huge => pack('CnN', 1, 1, 0xfffffff0),
	end => substr(frame(1, 1, pack 'nnQ>C', 60, 80, 1, 0), 0, -1) . 'x',
	short => frame(1, 1, pack 'nnN', 60, 80, 0),
	tag => frame(1, 1, pack 'nnQ>C', 60, 80, 1 << 40, 1),
	method => frame(1, 1, pack 'nn', 60, 60),
	channel => frame(1, 7, pack 'nnQ>C', 60, 80, 1, 0),
	type => frame(5, 1, ''),
	body => frame(3, 1, 'body'),
	header => frame(1, 1, pack('nnn', 60, 50, 312) . short('x') x 3) . frame(2, 1, pack 'nnQ>nC', 60, 0, 9, 0x8000, 200),
	overrun => frame(1, 1, pack('nnn', 60, 50, 312) . short('x') x 3) . frame(2, 1, pack 'nnQ>n', 60, 0, 2, 0) . frame(3, 1, 'xxx'),
	half => substr(frame(1, 1, pack 'nnQ>C', 60, 80, 1, 0), 0, 9),
	empty => frame(1, 1, ''),
);

sub wait_for_unblock
{
	method(0, 10, 60, short('low on memory'));
	select undef, undef, undef, 0.05 until -e $option{unblock};    # poll
	method(0, 10, 61);
	return;
}

sub published
{
	my ($position, $publish, $header, $body) = @_;
	my ($number, $my_tag) = (++$npublished, ++$tag);

	note('publish', $position);
	if ($option{poison} =~ /^(\d+):(\d+):(\w+)$/ && $1 == $position)
	{
		@waiting = ();
		method(1, 20, 20, pack 'C', 0) if $option{flow};
		return if $closing = method(($3 eq 'channel' ? (1, 20, 40) : (0, 10, 50)), pack('n', $2) . short('POISON') . pack('nn', 60, 40)) || 1;
	}
	if ($option{garbage} && !$garbage_sent++)
	{
		put($garbage{$option{garbage}} // die "no such garbage\n");
		$lost = 1 if $option{garbage} eq 'half';
		return;
	}
	if (is_in($number, $option{nack}))
	{
		acknowledge();
		return method(1, 60, 120, pack 'Q>C', $my_tag, 0);
	}
	if (is_in($number, $option{return}))
	{
		method(1, 60, 50, pack('n', 312) . short('NO_ROUTE') . substr $publish, 2, -1);
		put(frame(2, 1, $header));
		put(frame(3, 1, substr $body, 0, 4000, '')) while length $body;
	}
	push @waiting, [ $my_tag, $position ];
	acknowledge() if @waiting >= abs $option{ack};
	wait_for_unblock() if $number == $option{block};
	return;
}

# basic.publish: its header and its body follow.
sub publish
{
	my ($arguments) = @_;
	my $header = next_frame() or return;
	my $body = '';

	return violation('no header behind basic.publish') if $header->[0] != 2;
	my ($size, $position) = position_of($header->[2]);
	while (length $body < $size)
	{
		my $part = next_frame() or return;
		return violation('no body behind a header') if $part->[0] != 3;
		$body .= $part->[2];
	}
	violation('a body that is too long') if length $body > $size;
	published($position, $arguments, $header->[2], $body) unless $closing;
	return;
}

# ---- methods ----

my %methods = (
	'10.11' => \&start_ok,
	'10.31' => \&tune_ok,
	'10.40' => sub { method(0, 10, 41, short('')) },
	'10.51' => sub { $lost = 1 },
	'20.10' => sub { note('channel'); ($tag, $closing) = (0, 0); method(1, 20, 11, long('')) },
	'20.21' => sub { violation('channel.flow-ok') unless $option{flow} },
	'20.41' => sub { violation('channel.close-ok') unless $closing },
	'85.10' => sub { method(1, 85, 11) },
	'60.40' => \&publish,
);

sub serve
{
	($in, $lost, $frame_max, $tag, $closing, @waiting) = ('', 0, 4096, 0, 0);
	note('connection');
	greet();
	while (my $frame = next_frame())
	{
		my ($type, $channel, $payload) = @$frame;
		if ($type == 8) { note('heartbeat'); next; }
		my ($class, $method, $arguments) = unpack 'nna*', $payload;
		my $do = $type == 1 && $methods{"$class.$method"};
		if (!$do) { violation("method $class.$method in a frame of type $type"); return; }
		$do->($arguments);
		# whoever waits for an acknowledgement sends nothing more
		acknowledge() if $in eq '' && @waiting && !IO::Select->new($client)->can_read(0.01);
	}
	return;
}

$SIG{PIPE} = 'IGNORE';
while ($client = $listener->accept)
{
	setsockopt $client, IPPROTO_TCP, TCP_NODELAY, 1;
	serve();
	close $client;
}
