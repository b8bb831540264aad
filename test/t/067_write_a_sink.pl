# docs/how-to/write-a-sink.md: the module on the page compiles with the command on
# the page, and keeps the contract.

use strict;
use warnings;

use Cwd 'abs_path';
use File::Temp ();
use FindBin;
use lib $FindBin::Bin;
use EvsSink;
use EvsTest ();
use IO::Socket::UNIX;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $page = slurp_file(abs_path("$FindBin::Bin/../../docs/how-to/write-a-sink.md"));
# Not in the test's directory: the path of a socket may have 107 bytes only.
my $directory = File::Temp::tempdir('evs.XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $module = "$directory/evstore_sink_line.so";
my @in = ('--directory', $directory);

my ($source) = $page =~ /^```c\n(.*?)^```$/ms;
my ($command) = $page =~ /^(gcc .*)$/m;
PostgreSQL::Test::Utils::append_to_file("$directory/evstore_sink_line.c", $source);
my ($out, $err) = run_command([ 'sh', '-c', "cd $directory && $command -Werror" ]);
ok(-x $module, 'the module compiles') or diag($err);

# A receiver, in a process of its own: appends lines to a file, and answers them.  Lines
# with "n":NUMBER of this number are refused.  After so many it stops.
sub start_receiver
{
	my (%opt) = @_;

	unlink "$directory/receiver";
	my $listener = IO::Socket::UNIX->new(Local => "$directory/receiver", Listen => 5) or die $!;
	my $pid = fork // die $!;
	return $pid if $pid;
	my $n = 0;
	while (my $client = $listener->accept)
	{
		while (defined(my $line = <$client>))
		{
			my $refused = defined $opt{refuse} && $line =~ /"n":$opt{refuse}\b/;

			PostgreSQL::Test::Utils::append_to_file("$directory/$opt{file}", $line)
			  unless $refused;
			syswrite $client, $refused ? "not this one\n" : "ok\n";
			POSIX::_exit(0) if defined $opt{lines} && ++$n == $opt{lines};
		}
	}
	POSIX::_exit(0);
}

sub stop
{
	my ($pid) = @_;

	kill 'KILL', $pid;
	waitpid $pid, 0;
	return;
}

# What has arrived, once each, in the order of the first arrival.
sub arrived
{
	my ($file) = @_;
	my %seen;

	return grep { !$seen{$_}++ }
	  map { /"n":(\d+)/ ? $1 : '' } split /\n/, slurp_file("$directory/$file");
}

my $receiver = start_receiver(file => 'all');
harness_ok('all messages', '--messages', 500, '--bad', 'sokcet=x', '--bad', 'socket=a/b',
	'--bad', 'socket:=1', @in, $module, 'socket=receiver');
is_deeply([ arrived('all') ], [ 0 .. 499 ], 'arrive in order');
harness_ok('one result at a time', '--max', 1, '--in-flight', 3, '--messages', 200, @in, $module,
	'socket=receiver');
harness_ok('messages of all kinds', '--edge', '--messages', 50, @in, $module, 'socket=receiver');
harness_ok('more than fits', '--messages', 3000, '--in-flight', 3000, '--batch', 3000, @in,
	$module, 'socket=receiver');
harness_ok('destroyed with messages in flight', '--destroy-at', 300, @in, $module,
	'socket=receiver');
stop($receiver);

$receiver = start_receiver(file => 'refused', refuse => 7);
my $run = harness_ok('a message that is refused', '--messages', 20, @in, $module,
	'socket=receiver');
is($run->{count}{permanent}, 1, 'is permanent');
stop($receiver);

$run = harness_left('no receiver', '--give-up', 1, @in, $module, 'socket=receiver');
is(join(' ', keys %{ $run->{count} }), 'retry_sink', 'is an outage');

$receiver = start_receiver(file => 'outage', lines => 150);
$run = start_harness('--messages', 300, '--in-flight', 50, @in, $module, 'socket=receiver');
waitpid $receiver, 0;
$receiver = start_receiver(file => 'outage');
is(finish_harness($run)->{status}, 0, 'a receiver that dies and comes back')
  or diag($run->{out});
ok($run->{count}{retry_sink} > 0, 'is an outage meanwhile');
is_deeply([ arrived('outage') ], [ 0 .. 299 ], 'and everything arrives, in order');
stop($receiver);

done_testing();
