# EvsCloud.pm
#
# Doubles of clouds' services for tests of the http sink's profiles:
# cloud_double.pl in http_server.pl, with a clock that tests set.

package EvsCloud;

use strict;
use warnings;

use Cwd 'abs_path';
use Exporter 'import';
use FindBin;
use JSON::PP;
use PostgreSQL::Test::Utils;
use EvsHttp;

our @EXPORT = qw(cloud_double fake_time);

my $tools = abs_path("$FindBin::Bin/../tools");
my $clock;

# The environment of a process whose clock stands in a double's file.
sub fake_time
{
	my ($double) = @_;

	if (!$clock)
	{
		$clock = "$PostgreSQL::Test::Utils::tmp_check/fake_time.so";
		run_log([ $ENV{CC} // 'cc', '-shared', '-fPIC', '-o', $clock, "$tools/fake_time.c" ]) or die;
	}
	return (LD_PRELOAD => $clock, EVS_FAKE_TIME => "$double->{dir}/now");
}

# A running server.
#   known    what is in keys.json
#   env      more of the environment
#   other options are those of http_server()
sub cloud_double
{
	my (%opt) = @_;
	my $self = bless { dir => PostgreSQL::Test::Utils::tempdir(), read => 0, known => {},
		env => delete $opt{env} // {}, options => \%opt }, __PACKAGE__;

	$self->know(%{ delete $opt{known} // {} });
	$self->start;
	return $self;
}

sub start
{
	my ($self) = @_;

	local %ENV = (%ENV, %{ $self->{env} }, EVS_CLOUD_DIR => $self->{dir});
	$self->{http} = http_server(%{ $self->{options} }, args => [ '--script', "$tools/cloud_double.pl" ]);
	# The same the next time
	$self->{options}{port} = $self->{http}{port};
	return;
}

sub kill
{
	my ($self) = @_;

	CORE::kill 'KILL', $self->{http}{pid};
	$self->{http}->stop;
	return;
}

sub put
{
	my ($self, $name, $text) = @_;

	# Nobody may read half of it.
	append_to_file("$self->{dir}/$name.new", $text);
	rename "$self->{dir}/$name.new", "$self->{dir}/$name" or die $!;
	return;
}

# What is known from now on, besides what was.
sub know
{
	my ($self, %known) = @_;

	$self->{known} = { %{ $self->{known} }, %known };
	return $self->put('keys.json', encode_json($self->{known}));
}

# "+N" or "=N": see fake_time.c
sub set_time
{
	my ($self, $time) = @_;

	return $self->put('now', $time);
}

# What it has taken since the last call.
sub accepted
{
	my ($self) = @_;
	my @messages;

	open my $fh, '<:raw', "$self->{dir}/accepted" or return;
	seek $fh, $self->{read}, 0;
	while (my $line = readline $fh)
	{
		last unless $line =~ /\n\z/;
		$self->{read} += length $line;
		push @messages, decode_json($line);
	}
	close $fh;
	return @messages;
}

sub naccepted
{
	my ($self) = @_;

	open my $fh, '<:raw', "$self->{dir}/accepted" or return 0;
	my $n = () = readline $fh;
	close $fh;
	return $n;
}

sub requests { return $_[0]{http}->requests }
sub control { my $self = shift; return $self->{http}->control(@_) }
sub url { my $self = shift; return $self->{http}->url(@_) }

1;
