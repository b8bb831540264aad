#!/usr/bin/perl
#
# http_server.pl [--port N] [--log FILE] [--control FILE] [--script FILE]
#                [--cert FILE --key FILE [--tls VERSION] [--client-ca FILE]]
#
# An HTTP/1.1 receiver that does what it is told to, also wrongly.  One process,
# no limit of connections but select()'s; some thousands of requests a second.
# Prints "port=N" when it listens on the loopback, and ends with its standard input.
#
# What to do with a request stands in the query of its URL:
#
#	status=N          the answer; without anything it is 204
#	header=NAME:VALUE more of it, as often as you like
#	body=TEXT         its body; body_size=N: so many bytes; echo=1: what was asked
#	delay=MS          answer later; others are answered in the meantime
#	gather=N          answer when N requests wait for their answers
#	hang=1            never answer; stall=1: do not even read the body
#	trickle=MS        read the body slowly, 256 kB in so many ms
#	half=1            close in the middle of the answer; close=1: after it
#	reset=1           reset the connection instead of answering
#	garbage=1         answer with something that is not HTTP
#	first=N           all this is for the first N requests of this URL only
#	only=TEXT         and for URLs that have this text
#	options.KEY=...   the same for OPTIONS requests, which then ignore the rest
#
# While the control file exists its content, of the same form, goes before.
#
# A script is Perl whose value is a function: of a request, with its body, it returns
# a reference to a hash of the same instructions.  It is not asked when the status has
# been said already, so that what it does not know of has not happened; with half, reset
# and the like it has, and only the answer is lost.
#
# Each request is a line of JSON in the log: n, connection, method, target,
# version, headers (an array of pairs), body, or body_base64 if that is not
# UTF-8, or neither if it is longer than 64 kB; body_length, body_sha256.

use strict;
use warnings;

use Digest::SHA 'sha256_hex';
use Errno qw(EAGAIN EINTR EWOULDBLOCK);
use Fcntl;
use Getopt::Long;
use IO::Socket::IP;
use MIME::Base64 'encode_base64';
use Socket qw(SOL_SOCKET SO_LINGER IPPROTO_TCP TCP_NODELAY);
use Time::HiRes 'time';

my %option = (port => 0);
GetOptions(\%option, 'port=i', 'log=s', 'control=s', 'script=s', 'cert=s', 'key=s', 'tls=s', 'client-ca=s')
  or die "usage: http_server.pl [--port N] [--log FILE] [--control FILE] [--script FILE] [--cert FILE --key FILE]\n";
my @tls_options = (
	SSL_server => 1, SSL_startHandshake => 0,
	SSL_cert_file => $option{cert}, SSL_key_file => $option{key},
	$option{tls} ? (SSL_version => $option{tls}) : (),
	# 3: a certificate is asked for, and there must be one
	$option{'client-ca'} ? (SSL_ca_file => $option{'client-ca'}, SSL_verify_mode => 3) : ());

my $max_logged = 65536;
my (%connections, $next_connection, $nrequests, %times_asked, @gathered, @delayed);
my ($log, $script, %parsed);

$SIG{PIPE} = 'IGNORE';
if ($option{cert})
{
	require IO::Socket::SSL;
}
if ($option{script})
{
	$script = do $option{script};
	ref $script eq 'CODE' or die "$option{script}: ", $@ || $! || 'it is no function', "\n";
}
if ($option{log})
{
	open $log, '>>:raw', $option{log} or die "$option{log}: $!\n";
	$log->autoflush;
}

# ---- what to do ----

sub unescape
{
	my ($text) = @_;

	$text =~ tr/+/ /;
	$text =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
	return $text;
}

# a query as a hash; header is an array
sub parse_query
{
	my ($query) = @_;
	my %is = (header => []);

	foreach my $pair (split /&/, $query)
	{
		my ($key, $value) = map { unescape($_) } split /=/, $pair, 2;
		if ($key =~ /header$/)
		{
			push @{ $is{$key} }, $value;
		}
		else
		{
			$is{$key} = $value // 1;
		}
	}
	return \%is;
}

sub control
{
	my $fh;

	return undef unless $option{control} && open $fh, '<', $option{control};
	my $line = readline($fh) // '';
	chomp $line;
	return $line eq '' ? undef : parse_query($line);
}

