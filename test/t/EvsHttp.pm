# EvsHttp.pm
#
# Receivers for tests of HTTP: http_server.pl, and certificates for it.

package EvsHttp;

use strict;
use warnings;

use Exporter 'import';
use File::Basename 'dirname';
use IPC::Open2;
use JSON::PP;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(http_server make_ca make_certificate);

my $tool = dirname(__FILE__) . '/../tools/http_server.pl';
my $nservers = 0;

# A running server.
#   args     more arguments of http_server.pl
#   port     of an earlier one
#   tls      the name of a certificate of make_certificate()
sub http_server
{
	my (%opt) = @_;
	my $base = "$PostgreSQL::Test::Utils::tmp_check/http_" . ++$nservers;
	my $self = bless { log => "$base.log", control => "$base.control", read => 0,
		scheme => $opt{tls} ? 'https' : 'http' }, __PACKAGE__;
	my @args = ('--log', $self->{log}, '--control', $self->{control}, @{ $opt{args} // [] });

	push @args, '--port', $opt{port} if $opt{port};
	push @args, '--cert', "$opt{tls}.pem", '--key', "$opt{tls}.key" if $opt{tls};
	$self->{pid} = open2($self->{out}, $self->{in}, $^X, $tool, @args);
	my $line = readline $self->{out};
	($self->{port}) = ($line // '') =~ /^port=(\d+)$/ or die 'http_server.pl did not start';
	return $self;
}

sub url
{
	my ($self, $path, $host) = @_;

	return "$self->{scheme}://" . ($host // '127.0.0.1') . ":$self->{port}" . ($path // '/');
}

# What it was asked since the last call.  It writes a line before it answers.
sub requests
{
	my ($self) = @_;
	my @requests;

	open my $fh, '<:raw', $self->{log} or return;
	seek $fh, $self->{read}, 0;
	while (my $line = readline $fh)
	{
		last unless $line =~ /\n\z/;
		$self->{read} += length $line;
		push @requests, JSON::PP->new->utf8->decode($line);
	}
	close $fh;
	return map { bless $_, 'EvsHttp::Request' } @requests;
}

# What to do with all requests from now on; undef: what their URLs say.
sub control
{
	my ($self, $query) = @_;

	return unlink $self->{control} unless defined $query;
	# Nobody may read half of it.
	append_to_file("$self->{control}.new", "$query\n");
	rename "$self->{control}.new", $self->{control} or die $!;
	return;
}

sub stop
{
	my ($self) = @_;

	return unless $self->{pid};
	close $self->{in};
	waitpid delete $self->{pid}, 0;
	return;
}

sub DESTROY
{
	my ($self) = @_;

	local ($?, $@);
	$self->stop;
	return;
}

# ---- certificates ----

sub openssl
{
	my (@args) = @_;

	run_log([ 'openssl', @args ]) or die "openssl $args[0] failed";
	return;
}

my @new_key = qw(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes);

# BASE.pem and BASE.key
sub make_ca
{
	my ($base) = @_;

	openssl('req', '-x509', @new_key, '-subj', '/CN=evstore test CA', '-days', 2,
		'-keyout', "$base.key", '-out', "$base.pem");
	return $base;
}

# As make_ca().  names is what it is for, days how long it is valid.
sub make_certificate
{
	my ($base, $ca, %opt) = @_;

	openssl('req', @new_key, '-subj', '/CN=evstore test', '-keyout', "$base.key", '-out', "$base.csr");
	append_to_file("$base.ext", 'subjectAltName=' . ($opt{names} // 'DNS:localhost,IP:127.0.0.1'));
	openssl('x509', '-req', '-in', "$base.csr", '-CA', "$ca.pem", '-CAkey', "$ca.key",
		'-CAcreateserial', '-days', $opt{days} // 1, '-extfile', "$base.ext", '-out', "$base.pem");
	return $base;
}

package EvsHttp::Request;

# All values of a header, joined; undef if it is not there.
sub header
{
	my ($self, $name) = @_;
	my @values = map { $_->[1] } grep { lc $_->[0] eq lc $name } @{ $self->{headers} };

	return @values ? join(' | ', @values) : undef;
}

1;
