#!/usr/bin/perl
# kafka_server.pl
#
# A broker of Kafka for tests: one node, and as much of the protocol as producers
# with transactions and simple consumers need.  librdkafka's mock cluster has no
# transactions to speak of: what is aborted is there all the same, and offsets of
# transactions are not kept.  Here a consumer that reads what is committed sees
# nothing else, and an answer can be lost after the request has had its effect.
#
#	kafka_server.pl [--data=FILE] [--port=N] [--partitions=N] [--user=U --password=P]
#	    [--certificate=FILE --key=FILE]
#
# What it has is in FILE, and there again after a restart.  Prints "port=N", and
# obeys the lines on standard input, each answered by "ok":
#
#	error API CODE N	the next N requests of this kind are refused with this code
#	lose API N			they take effect, but the connection is closed instead of an answer
#	cut API N			the connection is closed at once
#	heal				none of this any more
#	forget TOPIC		this topic is never created
use strict;
use warnings;

use Errno qw(EAGAIN EINTR EWOULDBLOCK);
use Getopt::Long;
use IO::Select;
use IO::Socket::INET;

my %opt = (port => 0, partitions => 4);
GetOptions(\%opt, 'data=s', 'port=i', 'partitions=i', 'user=s', 'password=s', 'certificate=s', 'key=s') or exit 2;

our $journal;
my (%topics, %transactions, %offsets, %forgotten, %faults);
my $next_producer = 1000;

use constant { PRODUCE => 0, FETCH => 1, LIST_OFFSETS => 2, METADATA => 3, OFFSET_FETCH => 9,
	FIND_COORDINATOR => 10, SASL_HANDSHAKE => 17, API_VERSIONS => 18, INIT_PRODUCER => 22,
	ADD_PARTITIONS => 24, ADD_OFFSETS => 25, END_TXN => 26, TXN_OFFSET_COMMIT => 28, SASL_AUTHENTICATE => 36 };

# Each with the versions that are known; none of them has the "flexible" encoding.
my %versions = (PRODUCE, [ 3, 3 ], FETCH, [ 4, 4 ], LIST_OFFSETS, [ 1, 1 ], METADATA, [ 1, 1 ],
	OFFSET_FETCH, [ 1, 1 ], FIND_COORDINATOR, [ 0, 1 ], SASL_HANDSHAKE, [ 0, 1 ], API_VERSIONS, [ 0, 0 ],
	INIT_PRODUCER, [ 0, 0 ], ADD_PARTITIONS, [ 0, 0 ], ADD_OFFSETS, [ 0, 0 ], END_TXN, [ 0, 0 ],
	TXN_OFFSET_COMMIT, [ 0, 0 ], SASL_AUTHENTICATE, [ 0, 0 ]);

# ---- encoding ----

# A request is read from the front of $in.
my $in;

sub take
{
	my ($format, $size) = @_;

	return unpack $format, substr $in, 0, $size, '';
}

sub take8 { return take('c', 1) }
sub take16 { return take('s>', 2) }
sub take32 { return take('l>', 4) }
sub take64 { return take('q>', 8) }

sub take_string
{
	my $length = take16();

	return $length < 0 ? undef : substr $in, 0, $length, '';
}

sub take_bytes
{
	my $length = take32();

	return $length < 0 ? '' : substr $in, 0, $length, '';
}

# Call it for each element; what it returns is joined.
sub take_array
{
	my ($element) = @_;
	my $n = take32();

	return (0, '') if $n < 0;
	return ($n, join '', map { $element->() } 1 .. $n);
}

sub string { return defined $_[0] ? pack 's>/a*', $_[0] : pack 's>', -1 }
sub bytes { return pack 'l>/a*', $_[0] }
sub array { my ($n, $text) = @_; return pack('l>', $n) . $text }

# An array of topics, each with an array of partitions: answered in the same form.
sub each_partition
{
	my ($partition) = @_;

	return array(take_array(sub {
		my $topic = take_string();
		return string($topic) . array(take_array(sub { return $partition->($topic) }));
	}));
}

