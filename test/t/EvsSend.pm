# EvsSend.pm
#
# A sink module in a process without a server, which sends exactly the messages
# that it is told to: sink_send.  EvsSink.pm is for the conformance harness, which
# makes its own.

package EvsSend;

use strict;
use warnings;

use Cwd 'abs_path';
use FindBin;
use IPC::Open2;

my $program = abs_path("$FindBin::Bin/../tools/sink_send");

sub escape
{
	my ($text) = @_;

	utf8::encode($text) if utf8::is_utf8($text);
	$text =~ s/([^\x21-\x24\x26-\x7e])/sprintf '%%%02X', ord $1/ge;
	return $text;
}

# A process with a module.  settings: a value is a string, \1 or \0 a boolean,
# [ NUMBER ], or { secret => NAME }.
#   host      of evs_sink_host
#   secrets   their values
#   env       environment variables
sub new
{
	my ($class, $module, $settings, %opt) = @_;
	my $self = bless {}, $class;

	local %ENV = (%ENV, %{ $opt{env} // {} });
	$self->{pid} = open2($self->{out}, $self->{in}, $program, $module);
	my %host = %{ $opt{host} // {} };
	$self->command('host', map { "$_=" . escape($host{$_}) } keys %host);
	$self->secret($_, $opt{secrets}{$_}) for keys %{ $opt{secrets} // {} };
	$self->settings($settings);
	return $self;
}

sub command
{
	my ($self, $name, @words) = @_;
	my @lines;

	print { $self->{in} } join(' ', $name, @words), "\n";
	$self->{in}->flush;
	while (defined(my $line = readline $self->{out}))
	{
		chomp $line;
		return ($line =~ s/^\Q$name\E ?//r, @lines) if $line =~ /^\Q$name\E\b/;
		push @lines, $line;
	}
	die "sink_send ended at $name";
}

sub settings
{
	my ($self, $settings) = @_;

	$self->command('unset');
	foreach my $name (sort keys %$settings)
	{
		my $value = $settings->{$name};
		my ($kind, $text) =
		    ref $value eq 'HASH' ? ('secret', $value->{secret})
		  : ref $value eq 'ARRAY' ? ('number', $value->[0])
		  : ref $value eq 'SCALAR' ? ('boolean', $$value ? 'true' : 'false')
		  :                          ('string', $value);
		# An empty word would be none.
		$self->command('set', escape($name), $kind, $text eq '' ? '%00' : escape($text));
	}
	return;
}

sub secret
{
	my ($self, $name, $value) = @_;

	$self->command('secret', $name, defined $value ? escape($value) : ());
	return;
}

# validate and open return the error, or nothing
sub validate
{
	my ($self) = @_;
	my ($answer) = $self->command('validate');

	return $answer =~ s/^-1 //r =~ s/^0 ?$//r;
}

sub open
{
	my ($self) = @_;
	my ($answer) = $self->command('open');

	return $answer =~ s/^-1 //r =~ s/^0 ?$//r;
}

# what set_rate() said; -1: nothing
sub rate
{
	my ($self) = @_;

	return ($self->command('rate'))[0];
}

sub add
{
	my ($self, %message) = @_;

	$self->command('message', map { escape($_) . '=' . escape($message{$_}) } sort keys %message);
	return;
}

sub submit
{
	my ($self) = @_;
	my ($accepted) = $self->command('submit');

	return $accepted;
}

# so many results, in the order of their messages
sub wait_for
{
	my ($self, $n) = @_;
	my (undef, @lines) = $self->command('wait', $n);
	my @results;

	foreach my $line (@lines)
	{
		my ($cookie, $class, $code, $retry_after, $detail) =
		  $line =~ /^result (\d+) (\w+) (\d+) (-?\d+) (.*)$/s or next;
		push @results, { cookie => $cookie, class => $class, code => $code,
			retry_after => $retry_after, detail => $detail };
	}
	return sort { $a->{cookie} <=> $b->{cookie} } @results;
}

# Several messages in one submit(); their results.
sub send_all
{
	my ($self, @messages) = @_;

	$self->add(%$_) for @messages;
	$self->submit;
	return $self->wait_for(scalar @messages);
}

# One message; its result
sub send
{
	my ($self, %message) = @_;

	return ($self->send_all(\%message))[0];
}

sub finish
{
	my ($self) = @_;

	return unless $self->{pid};
	close $self->{in};
	waitpid delete $self->{pid}, 0;
	return $?;
}

sub DESTROY
{
	my ($self) = @_;

	local ($?, $@);
	$self->finish;
	return;
}

1;
