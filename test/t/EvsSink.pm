# EvsSink.pm
#
# What the tests of sink modules share: the conformance harness, which needs no
# server, and where modules are.

package EvsSink;

use strict;
use warnings;

use Cwd 'abs_path';
use EvsTest ();
use Exporter 'import';
use FindBin;
use IPC::Run ();
use Test::More;

our @EXPORT = qw(sink_module test_module harness start_harness wait_for_harness
  finish_harness harness_ok harness_left);

my $tools = abs_path("$FindBin::Bin/../tools");

# The file of an installed module.
sub sink_module
{
	my ($name) = @_;

	chomp(my $directory = `pg_config --pkglibdir`);
	return "$directory/evstore_sink_$name.so";
}

# The file of a module that is for tests only.
sub test_module
{
	my ($name) = @_;

	return "$tools/evstore_sink_$name.so";
}

# Start the harness with these arguments; {in} is its standard input, and what it has
# written so far is in {out}.
sub start_harness
{
	my @command = ("$tools/sink_harness", @_);
	my $run = { in => '', out => '', err => '' };

	$run->{process} = IPC::Run::start(\@command, \$run->{in}, \$run->{out}, \$run->{err});
	return $run;
}

# Until the condition is true, or the harness has ended; returns the condition.
sub wait_for_harness
{
	my ($run, $condition) = @_;

	EvsTest::poll(
		sub {
			my $runs = $run->{process}->pumpable;
			$run->{process}->pump_nb if $runs;
			return $condition->() || !$runs;
		});
	return $condition->();
}

# Wait for its end: {status} is the exit status, or "signal N"; {value} has what it
# printed as name=value, {count} how many results of each class there were.
sub finish_harness
{
	my ($run) = @_;

	$run->{process}->finish;
	my $status = $run->{process}->full_result(0);
	$run->{status} = $status & 127 ? 'signal ' . ($status & 127) : $status >> 8;
	$run->{count} = { $run->{out} =~ /^result=(\w+) count=(\d+)/mg };
	$run->{value} = { $run->{out} =~ /^(\w+)=(.*)$/mg };
	$run->{violations} = [ $run->{out} =~ /^violation=(.*)$/mg ];
	return $run;
}

sub harness
{
	return finish_harness(start_harness(@_));
}

sub is_status
{
	my ($status, $name, @arguments) = @_;
	my $run = harness(@arguments);

	local $Test::Builder::Level = $Test::Builder::Level + 2;
	is($run->{status}, $status, $name) or diag($run->{out} . $run->{err});
	return $run;
}

# Everything was delivered or parked, and the contract was kept.
sub harness_ok
{
	my ($name, @arguments) = @_;

	return is_status(0, $name, @arguments);
}

# The contract was kept, but something could not be delivered.
sub harness_left
{
	my ($name, @arguments) = @_;

	return is_status(2, $name, @arguments);
}

1;