# the instructions for a request
sub instructions
{
	my ($request) = @_;
	my $target = $request->{target};
	my $is = control();

	if (!$is)
	{
		my ($query) = $target =~ /\?(.*)/s;
		$is = $parsed{ $query // '' } //= parse_query($query // '');
	}
	if ($request->{method} eq 'OPTIONS')
	{
		my %of_options = (header => $is->{'options.header'} // []);
		/^options\.(?!header)(.*)/ and $of_options{$1} = $is->{$_} for keys %$is;
		$is = \%of_options;
	}
	if ((defined $is->{only} && index($target, $is->{only}) < 0) ||
		(defined $is->{first} && $times_asked{"$request->{method} $target"}++ >= $is->{first}))
	{
		$is = parse_query('');
	}
	return $is;
}

# those with what the script says of it
sub ask_script
{
	my ($request, $is) = @_;

	return $is if !$script || defined $is->{status};
	my $answer = $script->($request);
	return { %$answer, %$is, header => [ @{ $answer->{header} // [] }, @{ $is->{header} } ] };
}

# ---- the log ----

sub json_string
{
	my ($text) = @_;

	$text =~ s/([\x00-\x1f"\\\x7f])/sprintf '\\u%04x', ord $1/ge;
	return "\"$text\"";
}

# bytes as a string if they are UTF-8, and undef otherwise
sub json_bytes
{
	my ($bytes) = @_;
	my $copy = $bytes;

	return utf8::decode($copy) ? json_string($bytes) : undef;
}

sub log_request
{
	my ($connection, $request) = @_;
	my $length = length $request->{body};
	my @members = (
		"\"n\":$nrequests", "\"connection\":$connection->{id}",
		(map { "\"$_\":" . json_string($request->{$_}) } qw(method target version)),
		'"headers":[' . join(',', map { my ($name, $value) = @$_;
			'[' . json_string($name) . ',' . (json_bytes($value) // '"not UTF-8"') . ']' }
			@{ $request->{headers} }) . ']',
		"\"body_length\":$length", '"body_sha256":"' . sha256_hex($request->{body}) . '"');

	if ($length <= $max_logged)
	{
		my $text = json_bytes($request->{body});
		push @members, defined $text ? "\"body\":$text" :
		  '"body_base64":"' . encode_base64($request->{body}, '') . '"';
	}
	print $log '{' . join(',', @members) . "}\n";
	return;
}

# ---- answers ----

my %reason = (200 => 'OK', 204 => 'No Content', 503 => 'Service Unavailable');

sub answer_text
{
	my ($request, $is) = @_;
	my $status = $is->{status} // 204;
	my $body = $is->{body} // '';

	$body = 'x' x $is->{body_size} if $is->{body_size};
	$body = join "\n", map { "$_->[0]: $_->[1]" } @{ $request->{headers} } if $is->{echo};
	my @lines = ("HTTP/1.1 $status " . ($reason{$status} // 'Status'),
		map { s/^([^:]*):\s*/$1: /r } @{ $is->{header} });
	push @lines, 'Content-Length: ' . length $body unless $status == 204 || $status == 304;
	push @lines, 'Connection: close' if $is->{close};
	return join("\r\n", @lines) . "\r\n\r\n" . $body;
}

sub reset_connection
{
	my ($connection) = @_;

	setsockopt $connection->{fh}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
	drop($connection);
	return;
}

sub answer
{
	my ($connection, $request, $is) = @_;

	return if $connection->{closed};
	my $text = answer_text($request, $is);
	$text = "what do you want?\r\n" if $is->{garbage};
	$text = substr $text, 0, length($text) - int(length($is->{body} // $text) / 2) - 1 if $is->{half};
	$connection->{out} .= $text;
	$connection->{close_after} = 1 if $is->{close} || $is->{half} || $is->{garbage};
	$connection->{busy} = 0;
	flush($connection);
	serve($connection);
	return;
}

sub begin_answer
{
	my ($connection, $request, $is) = @_;

	$connection->{busy} = 1;
	return reset_connection($connection) if $is->{reset};
	return if $is->{hang};
	if ($is->{gather})
	{
		push @gathered, [ $connection, $request, $is ];
		return if @gathered < $is->{gather};
		answer(@$_) for splice @gathered;
		return;
	}
	return later($is->{delay}, sub { answer($connection, $request, $is) }) if $is->{delay};
	return answer($connection, $request, $is);
}

sub later
{
	my ($ms, $what) = @_;

	@delayed = sort { $a->[0] <=> $b->[0] } @delayed, [ time + $ms / 1000, $what ];
	return;
}

# ---- requests ----

# the request whose head ends at $end; not its body
sub parse_head
{
	my ($head) = @_;
	my ($first, @lines) = split /\r\n/, $head;
	my ($method, $target, $version) = $first =~ m{^(\S+) (\S+) HTTP/(\S+)$} or return undef;
	my @headers = map { [ /^([^:]*):\s*(.*?)\s*$/s ] } @lines;
	my ($length) = map { $_->[1] } grep { lc $_->[0] eq 'content-length' } @headers;

	return { method => $method, target => $target, version => $version,
		headers => \@headers, length => $length // 0 };
}

# all requests that have arrived on a connection, one after the other
sub serve
{
	my ($connection) = @_;

	while (!$connection->{busy} && !$connection->{closed} && !$connection->{close_after})
	{
		my $request = $connection->{request};
		if (!$request)
		{
			my $end = index $connection->{in}, "\r\n\r\n";
			last if $end < 0;
			$request = $connection->{request} = parse_head(substr $connection->{in}, 0, $end);
			return reset_connection($connection) unless $request;
			substr $connection->{in}, 0, $end + 4, '';
			$request->{is} = instructions($request);
			$connection->{stalled} = 1 if $request->{is}{stall};
			$connection->{trickle} = $request->{is}{trickle};
		}
		last if $connection->{stalled} || length $connection->{in} < $request->{length};
		$request->{body} = substr $connection->{in}, 0, $request->{length}, '';
		delete $connection->{request};
		$nrequests++;
		log_request($connection, $request) if $log;
		begin_answer($connection, $request, ask_script($request, $request->{is}));
	}
	return;
}

# ---- connections ----

sub drop
{
	my ($connection) = @_;

	return if $connection->{closed}++;
	delete $connections{ $connection->{fileno} };
	# close() of a TLS socket would say goodbye; the descriptor says what we want.
	$connection->{tls} ? CORE::close($connection->{fh}) : close $connection->{fh};
	return;
}

sub accept_connections
{
	my ($listener) = @_;

	while (my $fh = $listener->accept)
	{
		$fh->blocking(0);
		setsockopt $fh, IPPROTO_TCP, TCP_NODELAY, 1;
		my $connection = { fh => $fh, fileno => fileno $fh, id => ++$next_connection, in => '', out => '' };
		if ($option{cert})
		{
			IO::Socket::SSL->start_SSL($fh, @tls_options);
			$connection->{tls} = $connection->{handshaking} = 1;
		}
		$connections{ $connection->{fileno} } = $connection;
	}
	return;
}

# what TLS waits for, when it is not what we wanted
sub note_want
{
	my ($connection) = @_;

	$connection->{wants_write} = $IO::Socket::SSL::SSL_ERROR == IO::Socket::SSL::SSL_WANT_WRITE();
	return $connection->{wants_write} || $IO::Socket::SSL::SSL_ERROR == IO::Socket::SSL::SSL_WANT_READ();
}

sub shake_hands
{
	my ($connection) = @_;

	if ($connection->{fh}->accept_SSL)
	{
		$connection->{handshaking} = $connection->{wants_write} = 0;
		return 1;
	}
	drop($connection) unless note_want($connection);
	return 0;
}

sub receive
{
	my ($connection) = @_;

	return if $connection->{handshaking} && !shake_hands($connection);
	while (!$connection->{closed} && !$connection->{stalled})
	{
		my $n = sysread $connection->{fh}, $connection->{in}, 262144, length $connection->{in};
		if (!defined $n)
		{
			next if $! == EINTR;
			last if $connection->{tls} ? note_want($connection) : $! == EAGAIN || $! == EWOULDBLOCK;
		}
		return drop($connection) unless $n;
		serve($connection);
		if ($connection->{trickle} && !$connection->{stalled})
		{
			$connection->{stalled} = 1;
			later($connection->{trickle}, sub { $connection->{stalled} = 0 });
		}
		last if $n < 16384 && !($connection->{tls} && !$connection->{closed} && $connection->{fh}->pending);
	}
	return;
}

sub flush
{
	my ($connection) = @_;

	return if $connection->{handshaking} && !shake_hands($connection);
	while ($connection->{out} ne '')
	{
		my $n = syswrite $connection->{fh}, $connection->{out}, 262144;
		if (!defined $n)
		{
			return if $connection->{tls} ? note_want($connection) : $! == EAGAIN || $! == EWOULDBLOCK;
			return drop($connection);
		}
		substr $connection->{out}, 0, $n, '';
	}
	drop($connection) if $connection->{close_after};
	return;
}

sub do_delayed
{
	while (@delayed && $delayed[0][0] <= time)
	{
		(shift @delayed)->[1]->();
	}
	return;
}

my $listener = IO::Socket::IP->new(LocalHost => '127.0.0.1', LocalPort => $option{port},
	Listen => 1024, ReuseAddr => 1, Proto => 'tcp')
  or die "cannot listen: $@\n";
$listener->blocking(0);
$| = 1;
print 'port=', $listener->sockport, "\n";

my $stdin = fileno STDIN;
while (1)
{
	my ($read, $write) = ('', '');
	vec($read, $_, 1) = 1 for $stdin, fileno $listener;
	foreach my $connection (values %connections)
	{
		vec($read, $connection->{fileno}, 1) = 1 unless $connection->{stalled};
		vec($write, $connection->{fileno}, 1) = 1
		  if $connection->{out} ne '' || $connection->{wants_write};
	}
	my $timeout = @delayed ? $delayed[0][0] - time : undef;
	$timeout = 0 if defined $timeout && $timeout < 0;
	my $n = select $read, $write, undef, $timeout;
	do_delayed();
	next if $n <= 0;
	last if vec($read, $stdin, 1) && !sysread STDIN, my $ignored, 4096;
	foreach my $connection (values %connections)
	{
		flush($connection) if vec $write, $connection->{fileno}, 1;
		receive($connection) if !$connection->{closed} && vec $read, $connection->{fileno}, 1;
	}
	accept_connections($listener) if vec $read, fileno $listener, 1;
}
