# EvsTest.pm
#
# What the TAP tests share: nodes with evstore in them, and sessions.
#
# A session speaks the frontend protocol itself, because the tests need what
# psql in a pipe does not give: several statements on their way at the same
# time, the SQLSTATE, detail and hint of an error, and the exact moment at
# which the server has acknowledged a commit.

package EvsTest;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(new_node new_store session poll crash_on_purpose children frozen_children
  is_running title hash_of_events is_error);

# A new cluster, running unless told otherwise.
#   conf     text for postgresql.conf
#   init     arguments for init()
#   started  0: leave it to the caller
sub new_node
{
	my ($name, %opt) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name, %{ $opt{new} // {} });

	$node->init(extra => [ '--no-locale', '-E', 'UTF8' ], %{ $opt{init} // {} });
	$node->append_conf('postgresql.conf',
		"log_statement = none\nautovacuum = off\n" . ($opt{conf} // ''));
	$node->start if $opt{started} // 1;
	return $node;
}

# A new database with evstore in it.
sub new_store
{
	my ($node, $dbname, $partition_size) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $dbname");
	$node->safe_psql('postgres',
		"ALTER DATABASE $dbname SET evstore.partition_size = $partition_size")
	  if defined $partition_size;
	$node->safe_psql($dbname, 'CREATE EXTENSION evstore');
	return $dbname;
}

sub session
{
	return EvsTest::Session->connect(@_);
}

# Until the condition is true; false when it has not become so in time.
sub poll
{
	my ($condition, $seconds) = @_;
	my $end = time + ($seconds // 180);

	while (1)
	{
		my $result = $condition->();
		return $result if $result;
		return 0 if time > $end;
		select(undef, undef, undef, 0.005);    # poll
	}
}

# Tell the runner, which searches logs, that this node is to be killed.
sub crash_on_purpose
{
	my ($node) = @_;

	PostgreSQL::Test::Utils::append_to_file(
		$node->logfile . '.crash_on_purpose', "evstore-test: crash on purpose\n");
	return;
}

# Processes of a postmaster.
sub children
{
	my ($postmaster) = @_;

	open my $file, '<', "/proc/$postmaster/task/$postmaster/children" or return;
	my $line = <$file> // '';
	close $file;
	return split ' ', $line;
}

# Stop a process, so that it makes no more children, and name those that it has.  The
# kernel's list of children is complete only if none of them ends meanwhile, so
# each process is asked for its parent.
sub frozen_children
{
	my ($parent) = @_;

	kill 'STOP', $parent;
	poll(sub { !is_running($parent) || process_state($parent) =~ /^T/ }) or die 'it does not stop';
	return grep { process_state($_) =~ /^\S $parent / } map { m{(\d+)$} } glob '/proc/[0-9]*';
}

# State and parent; nothing of a process that is gone.
sub process_state
{
	my ($pid) = @_;

	open my $file, '<', "/proc/$pid/stat" or return '';
	my $line = <$file> // '';
	close $file;
	return $line =~ /\) (\S \d+ )/ ? $1 : '';
}

# Zombies do not count: who should have waited for them may be slow.
sub is_running
{
	my ($pid) = @_;

	return process_state($pid) =~ /^[^ZX]/;
}

sub title
{
	my ($pid) = @_;

	open my $file, '<', "/proc/$pid/cmdline" or return '';
	my $title = <$file> // '';
	close $file;
	$title =~ s/\0.*//s;
	return $title;
}

# One value that differs when any event of the store does.
sub hash_of_events
{
	my ($node, $dbname) = @_;

	return $node->safe_psql($dbname,
		q(SELECT count(*), md5(string_agg(e::text, E'\n' ORDER BY e.position))
		  FROM evstore.events_uncapped e));
}

# is_error($session, $sql, $code, $message, $name): the statement fails in that
# way.  $message is a pattern for message, detail and hint together.
sub is_error
{
	my ($session, $sql, $code, $message, $name) = @_;
	my $error = $session->try($sql);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return error_is($error, $code, $message, $name);
}

sub error_is
{
	my ($error, $code, $message, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	if (ref $error ne 'HASH')
	{
		fail($name);
		diag('no error, but ' . ($error // 'no result'));
		return 0;
	}
	my $text = join "\n", map { $error->{$_} // '' } qw(M D H);
	my $good = $error->{C} eq $code && $text =~ $message;
	ok($good, $name);
	diag("got $error->{C}: $text") unless $good;
	return $good;
}

# ------------------------------------------------------------------------------

package EvsTest::Session;

use strict;
use warnings;

use IO::Select;
use IO::Socket::UNIX;
use Time::HiRes ();

# connect($node, $dbname, %settings)
#
# Dies with the server's message, or with "no server".
sub connect
{
	my ($class, $node, $dbname, %settings) = @_;
	my $user = delete $settings{user} // $ENV{PGUSER} // getpwuid($<);
	my $path = $node->host . '/.s.PGSQL.' . $node->port;
	my $socket = IO::Socket::UNIX->new(Peer => $path) or die "no server\n";
	my $self = bless {
		socket => $socket, path => $path, buffer => '', dbname => $dbname,
		status => '?',
	}, $class;
	my $body = pack 'N', 196608;

	local $SIG{PIPE} = 'IGNORE';
	$settings{application_name} //= 'evstore test';
	$body .= "$_\0" for 'user', $user, 'database', $dbname, %settings;
	$self->write(pack('N', 5 + length $body) . "$body\0");
	my $error = $self->read_until_ready->{error};
	die "$error->{M}\n" if $error;
	return $self;
}

sub write
{
	my ($self, $bytes) = @_;

	while (length $bytes)
	{
		my $n = syswrite $self->{socket}, $bytes;
		die "lost\n" unless $n;
		substr $bytes, 0, $n, '';
	}
	return;
}

# One message: its type and body.  Dies when the server has gone.
sub read_message
{
	my ($self, $deadline) = @_;

	while (length $self->{buffer} < 5
		|| length $self->{buffer} < 1 + unpack 'x N', $self->{buffer})
	{
		my $left = $deadline - Time::HiRes::time();
		die "no answer in time\n"
		  if $left <= 0 || !IO::Select->new($self->{socket})->can_read($left);
		die "lost\n"
		  unless sysread $self->{socket}, $self->{buffer}, 65536,
		  length $self->{buffer};
	}
	my ($type, $length) = unpack 'a N', $self->{buffer};
	my $body = substr $self->{buffer}, 5, $length - 4;
	substr $self->{buffer}, 0, 1 + $length, '';
	return ($type, $body);
}

# Rows and the error of everything up to ReadyForQuery.  A statement is
# acknowledged when this returns.
sub read_until_ready
{
	my ($self, $seconds) = @_;
	my $deadline = Time::HiRes::time()
	  + ($seconds // 60);
	my %result = (rows => []);

	while (1)
	{
		my ($type, $body) = $self->read_message($deadline);

		if ($type eq 'Z')
		{
			$self->{status} = $body;
			return \%result;
		}
		elsif ($type eq 'K') { @$self{qw(pid key)} = unpack 'N N', $body; }
		elsif ($type eq 'D') { push @{ $result{rows} }, [ fields($body) ]; }
		elsif ($type eq 'E')
		{
			$result{error} = { map { /^(.)(.*)/s } split /\0/, $body };
			return \%result if $result{error}{S} eq 'FATAL' && !$self->{pid};
		}
		elsif ($type eq 'N')
		{
			push @{ $result{notices} }, { map { /^(.)(.*)/s } split /\0/, $body };
		}
	}
}

sub fields
{
	my ($body) = @_;
	my $n = unpack 'n', $body;
	my $at = 2;
	my @fields;

	for (1 .. $n)
	{
		my $length = unpack 'N', substr $body, $at, 4;
		$at += 4;
		if ($length == 0xffffffff) { push @fields, undef; next; }
		push @fields, substr $body, $at, $length;
		$at += $length;
	}
	return @fields;
}

# Send without waiting; result() waits.
sub send
{
	my ($self, $sql) = @_;

	local $SIG{PIPE} = 'IGNORE';
	$self->write('Q' . pack('N', 5 + length $sql) . "$sql\0");
	return $self;
}

# {rows => [[...], ...], error => {C => SQLSTATE, M => message, D =>, H =>}}
sub result
{
	my ($self, $seconds) = @_;

	return $self->read_until_ready($seconds);
}

# Rows, as a reference to a list of references to lists.
sub rows
{
	my ($self, $sql) = @_;
	my $result = $self->send($sql)->result;

	die "$result->{error}{C}: $result->{error}{M}\n" if $result->{error};
	return $result->{rows};
}

# Rows as psql -At prints them; dies on an error.
sub query
{
	my ($self, $sql) = @_;

	return text($self->rows($sql));
}

sub text
{
	my ($rows) = @_;

	return join "\n", map { join '|', map { $_ // '' } @$_ } @$rows;
}

# The error of a statement, as a reference to a hash, or its rows as text.
sub try
{
	my ($self, $sql) = @_;

	return $self->send($sql)->outcome;
}

sub outcome
{
	my ($self, $seconds) = @_;
	my $result = $self->result($seconds);

	return $result->{error} // text($result->{rows});
}

# Does the statement on its way wait for a lock, or for a worker?
sub waits
{
	my ($self, $observer, $type) = @_;

	$type //= 'Lock';
	return EvsTest::poll(
		sub {
			$observer->query(
				"SELECT wait_event_type FROM pg_stat_activity WHERE pid = $self->{pid}")
			  eq $type;
		});
}

sub cancel
{
	my ($self) = @_;
	my $socket = IO::Socket::UNIX->new(Peer => $self->{path}) or die "no server\n";

	syswrite $socket, pack 'N4', 16, 80877102, $self->{pid}, $self->{key};
	sysread $socket, my $end, 1;
	return;
}

sub close
{
	my ($self) = @_;

	local $SIG{PIPE} = 'IGNORE';
	syswrite $self->{socket}, 'X' . pack 'N', 4 if $self->{socket};
	CORE::close $self->{socket} if $self->{socket};
	delete $self->{socket};
	return;
}

1;
