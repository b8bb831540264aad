#!/usr/bin/perl
#
# cut_proxy.pl --to PORT --seed N --cuts N --bytes MAX
#
# Passes connections on to a port of the loopback, and cuts so many of them, each
# behind a number of bytes up to MAX that the client has sent, be that in the middle of
# anything.  A cut is one of
#
#	close	both sides are closed, the server's answers of that moment are lost
#	reset	the same, so that the other side gets an error
#	late	nothing is passed on any more, in either direction, until the client has given up
#			and has been back for a while; then the server gets all the rest at once, late
#
# Prints "port=N" when it listens, and a line for each cut.

use strict;
use warnings;

use Getopt::Long;
use IO::Handle;
use IO::Select;
use IO::Socket::INET;
use Socket qw(SOL_SOCKET SO_LINGER);

my %option;
GetOptions(\%option, 'to=i', 'seed=i', 'cuts=i', 'bytes=i') or die "usage: cut_proxy.pl --to PORT --seed N --cuts N --bytes MAX\n";
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 20) or die "listen: $!";
my %peers;         # by descriptor: the connection, from both of its ends
my @late;          # connections whose rest is held back
my $ncuts = 0;

srand $option{seed};
$SIG{PIPE} = 'IGNORE';
STDOUT->autoflush;
print 'port=', $listener->sockport, "\n";
my $select = IO::Select->new($listener);

sub forget
{
	my ($connection, $reset) = @_;

	for my $socket (@$connection{qw(client server)})
	{
		$select->remove($socket);
		delete $peers{ fileno $socket };
		setsockopt $socket, SOL_SOCKET, SO_LINGER, pack 'll', 1, 0 if $reset;
		close $socket;
	}
	return;
}

sub accept_client
{
	my $client = $listener->accept or return;
	my $server = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$option{to}");

	if (!$server) { close $client; return; }
	my $connection = { client => $client, server => $server, sent => 0, rest => '' };
	$connection->{cut} = 1 + int rand $option{bytes} if $ncuts < $option{cuts};
	$peers{ fileno $_ } = $connection for $client, $server;
	$select->add($client, $server);
	return;
}

sub cut
{
	my ($connection) = @_;
	my $how = (qw(close reset late))[ rand 3 ];

	$ncuts++;
	print "$how behind $connection->{cut} bytes\n";
	delete $connection->{cut};
	return forget($connection, $how eq 'reset') if $how ne 'late';
	$select->remove($connection->{server});
	$connection->{late} = 1;
	push @late, $connection;
	return;
}

# All of it: the other side reads sooner or later.
sub pass
{
	my ($socket, $data) = @_;

	while (length $data)
	{
		my $n = syswrite $socket, $data or return;
		substr $data, 0, $n, '';
	}
	return;
}

sub from_client
{
	my ($connection, $data) = @_;

	if ($connection->{late}) { $connection->{rest} .= $data; return; }
	my $cut = $connection->{cut};
	my $enough = $cut && $connection->{sent} + length $data >= $cut;
	my $first = $enough ? substr($data, 0, $cut - $connection->{sent}, '') : $data;
	$connection->{sent} += length $first;
	pass($connection->{server}, $first);
	if ($enough)
	{
		cut($connection);
		$connection->{rest} = $data;
	}
	# who is back, and has sent something: what was held back arrives behind that
	if ($connection->{sent} > 2000 && @late && !$connection->{late})
	{
		for my $old (splice @late)
		{
			pass($old->{server}, $old->{rest});
			forget($old);
		}
	}
	return;
}

while (1)
{
	for my $socket ($select->can_read)
	{
		if ($socket == $listener) { accept_client(); next; }
		my $connection = $peers{ fileno($socket) // -1 } or next;
		my $from_client = $socket == $connection->{client};
		if (!sysread $socket, my $data, 65536)
		{
			# a late one still has to arrive
			if ($connection->{late}) { $select->remove($socket); next; }
			forget($connection);
		}
		elsif ($from_client) { from_client($connection, $data); }
		else { pass($connection->{client}, $data); }
	}
}
