# EvsRabbit.pm
#
# A RabbitMQ server of a test's own, with a client that is not the sink's: amqplib
# of npm.  Its ports are chosen before it starts, since it has to be told.

package EvsRabbit;

use strict;
use warnings;

use Digest::SHA 'sha256';
use EvsBroker;
use EvsHttp qw(make_ca make_certificate);
use EvsTest 'poll';
use File::Basename 'dirname';
use IO::Socket::INET;
use IPC::Open2;
use JSON::PP;
use MIME::Base64 'encode_base64';
use PostgreSQL::Test::Utils;

my $tools = dirname(__FILE__) . '/../tools';
my $json = JSON::PP->new->utf8->canonical;

our $password = 'right password';

# What is missing for it, or nothing.
sub missing
{
	return 'rabbitmq-server is not installed' unless -x '/usr/lib/rabbitmq/bin/rabbitmq-server';
	for my $program (qw(epmd node npm openssl))
	{
		return "$program is not installed" unless grep { -x "$_/$program" } split /:/, $ENV{PATH};
	}
	return;
}

# Nobody listens there at the moment.
sub free_ports
{
	my ($n) = @_;
	my @sockets = map { IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "listen: $!" } 1 .. $n;

	return map { $_->sockport } @sockets;
}

sub user
{
	my ($name) = @_;
	my $salt = 'salt';

	return { name => $name, tags => '', hashing_algorithm => 'rabbit_password_hashing_sha256',
		password_hash => encode_base64($salt . sha256($salt . $password), '') };
}

# Who there is: "evs" may do all, and so may "evstore test", the name in make_certificate(),
# "narrow" may publish to exchanges that begin with "open".
sub definitions
{
	my $all = sub { { user => $_[0], vhost => $_[1], configure => '.*', write => '.*', read => '.*' } };

	return {
		users => [ map { user($_) } 'evs', 'evstore test', 'narrow' ],
		vhosts => [ { name => '/' }, { name => 'other place' } ],
		permissions => [ $all->('evs', '/'), $all->('evs', 'other place'), $all->('evstore test', '/'),
			{ user => 'narrow', vhost => '/', configure => '', write => '^open', read => '' } ],
		queues => [], exchanges => [], bindings => [],
	};
}

# Begin to start one; ready() waits for it.
sub new
{
	my ($class) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $self = bless { dir => $dir, ca => make_ca("$dir/ca") }, $class;

	@$self{qw(epmd dist port tls_port)} = free_ports(4);
	make_certificate("$dir/server", $self->{ca}, names => 'DNS:localhost');
	make_certificate("$dir/client", $self->{ca});
	append_to_file("$dir/definitions.json", $json->encode(definitions()));
	append_to_file("$dir/plugins", "[rabbitmq_auth_mechanism_ssl].\n");
	append_to_file("$dir/rabbitmq.conf", <<"END");
listeners.tcp.default = 127.0.0.1:$self->{port}
listeners.ssl.default = 127.0.0.1:$self->{tls_port}
ssl_options.cacertfile = $dir/ca.pem
ssl_options.certfile = $dir/server.pem
ssl_options.keyfile = $dir/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
ssl_cert_login_from = common_name
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = EXTERNAL
load_definitions = $dir/definitions.json
disk_free_limit.absolute = 1MB
max_message_size = 17000000
END
	start_program('epmd', '-port', $self->{epmd}, '-address', '127.0.0.1');
	poll(sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$self->{epmd}") }) or die 'epmd does not start';
	$self->launch;
	return $self;
}

sub launch
{
	my ($self) = @_;

	$self->{pid} = start_program("$tools/rabbitmq.sh", @$self{qw(dir epmd dist)});
	return;
}

sub ready
{
	my ($self) = @_;

	poll(sub { waitpid($self->{pid}, 1) == 0 or die 'RabbitMQ has ended';
			IO::Socket::INET->new(PeerAddr => "127.0.0.1:$self->{tls_port}") })
	  or die 'RabbitMQ does not start';
	return;
}

sub kill_it
{
	my ($self) = @_;

	end_program($self->{pid});
	$self->launch;
	return;
}

# rabbitmqctl in the background; its process.
sub start_ctl
{
	my ($self, @arguments) = @_;

	return start_program("$tools/rabbitmq.sh", @$self{qw(dir epmd dist)}, 'ctl', @arguments);
}

# ---- its client ----

sub install_client
{
	my ($self) = @_;

	system('cp', glob("$tools/amqp/*.js*"), $self->{dir}) == 0 or die 'cp failed';
	my $npm = `cd '$self->{dir}' && npm install --no-package-lock --no-audit --no-fund --loglevel=error 2>&1`;
	die $npm if $?;
	$self->{client} = open2($self->{out}, $self->{in}, 'node', "$self->{dir}/client.js", $self->{port});
	return;
}

# Its lines; dies if the server says no.
sub ask
{
	my ($self, @command) = @_;
	my @lines;

	print { $self->{in} } $json->encode(\@command), "\n";
	$self->{in}->flush;
	while (defined(my $line = readline $self->{out}))
	{
		chomp $line;
		return @lines if $line eq '.';
		die "@command: $1\n" if $line =~ /^! (.*)/;
		push @lines, $line;
	}
	die 'the client has ended';
}

# A queue that gets what is published to the topic exchange NAME.
sub new_queue
{
	my ($self, $name, %arguments) = @_;

	$self->ask('exchange', $name, 'topic');
	$self->ask('declare', $name, \%arguments);
	$self->ask('bind', $name, $name, '#');
	return;
}

sub count
{
	my ($self, $queue) = @_;

	return ($self->ask('count', $queue))[0];
}

sub take
{
	my ($self, $queue) = @_;

	return map { $json->decode($_) } $self->ask('take', $queue);
}

sub DESTROY
{
	my ($self) = @_;

	local ($?, $@);
	return unless $self->{client};
	close $self->{in};
	waitpid $self->{client}, 0;
	return;
}

1;
