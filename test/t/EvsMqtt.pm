# EvsMqtt.pm
#
# What tests of MQTT need: mosquitto, who reads what it has, a server that says what
# it is told to, and connections that break where they are told to.

package EvsMqtt;

use strict;
use warnings;

use EvsBroker;
use EvsTest 'poll';
use Exporter 'import';
use IO::Select;
use IO::Socket::INET;
use Socket qw(IPPROTO_TCP SOL_SOCKET SO_LINGER TCP_NODELAY);
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes ();

our @EXPORT = qw(start_mosquitto keep_for_reader read_messages start_proxy
  fake_server packets publications packet connack acknowledge
  CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP PINGREQ PINGRESP DISCONNECT ENDED);

use constant {
	CONNECT => 1, CONNACK => 2, PUBLISH => 3, PUBACK => 4, PUBREC => 5, PUBREL => 6, PUBCOMP => 7,
	PINGREQ => 12, PINGRESP => 13, DISCONNECT => 14, ENDED => 99 };

my $dir = PostgreSQL::Test::Utils::tempdir();
my $nfiles = 0;

# ---- mosquitto ----

# Returns {pid, port, log}.  What was there on this port before is there again.
sub start_mosquitto
{
	my ($program, %opt) = @_;
	my $port = $opt{port} // PostgreSQL::Test::Cluster::get_free_port();
	my $base = "$dir/mosquitto_$port";

	mkdir $base;
	unlink "$base/conf";
	append_to_file("$base/conf", <<"END" . ($opt{conf} // "allow_anonymous true\n"));
listener $port 127.0.0.1
persistence true
persistence_location $base/
max_queued_messages 0
log_dest file $base/log
END
	my $pid = start_program($program, '-c', "$base/conf");
	poll(sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") || !EvsTest::is_running($pid) })
	  && EvsTest::is_running($pid)
	  or die "mosquitto does not start: " . (-e "$base/log" ? slurp_file("$base/log") : '');
	return { pid => $pid, port => $port, log => "$base/log" };
}

# The server is to keep messages of these topics for a reader of this name.
sub keep_for_reader
{
	my ($program, $server, $name, $topic) = @_;

	run_log([ $program, '-p', $server->{port}, '-q', 2, '-c', '-i', $name, '-t', $topic, '-E' ])
	  or die 'no subscription';
	return;
}

# All that it has kept, in this format, up to a line that matches; that one is left out.
sub read_messages
{
	my ($program, $server, $name, $topic, $format, $last, @options) = @_;
	my @lines;

	my $pid = open my $out, '-|', $program, '-p', $server->{port}, '-q', 2, '-c', '-i', $name, '-t', $topic,
	  '-W', 60, '-F', $format, @options or die "fork: $!";
	while (my $line = <$out>)
	{
		chomp $line;
		last if $line =~ $last;
		push @lines, $line;
	}
	kill 'TERM', $pid;
	close $out;
	return @lines;
}

# ---- packets ----

sub varint
{
	my ($n) = @_;
	my $bytes = '';

	do
	{
		$bytes .= chr($n % 128 | ($n > 127 ? 128 : 0));
		$n >>= 7;
	} while $n > 0;
	return $bytes;
}

sub packet
{
	my ($kind, $body) = @_;

	return chr($kind << 4 | ($kind == PUBREL ? 2 : 0)) . varint(length $body) . $body;
}

# Properties are bytes; undef: 3.1.1.
sub connack
{
	my ($code, $present, $properties) = @_;

	return packet(CONNACK, chr($present // 0) . chr($code)
		  . (defined $properties ? varint(length $properties) . $properties : ''));
}

# PUBACK, PUBREC, PUBCOMP; without a code it is short.
sub acknowledge
{
	my ($kind, $id, $code, $reason) = @_;
	my $properties = defined $reason ? "\x1f" . pack('n/a*', $reason) : '';

	return packet($kind, pack('n', $id) . (defined $code ? chr $code : '')
		  . ($properties ne '' ? varint(length $properties) . $properties : ''));
}

# The first packet of some bytes, which are taken away: kind, flags, body.
sub take_packet
{
	my ($bytes) = @_;
	my ($length, $at, $shift) = (0, 1, 0);

	while (1)
	{
		return if length $$bytes <= $at;
		my $byte = ord substr $$bytes, $at++, 1;
		$length |= ($byte & 127) << $shift;
		$shift += 7;
		last if $byte < 128;
	}
	return if length $$bytes < $at + $length;
	my $first = ord substr $$bytes, 0, 1;
	my $body = substr $$bytes, $at, $length;
	substr $$bytes, 0, $at + $length, '';
	return ($first >> 4, $first & 15, $body);
}

# topic, id, and what is behind it
sub decode_publish
{
	my ($body) = @_;
	my ($topic, $id, $rest) = unpack 'n/a n a*', $body;

	return { topic => $topic, id => $id, rest => $rest };
}

# ---- a server that says what it is told to ----

# The script is called for each packet that comes in, with its kind, flags, body and
# the number of the connection, from 1, and for each new connection, with kind 0.  It
# returns bytes to send; undef: the connection is closed; a reference to bytes: they are
# sent, and when they have arrived the connection is reset.
sub fake_server
{
	my ($script) = @_;
	my $log = "$dir/fake" . ++$nfiles;

	return { %{ start_listener(sub { serve($_[0], $script, $log) }) }, log => $log };
}

# A child that listens, and has nothing else of ours open: others wait for the end of
# pipes that are inherited.
sub start_listener
{
	my ($body) = @_;
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 10) or die "listen: $!";
	my $pid = fork // die "fork: $!";

	if ($pid == 0)
	{
		# Not closed: Perl has its own view of which descriptors are in use.
		foreach my $fd (map { m{(\d+)$} } glob '/proc/self/fd/*')
		{
			POSIX::dup2(0, $fd) if $fd > 2 && $fd != fileno $listener;
		}
		eval { $body->($listener); 1 } or print STDERR $@;
		POSIX::_exit(1);
	}
	adopt_program($pid);
	return { pid => $pid, port => $listener->sockport };
}

# Closing a connection that has more to read would throw away what was not delivered.
sub wait_for_arrival
{
	my ($socket) = @_;
	my $TIOCOUTQ = 0x5411;

	poll(sub {
		my $left = pack 'i', 0;
		return ioctl($socket, $TIOCOUTQ, $left) && unpack('i', $left) == 0;
	});
	return;
}

sub serve
{
	my ($listener, $script, $log) = @_;
	my $select = IO::Select->new($listener);
	my (%connection, %input);
	my $n = 0;

	local $SIG{PIPE} = 'IGNORE';
	open my $file, '>>', $log or die "$log: $!";
	my $say = sub {
		my ($socket, @packet) = @_;
		my $answer = $script->(@packet);
		my $ends = !defined $answer || ref $answer;

		syswrite $socket, ref $answer ? $$answer : $answer // '';
		wait_for_arrival($socket) if ref $answer;
		return 1 unless $ends;
		setsockopt $socket, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0 if ref $answer;
		$select->remove($socket);
		close $socket;
		syswrite $file, sprintf "%.3f %d %d 0\n", Time::HiRes::time(), $packet[3], ENDED;
		return 0;
	};

	while (1)
	{
		foreach my $socket ($select->can_read)
		{
			if ($socket == $listener)
			{
				my $new = $listener->accept or next;
				# What it has said is to arrive even if it closes the connection in the next moment.
				setsockopt $new, IPPROTO_TCP, TCP_NODELAY, 1;
				$connection{$new} = ++$n;
				$input{$new} = '';
				$select->add($new);
				syswrite $file, sprintf "%.3f %d 0 0\n", Time::HiRes::time(), $n;
				$say->($new, 0, 0, '', $n);
				next;
			}
			if (!sysread $socket, $input{$socket}, 65536, length $input{$socket})
			{
				$select->remove($socket);
				close $socket;
				next;
			}
			while (my ($kind, $flags, $body) = take_packet(\$input{$socket}))
			{
				# Before it answers: what was acknowledged is never forgotten.
				syswrite $file, sprintf "%.3f %d %d %d %s\n", Time::HiRes::time(), $connection{$socket}, $kind, $flags, unpack 'H*', $body;
				last unless $say->($socket, $kind, $flags, $body, $connection{$socket});
			}
		}
	}
}

# What it was sent: hashes of time, connection, kind, flags, body.  Of connections: kind 0,
# and ENDED for those that it has closed.
sub packets
{
	my ($server) = @_;

	return unless -e $server->{log};
	return map {
		my ($time, $connection, $kind, $flags, $body) = split / /, $_, 5;
		+{ time => $time, connection => $connection, kind => $kind, flags => $flags, body => pack('H*', $body // '') };
	} slurp_file($server->{log}) =~ /^(.*)\n/mg;
}

# With topic, id, rest, and dup.
sub publications
{
	my ($server) = @_;

	return map { +{ %$_, %{ decode_publish($_->{body}) }, dup => $_->{flags} >> 3 } }
	  grep { $_->{kind} == PUBLISH } packets($server);
}

# ---- connections that break ----

# Between the sink and a server.  Each connection ends when so many bytes have gone
# to the server, and so many have come from it; @limits has pairs of them, one a
# connection; undef: no limit.  Later connections have none.
sub start_proxy
{
	my ($port, @limits) = @_;

	return start_listener(sub { relay_connections($_[0], $port, @limits) });
}

sub relay_connections
{
	my ($listener, $port, @limits) = @_;

	local $SIG{PIPE} = 'IGNORE';
	while (1)
	{
		my $client = $listener->accept or next;
		my $server = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port");

		relay_bytes($client, $server, @{ shift @limits // [] }) if $server;
		# Not FIN: what is on its way is to be lost.
		setsockopt $client, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
		close $client;
		close $server if $server;
	}
}

sub relay_bytes
{
	my ($client, $server, @left) = @_;
	my $select = IO::Select->new($client, $server);

	while (1)
	{
		foreach my $from ($select->can_read)
		{
			my ($to, $way) = $from == $client ? ($server, 0) : ($client, 1);
			my $n = sysread $from, my $bytes, 65536 or return;

			if (defined $left[$way])
			{
				$bytes = substr $bytes, 0, $left[$way];
				$left[$way] -= $n;
			}
			while (length $bytes)
			{
				my $written = syswrite $to, $bytes or return;
				substr $bytes, 0, $written, '';
			}
			return if defined $left[$way] && $left[$way] <= 0;
		}
	}
}

1;
