# EvsBroker.pm
#
# What the tests of sink modules share: the harness, which plays a relay, and
# programs that run beside the test.

package EvsBroker;

use strict;
use warnings;

use Cwd 'abs_path';
use Exporter 'import';
use File::Basename 'dirname';
use IPC::Run;
use JSON::PP ();
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(sink_module harness start_harness wait_for_pause go_on finish_harness start_program adopt_program end_program
  send_from_store);

my $root = abs_path(dirname(__FILE__) . '/../..');
my %programs;

# The path of an installed module; nothing if it was not built, since the library
# that it needs is not there.
sub sink_module
{
	my ($name) = @_;

	chomp(my $lib = `pg_config --pkglibdir`);
	my $path = "$lib/evstore_sink_$name.so";
	return -e $path ? $path : undef;
}

# Made once for each test, since tests run at the same time.
my $harness;

sub make_harness
{
	my $path = PostgreSQL::Test::Utils::tempdir() . '/sink_harness';
	my @sources = sort glob "$root/test/tools/harness_*.c $root/test/tools/sink_harness.c";

	system($ENV{CC} // 'cc', '-O1', '-g', '-std=gnu99', "-I$root/src/include", '-o', $path, @sources, '-ldl') == 0
	  or die 'the harness does not compile';
	return $path;
}

# Run it in the background; finish_harness() gives what it says.
sub start_harness
{
	my (@arguments) = @_;
	my %run = (out => '', in => '', arguments => "@arguments");

	$harness //= make_harness();
	$run{log} = PostgreSQL::Test::Utils::tempdir() . '/results';
	$run{process} = IPC::Run::start([ $harness, "--log=$run{log}", @arguments ],
		'<', \$run{in}, '>', \$run{out}, '2>&1');
	return \%run;
}

# With --pause-at: until it has sent so many; what was sent has its result.
sub wait_for_pause
{
	my ($run) = @_;

	IPC::Run::pump($run->{process}) until $run->{out} =~ /^paused=/m;
	return;
}

sub go_on
{
	my ($run) = @_;

	$run->{in} .= "go on\n";
	IPC::Run::pump_nb($run->{process}) while length $run->{in};
	return;
}

# Its exit status, or minus the signal; its lines name=value; the numbers of results
# of each class; the lines of its log.
sub finish_harness
{
	my ($run) = @_;

	IPC::Run::finish($run->{process});
	my $status = ($run->{process}->full_results)[0];
	$run->{status} = $status & 127 ? -($status & 127) : $status >> 8;
	while ($run->{out} =~ /^(\w+)=(.*)$/mg)
	{
		my ($name, $value) = ($1, $2);
		if ($name eq 'result' && $value =~ /^(\w+) count=(\d+)/) { $run->{count}{$1} = $2; }
		else { $run->{$name} = $value; }
	}
	$run->{results} = -e $run->{log} ? slurp_file($run->{log}) : '';
	return $run;
}

sub harness
{
	return finish_harness(start_harness(@_));
}

# A server that is our child, so that nobody else's is ever hit.
sub start_program
{
	my (@command) = @_;
	my $pid = fork // die "fork: $!";

	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', PostgreSQL::Test::Utils::tempdir() . '/program.log';
		open STDERR, '>&', \*STDOUT;
		exec @command or POSIX::_exit(1);
	}
	return adopt_program($pid);
}

# A child that is to end with the test.
sub adopt_program
{
	my ($pid) = @_;

	return $programs{$pid} = $pid;
}

sub end_program
{
	my ($pid, $signal) = @_;

	kill $signal // 'KILL', $pid;
	waitpid $pid, 0;
	delete $programs{$pid};
	return;
}

# What a relay of a real store sends: so many events {"n": 1} and on, of ten streams, whose
# positions are the same numbers.  Returns how many the sink says have arrived.
sub send_from_store
{
	my ($n, $sink, $config, $options, %secrets) = @_;
	require EvsTest;
	my $node = EvsTest::new_node("store_$sink");
	my $store = EvsTest::session($node, EvsTest::new_store($node, 'store'));
	my ($json, $sent) = (JSON::PP->new->canonical, 0);

	$store->query("SET evstore.egress_allow = 'localhost, 127.0.0.1, ::1'");
	$store->query("SELECT evstore.create_secret('$_', '$secrets{$_}')") for sort keys %secrets;
	$store->query("SELECT evstore.append('order-' || n % 10, 'Noted', jsonb_build_object('n', n)) FROM generate_series(1, $n) AS n");
	$store->query(sprintf "SELECT evstore.create_relay('there', '%s', '%s', options => '%s')", $sink, map { $json->encode($_) } $config, $options);
	EvsTest::poll(sub { $sent += $store->query("SELECT evstore.run_relay('there')"); return $sent >= $n });
	$store->close;
	$node->stop('immediate');
	return $sent;
}

END
{
	local $?;
	end_program($_) for values %programs;
}

1;