# ---- logs ----

sub topic
{
	my ($name) = @_;

	return undef if $forgotten{$name};
	$topics{$name} //= [ map { +{ end => 0, batches => [], open => {}, aborted => [], producers => {} } } 1 .. $opt{partitions} ];
	return $topics{$name};
}

sub partition
{
	my ($topic, $n) = @_;
	my $found = topic($topic) or return undef;

	return $n >= 0 && $n < @$found ? $found->[$n] : undef;
}

my @crc_table = map {
	my $crc = $_;
	$crc = $crc & 1 ? 0x82F63B78 ^ ($crc >> 1) : $crc >> 1 for 1 .. 8;
	$crc;
} 0 .. 255;

sub crc32c
{
	my $crc = 0xFFFFFFFF;

	$crc = $crc_table[ ($crc ^ $_) & 0xFF ] ^ ($crc >> 8) for unpack 'C*', $_[0];
	return $crc ^ 0xFFFFFFFF;
}

sub varint { my ($n) = @_; return pack 'w', 0 if $n == 0; $n = $n << 1; my $out = ''; while ($n > 127) { $out .= chr($n & 127 | 128); $n >>= 7; } return $out . chr $n; }

# Says of a transaction's records whether they count.
sub control_batch
{
	my ($producer, $epoch, $commit) = @_;
	my $key = pack 's>s>', 0, $commit ? 1 : 0;
	my $value = pack 's>l>', 0, 0;
	my $record = "\0" . varint(0) . varint(0) . varint(length $key) . $key . varint(length $value) . $value . varint(0);
	my $rest = pack 's>l>q>q>q>s>l>l>', 0x30, 0, 0, 0, $producer, $epoch, -1, 1;

	$rest .= varint(length $record) . $record;
	return pack('q>l>l>cN', 0, 4 + 1 + 4 + length $rest, 0, 2, crc32c($rest)) . $rest;
}

sub header
{
	my ($batch) = @_;
	my %header;

	@header{qw(attributes last_delta producer epoch sequence count)} = unpack 's>l>x16q>s>l>l>', substr $batch, 21;
	return \%header;
}

sub append
{
	my ($partition, $batch) = @_;
	my $base = $partition->{end};

	substr $batch, 0, 8, pack 'q>', $base;
	$partition->{end} += header($batch)->{last_delta} + 1;
	push @{ $partition->{batches} }, [ $base, $partition->{end} - 1, $batch ];
	return $base;
}

sub last_stable
{
	my ($partition) = @_;
	my ($first) = sort { $a <=> $b } values %{ $partition->{open} };

	return $first // $partition->{end};
}

# An error, or 0 and the offset.
sub produce
{
	my ($topic, $n, $batch, $transaction) = @_;
	my $partition = partition($topic, $n) or return (3, -1);
	my $header = header($batch);
	my $state = $partition->{producers}{ $header->{producer} } //= { epoch => $header->{epoch}, next => 0, recent => [] };
	my $of = $transaction && $transactions{$transaction};

	return (47, -1) if $header->{epoch} < $state->{epoch} || ($of && $header->{epoch} != $of->{epoch});
	return (48, -1) if $of && !$of->{partitions}{"$topic $n"};
	@$state{qw(epoch next recent)} = ($header->{epoch}, 0, []) if $header->{epoch} > $state->{epoch};
	for (@{ $state->{recent} })
	{
		return (0, $_->[1]) if $_->[0] == $header->{sequence};
	}
	return (45, -1) if $header->{sequence} != $state->{next};
	write_down('produce', $topic, $n, $batch, $transaction // '');
	my $offset = append($partition, $batch);
	$state->{next} += $header->{count};
	push @{ $state->{recent} }, [ $header->{sequence}, $offset ];
	shift @{ $state->{recent} } if @{ $state->{recent} } > 5;
	$partition->{open}{ $header->{producer} } //= $offset if $header->{attributes} & 16;
	return (0, $offset);
}

# ---- transactions ----

sub end_transaction
{
	my ($id, $commit) = @_;
	my $of = $transactions{$id};

	write_down('end', $id, $commit);
	for (keys %{ $of->{partitions} })
	{
		my $partition = partition(split / /);
		my $first = delete $partition->{open}{ $of->{producer} };
		my $offset = append($partition, control_batch($of->{producer}, $of->{epoch}, $commit));
		push @{ $partition->{aborted} }, [ $of->{producer}, $first, $offset ] if defined $first && !$commit;
	}
	%offsets = (%offsets, %{ $of->{offsets} }) if $commit;
	@$of{qw(partitions offsets)} = ({}, {});
	return;
}

# Who had this id before is shut out.
sub init_producer
{
	my ($id) = @_;

	write_down('init', $id // '');
	return ($next_producer++, 0) unless length($id // '');
	my $of = $transactions{$id} //= { producer => $next_producer++, epoch => -1, partitions => {}, offsets => {} };
	end_now($id, 0) if %{ $of->{partitions} } || %{ $of->{offsets} };
	return ($of->{producer}, ++$of->{epoch});
}

# Of the init itself nothing more is written down.
sub end_now
{
	local $journal;
	return end_transaction(@_);
}

sub check_producer
{
	my ($id, $producer, $epoch) = @_;
	my $of = $transactions{$id};

	return 49 if !$of || $of->{producer} != $producer;
	return $of->{epoch} == $epoch ? 0 : 47;
}

sub add_partition
{
	my ($id, $topic, $n) = @_;

	partition($topic, $n) or return 3;
	write_down('add', $id, $topic, $n);
	$transactions{$id}{partitions}{"$topic $n"} = 1;
	return 0;
}

sub add_offset
{
	my ($id, $name, @stored) = @_;

	write_down('offset', $id, $name, @stored);
	$transactions{$id}{offsets}{$name} = \@stored;
	return;
}

# ---- what survives ----

sub write_down
{
	my $record = pack '(l>/a*)*', @_;

	syswrite $journal, pack 'l>/a*', $record or die "journal: $!" if $journal;
	return;
}

my %replay = (produce => \&produce, end => \&end_transaction, init => \&init_producer,
	add => \&add_partition, offset => \&add_offset);

sub read_journal
{
	open my $file, '<:raw', $opt{data} or return;
	my $text = do { local $/; readline $file } // '';
	# The last record may be half written.
	while (length $text >= 4 && length $text >= 4 + unpack 'l>', $text)
	{
		my $size = unpack 'l>', substr $text, 0, 4, '';
		my ($what, @arguments) = unpack '(l>/a*)*', substr $text, 0, $size, '';
		$replay{$what}->(@arguments);
	}
	truncate $opt{data}, (-s $opt{data}) - length $text;
	return;
}

# ---- requests ----

sub fetch_partition
{
	my ($topic, $isolation) = @_;
	my ($n, $offset, $max) = (take32(), take64(), take32());
	my $partition = partition($topic, $n);

	return pack('l>s>q>q>l>l>', $n, 3, -1, -1, 0, 0) unless $partition;
	my $stable = last_stable($partition);
	my $end = $isolation ? $stable : $partition->{end};
	return pack('l>s>q>q>l>l>', $n, 1, $partition->{end}, $stable, 0, 0) if $offset > $partition->{end};
	my $records = '';
	for (@{ $partition->{batches} })
	{
		my ($first, $last, $batch) = @$_;
		last if $first >= $end || (length $records && length($records) + length $batch > $max);
		$records .= $batch if $last >= $offset;
	}
	my @aborted = grep { $_->[2] >= $offset } @{ $partition->{aborted} };
	return pack('l>s>q>q>', $n, 0, $partition->{end}, $stable)
	  . array($isolation ? (scalar @aborted, join '', map { pack 'q>q>', @$_[ 0, 1 ] } @aborted) : (0, ''))
	  . bytes($records);
}

my %handlers = (
	PRODUCE, sub {
		my ($error) = @_;
		my $transaction = take_string();
		take('x6', 6);
		return each_partition(sub {
			my ($topic) = @_;
			my ($n, $batch) = (take32(), take_bytes());
			my ($code, $offset) = $error ? ($error, -1) : produce($topic, $n, $batch, $transaction);
			return pack 'l>s>q>q>', $n, $code, $offset, -1;
		}) . pack 'l>', 0;
	},
	FETCH, sub {
		take('x12', 12);
		take32();
		my $isolation = take8();
		return pack('l>', 0) . each_partition(sub { return fetch_partition($_[0], $isolation) });
	},
	LIST_OFFSETS, sub {
		take32();
		return each_partition(sub {
			my ($n, $time) = (take32(), take64());
			my $partition = partition($_[0], $n);
			return pack 'l>s>q>q>', $n, $partition ? 0 : 3, -1, !$partition ? -1 : $time == -2 ? 0 : $partition->{end};
		});
	},
	METADATA, sub {
		my @names;
		my $n = take32();
		@names = $n < 0 ? keys %topics : map { take_string() } 1 .. $n;
		my $list = join '', map {
			my $found = topic($_);
			pack('s>', $found ? 0 : 3) . string($_) . pack('c', 0)
			  . array($found ? (scalar @$found, join '', map { pack 's>l>l>l>l>l>l>', 0, $_, 1, 1, 1, 1, 1 } 0 .. $#$found) : (0, ''))
		} @names;
		return array(1, pack('l>', 1) . string('localhost') . pack('l>', $opt{port}) . string(undef))
		  . pack('l>', 1) . array(scalar @names, $list);
	},
	OFFSET_FETCH, sub {
		my $group = take_string();
		return each_partition(sub {
			my $n = take32();
			my $stored = $offsets{"$group $_[0] $n"};
			return pack('l>q>', $n, $stored ? $stored->[0] : -1) . string($stored ? $stored->[1] : '') . pack 's>', 0;
		});
	},
	FIND_COORDINATOR, sub {
		my ($error, $version) = @_;
		my $answer = pack('s>', $error) . ($version > 0 ? string(undef) : '') . pack('l>', 1) . string('localhost') . pack 'l>', $opt{port};
		return $version > 0 ? pack('l>', 0) . $answer : $answer;
	},
	INIT_PRODUCER, sub {
		my ($error) = @_;
		return pack 'l>s>q>s>', 0, $error, $error ? (-1, -1) : init_producer(take_string());
	},
	ADD_PARTITIONS, sub {
		my ($error) = @_;
		my ($id, $producer, $epoch) = (take_string(), take64(), take16());
		$error ||= check_producer($id, $producer, $epoch);
		return pack('l>', 0) . each_partition(sub {
			my $n = take32();
			return pack 'l>s>', $n, $error || add_partition($id, $_[0], $n);
		});
	},
	ADD_OFFSETS, sub {
		my ($error) = @_;
		my ($id, $producer, $epoch) = (take_string(), take64(), take16());
		return pack 'l>s>', 0, $error || check_producer($id, $producer, $epoch);
	},
	TXN_OFFSET_COMMIT, sub {
		my ($error) = @_;
		my ($id, $group, $producer, $epoch) = (take_string(), take_string(), take64(), take16());
		$error ||= check_producer($id, $producer, $epoch);
		return pack('l>', 0) . each_partition(sub {
			my ($n, $offset, $metadata) = (take32(), take64(), take_string());
			my $code = $error || (partition($_[0], $n) ? 0 : 3);
			add_offset($id, "$group $_[0] $n", $offset, $metadata // '') unless $code;
			return pack 'l>s>', $n, $code;
		});
	},
	END_TXN, sub {
		my ($error) = @_;
		my ($id, $producer, $epoch, $commit) = (take_string(), take64(), take16(), take8());
		$error ||= check_producer($id, $producer, $epoch);
		end_transaction($id, $commit) unless $error;
		return pack 'l>s>', 0, $error;
	},
	SASL_HANDSHAKE, sub {
		return pack('s>', take_string() eq 'PLAIN' ? 0 : 33) . array(1, string('PLAIN'));
	},
	SASL_AUTHENTICATE, sub {
		my (undef, $user, $password) = split /\0/, take_bytes();
		my $known = defined $opt{user} && $user eq $opt{user} && $password eq $opt{password};
		return pack('s>', $known ? 0 : 58) . string($known ? undef : 'wrong user or password') . bytes('');
	},
	API_VERSIONS, sub {
		my ($error, $version) = @_;
		return pack('s>', $version > 0 ? 35 : 0)
		  . array(scalar keys %versions, join '', map { pack 's>s>s>', $_, @{ $versions{$_} } } sort { $a <=> $b } keys %versions);
	});

# The answer; nothing if the connection is to be closed.
sub answer
{
	($in) = @_;
	my ($api, $version, $correlation) = (take16(), take16(), take32());
	my $handler = $handlers{$api} or return undef;

	take_string();
	my $fault = $faults{$api} && @{ $faults{$api} } ? shift @{ $faults{$api} } : '';
	return undef if $fault eq 'cut';
	my $body = $handler->($fault =~ /^-?\d+$/ ? $fault : 0, $version);
	return undef if $fault eq 'lose';
	return bytes(pack('l>', $correlation) . $body);
}

sub obey
{
	my ($line) = @_;

	if ($line =~ /^error (\d+) (-?\d+) (\d+)$/) { push @{ $faults{$1} }, ($2) x $3; }
	elsif ($line =~ /^(lose|cut) (\d+) (\d+)$/) { push @{ $faults{$2} }, ($1) x $3; }
	elsif ($line eq 'heal') { %faults = (); }
	elsif ($line =~ /^forget (\S+)$/) { $forgotten{$1} = 1; }
	else { die "unknown command: $line"; }
	print "ok\n";
	return;
}

# ---- connections ----

my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $opt{port}, Listen => 50,
	ReuseAddr => 1) or die "listen: $!";
my $select = IO::Select->new($listener, \*STDIN);
my (%buffers, $commands);

sub accept_connection
{
	my $socket = $listener->accept or return;

	if ($opt{certificate})
	{
		require IO::Socket::SSL;
		IO::Socket::SSL->start_SSL($socket, SSL_server => 1, SSL_cert_file => $opt{certificate},
			SSL_key_file => $opt{key}, Timeout => 5) or return;
	}
	$buffers{$socket} = '';
	$select->add($socket);
	return;
}

sub close_connection
{
	my ($socket) = @_;

	$select->remove($socket);
	delete $buffers{$socket};
	close $socket;
	return;
}

sub send_all
{
	my ($socket, $text) = @_;

	while (length $text)
	{
		my $n = syswrite $socket, $text;
		return unless defined $n || $! == EINTR;
		substr $text, 0, $n // 0, '';
	}
	return 1;
}

sub serve
{
	my ($socket) = @_;
	my $buffer = \$buffers{$socket};

	do
	{
		my $n = sysread $socket, $$buffer, 1 << 20, length $$buffer;
		return close_connection($socket) unless $n;
	} while ($opt{certificate} && $socket->pending);
	while (length $$buffer >= 4 && length $$buffer >= 4 + unpack 'l>', $$buffer)
	{
		my $size = unpack 'l>', substr $$buffer, 0, 4, '';
		my $answer = answer(substr $$buffer, 0, $size, '');
		return close_connection($socket) unless defined $answer && send_all($socket, $answer);
	}
	return;
}

$| = 1;
$SIG{PIPE} = 'IGNORE';
$opt{port} = $listener->sockport;
if (defined $opt{data})
{
	read_journal();
	open $journal, '>>:raw', $opt{data} or die "$opt{data}: $!";
}
print "port=$opt{port}\n";
while (1)
{
	for my $ready ($select->can_read)
	{
		if ($ready == $listener) { accept_connection(); }
		elsif ($ready == \*STDIN)
		{
			sysread STDIN, my $text, 4096 or exit;
			$commands .= $text;
			obey($1) while $commands =~ s/^(.*)\n//;
		}
		else { serve($ready); }
	}
}
