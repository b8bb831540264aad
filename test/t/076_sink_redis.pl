# The sink "redis" against a real server: whatever is killed, stopped or refused, and
# whenever, each key's messages arrive in order, none is missing, and none is
# there twice.
#
# The relay's part is played by sink_harness.  What has arrived is read with
# redis-cli.  EVS_REDIS_SEED repeats a run of the last part.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsBroker;
use EvsTest 'poll';
use IPC::Run ();
use POSIX 'WNOHANG';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($program) = grep { -x } map { "$_/redis-server" } split(/:/, $ENV{PATH}), '/usr/bin';
plan skip_all => 'redis-server is not installed' unless $program;
my $module = sink_module('redis') or plan skip_all => 'the sink redis was not built';
my $dir = PostgreSQL::Test::Utils::tempdir();

# ---- servers ----

# What redis-cli says, as lines.
sub cli
{
	my ($server, @command) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ 'redis-cli', '-p', $server->{port}, @{ $server->{login} // [] }, @command ],
		'<', \undef, '>', \$out, '2>', \$err);
	return split /\n/, $out, -1;
}

sub ask
{
	return (cli(@_))[0] // '';
}

# Returns whether it runs; it ends if somebody has its port.
sub start_server
{
	my ($server) = @_;
	my $ended;

	$server->{pid} = start_program($program, '--port', $server->{port}, '--bind', '127.0.0.1', '--dir', $server->{dir},
		'--save', '', '--appendonly', 'yes', '--appendfsync', 'always', '--logfile', "$server->{dir}/log",
		@{ $server->{options} });
	poll(sub { ask($server, 'ping') eq 'PONG' || ($ended = waitpid $server->{pid}, WNOHANG) }) or die 'the server does not start';
	return !$ended;
}

# One on a port of its own, with its data in a directory of its own.  With "bus" it is
# a node of a cluster.
my $servers = 0;

sub new_server
{
	my (@options) = @_;

	for (1 .. 10)
	{
		my %server = (port => PostgreSQL::Test::Cluster::get_free_port(), dir => "$dir/" . ++$servers, options => [@options]);

		if (@options && $options[0] eq 'bus')
		{
			$server{bus} = PostgreSQL::Test::Cluster::get_free_port();
			$server{options} = [ '--cluster-enabled', 'yes', '--cluster-node-timeout', '30000', '--cluster-port', $server{bus} ];
		}
		mkdir $server{dir} or die "$server{dir}: $!";
		return \%server if start_server(\%server);
		end_program($server{pid}, 0);
	}
	die 'no port is free';
}

sub restart
{
	my ($server) = @_;

	end_program($server->{pid});
	start_server($server) or die 'the server does not start again';
	return;
}

my $redis = new_server();

sub url
{
	my ($server) = @_;

	return 'url=redis://localhost:' . ($server // $redis)->{port};
}

# ---- what has arrived ----

# Entries of a stream: hashes of their fields, with their id as {_id}, and {_position}.
sub entries
{
	my ($key, $server) = @_;
	my ($entry, $field, @entries);

	for my $line (cli($server // $redis, 'xrange', $key, '-', '+'))
	{
		if (!defined $field && $line =~ /^\d+-\d+$/)
		{
			push @entries, $entry = { _id => $line };
			next;
		}
		if (defined $field) { $entry->{$field} = $line; undef $field; }
		else { $field = $line; }
	}
	$_->{_position} = $_->{position} // ($_->{_id} =~ /^(\d+)/)[0] for @entries;
	return @entries;
}

sub count
{
	my ($key) = @_;
	my $n = ask($redis, 'xlen', $key);

	return $n =~ /^\d+$/ ? $n : 0;
}

# Each position once, and in order for each of the harness's ten keys.
sub is_whole
{
	my ($name, $last, @entries) = @_;
	my (%seen, %highest, @wrong);

	for my $entry (@entries)
	{
		my $position = $entry->{_position};
		my $key = $position % 10;

		push @wrong, "$position is there twice" if $seen{$position}++;
		push @wrong, "$position comes after $highest{$key}" if ($highest{$key} // 0) >= $position;
		$highest{$key} = $position;
	}
	push @wrong, map { "$_ is missing" } grep { !$seen{$_} } 1 .. $last;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(!@wrong && keys %seen == $last, $name);
	diag(join "\n", @wrong[ 0 .. ($#wrong < 9 ? $#wrong : 9) ]) if @wrong;
	return;
}

# Has the harness ended?  It is only seen when somebody reads what it says.
sub has_ended
{
	my ($run) = @_;

	IPC::Run::pump_nb($run->{process}) if $run->{process}->pumpable;
	return !$run->{process}->pumpable;
}

# What comes of messages that are not delivered: the harness runs until it has said so.
# Without a fixed key nobody has to be asked first where to go on.
sub results_in
{
	my ($pattern, $name, @arguments) = @_;
	my $run = start_harness('--give-up=180', '--retry-delay=50', @arguments);

	poll(sub { -e $run->{log} && slurp_file($run->{log}) =~ $pattern || has_ended($run) });
	$run->{process}->kill_kill;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like(-e $run->{log} ? slurp_file($run->{log}) : '', $pattern, $name);
	return;
}

# The same, and when $mend has been called everything arrives.
sub outage
{
	my ($pattern, $name, $mend, @arguments) = @_;
	my $run = start_harness('--give-up=180', '--retry-delay=50', @arguments);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(poll(sub { -e $run->{log} && slurp_file($run->{log}) =~ $pattern || has_ended($run) }), "$name: seen");
	like(-e $run->{log} ? slurp_file($run->{log}) : '', $pattern, "$name: in these words");
	$mend->();
	finish_harness($run);
	is($run->{status}, 0, "$name: it is over, and all is delivered") or diag($run->{out});
	return $run;
}

# ---- one after the other ----

my $run = harness('--messages=2000', $module, url(), 'stream=plain');
is($run->{status}, 0, 'all delivered, no violation') or diag($run->{out});
cmp_ok($run->{resume_after}, '>', 0, 'the stream tells the position');
is_whole('once and in order', 2000, entries('plain'));
$run = harness('--messages=2000', $module, url(), 'stream=plain');
is($run->{count}{duplicate}, 2000, 'the same again are duplicates') or diag($run->{out});
is(count('plain'), 2000, 'and not stored');

for my $options ([ '--edge', '--max=1' ], [ '--in-flight=1' ], [ '--batch=1000', '--keys=0' ], [ '--submit=7', '--replay=20', '--test' ])
{
	my $key = "odd@$options";
	$run = harness('--messages=300', @$options, $module, url(), "stream=$key");
	is($run->{status}, 0, "@$options: no violation") or diag($run->{out});
	is($run->{delivered}, "@$options" =~ /test/ ? 321 : 300, "@$options: all delivered");
	is(count($key), "@$options" =~ /test/ ? 301 : 300, "@$options: each is there once");
}

$run = harness('--messages=3000', '--keys=200', '--topic=many.{key}', $module, url());
is($run->{status}, 0, 'many streams: all delivered') or diag($run->{out});
is(count('many.key-17'), 15, 'each has its own');
is($run->{resume_after}, 0, 'and none tells the position of all');

# ---- what an entry looks like ----

harness('--messages=1', '--format=cloudevents-binary', $module, url(), 'stream=look');
harness('--messages=1', '--first=2', '--format=cloudevents', $module, url(), 'stream=look');
harness('--messages=1', '--first=3', '--format=raw', $module, url(), 'stream=look');
harness('--messages=2', '--step=3', '--first=5', $module, url(), 'stream=look');
harness('--messages=1', '--first=6', $module, url(), 'stream=look');
harness('--messages=1', '--first=20', '--test', $module, url(), 'stream=look');
my ($binary, $structured, $raw, undef, $eight, $late, $test, $last) = entries('look');
is($binary->{_id}, '1-0', 'the position is the id');
is($binary->{id}, '00000001-0000-7000-8000-000000000001', 'the event id is a field');
is($binary->{relay}, 'harness', 'and the relay');
is($binary->{ce_id}, $binary->{id}, 'binary: attributes are fields');
like($binary->{ce_datacontenttype}, qr{^application/}, 'binary: the content type is an attribute');
ok(exists $binary->{'header_x-header-0'}, 'headers are fields');
like($binary->{data}, qr/^\{/, 'binary: the data');
like($structured->{event}, qr/^\{"specversion":"1\.0"/, 'structured: the event');
ok(!exists $structured->{data} && !grep { /^ce_/ } keys %$structured, 'structured: and nothing of it besides');
is($raw->{'content-type'}, 'application/json', 'raw: the content type');
ok(!(grep { /^ce_/ } keys %$raw), 'raw: no attributes');
is("$late->{_id} $late->{position}", '8-1 6', 'one that comes late has a later id, and its position as a field');
is($test->{test}, 'true', 'a test message says so');
is("$test->{_id} $last->{_id}", '8-2 20-0', 'and is no obstacle');
is($eight->{settled}, 4, 'an entry tells what is settled before it');
harness('--messages=1', '--first=6', $module, url(), 'stream=look');
is(count('look'), 8, 'one that came late is recognised, too');

# ---- streams that others write to, and that are trimmed ----

cli($redis, 'xadd', 'foreign', '3-0', 'relay', 'harness', 'id', 'another');
cli($redis, 'xadd', 'foreign', '*', 'a', 'b');
$run = harness('--messages=100', $module, url(), 'stream=foreign');
is($run->{count}{ok}, 100, 'an id that another entry has is not taken for ours') or diag($run->{out});
is_whole('others have written larger ids: all there, once and in order', 100, grep { $_->{relay} && $_->{id} ne 'another' } entries('foreign'));
$run = harness('--messages=100', $module, url(), 'stream=foreign');
is($run->{count}{duplicate}, 100, 'and they are recognised');

$run = start_harness('--messages=4000', '--rate=8000', $module, url(), 'stream=between');
my $foreign = 0;
poll(sub {
	cli($redis, 'xadd', 'between', (entries_top('between') + 20) . '-7', 'a', 'b') if $foreign < 15 && count('between') > $foreign * 200;
	return ++$foreign > 40 && count('between') > 3900;
});
finish_harness($run);
is($run->{status}, 0, 'another writer in between') or diag($run->{out});
is_whole('another writer in between: all there, once and in order', 4000, grep { $_->{relay} } entries('between'));

sub entries_top
{
	my ($key) = @_;
	my ($id) = cli($redis, 'xrevrange', $key, '+', '-', 'COUNT', 1);

	return ($id // '') =~ /^(\d+)-/ ? $1 : 0;
}

harness('--messages=3000', $module, url(), 'stream=exact', 'max_length:=1000', 'trim=exact');
is(count('exact'), 1000, 'trimmed by length');
harness('--messages=3000', $module, url(), 'stream=approximate', 'max_length:=1000');
my $length = count('approximate');
ok($length >= 1000 && $length < 3000, 'trimmed by length, as it suits Redis');
harness('--messages=3000', '--in-flight=100', $module, url(), 'stream=positions', 'keep_positions:=500', 'trim=exact');
$length = count('positions');
ok($length >= 500 && $length < 1000, 'trimmed by position');
$run = harness('--resume', '--messages=3000', $module, url(), 'stream=exact', 'max_length:=1000', 'trim=exact');
is($run->{count}{ok} // 0, 0, 'what was trimmed away does not come again: the position is known') or diag($run->{out});

# What is not there, and was perhaps never there, is not taken for a duplicate.
$run = harness('--messages=10', '--first=100', $module, url(), 'stream=gap');
$run = harness('--messages=10', '--first=50', $module, url(), 'stream=gap');
is($run->{count}{ok}, 10, 'positions below the last one that are not there are added') or diag($run->{out});

results_in(qr/ retry_sink 0 1 NOSTREAM /, 'no stream, and it must not be made: an outage',
	'--messages=1', $module, url(), 'stream=none', 'create:=false');

# ---- refused ----

cli($redis, 'set', 'text', 'x');
results_in(qr/ fatal 0 1 WRONGTYPE /, 'not a stream: fatal', '--messages=1', $module, url(), 'stream=text');
results_in(qr/ permanent 0 1 WRONGTYPE /, 'not a stream, one of many: parked', '--messages=1', '--topic=text', $module, url());
results_in(qr/ permanent 0 1 the key is empty/, 'no topic: parked', '--messages=1', '--topic=', $module, url());
$run = harness('--messages=3', $module, url(), 'stream=text');
is($run->{status}, 2, 'no violation') or diag($run->{out});

cli($redis, 'config', 'set', 'maxmemory', '1');
outage(qr/ retry_sink 0 1 OOM /, 'no memory', sub { cli($redis, 'config', 'set', 'maxmemory', '0') },
	'--messages=500', $module, url(), 'stream=oom');
is_whole('no memory: all there, once and in order', 500, entries('oom'));
cli($redis, 'config', 'set', 'min-replicas-to-write', '1');
outage(qr/ retry_sink 0 1 NOREPLICAS /, 'too few replicas', sub { cli($redis, 'config', 'set', 'min-replicas-to-write', '0') },
	'--messages=500', $module, url(), 'stream=min');
cli($redis, 'config', 'set', 'busy-reply-threshold', '20');
my $loop = start_program('redis-cli', '-p', $redis->{port}, 'eval', 'while true do end', '0');
poll(sub { join('', cli($redis, 'ping')) =~ /^BUSY/ }) or die 'it is not busy';
outage(qr/ retry_sink 0 1 .*BUSY /, 'somebody else\'s script', sub { cli($redis, 'script', 'kill') },
	'--messages=500', '--topic=busy', $module, url());
end_program($loop);
cli($redis, 'script', 'flush');

# The server forgets our script in mid-stream.
$run = start_harness('--messages=3000', '--rate=8000', $module, url(), 'stream=flushed');
poll(sub { cli($redis, 'script', 'flush'); count('flushed') > 2000 });
finish_harness($run);
is($run->{status}, 0, 'the script is forgotten: all delivered') or diag($run->{out});
ok(!$run->{count}{retry_sink}, 'the script is forgotten: nobody notices');
is_whole('the script is forgotten: once and in order', 3000, entries('flushed'));

# ---- replicas and clusters ----

{
	my $replica = new_server();
	my @wait = ('--retry-delay=50', '--give-up=180', $module, url(), 'stream=wait', 'wait_replicas:=1', 'wait_timeout:=200');

	cli($replica, 'replicaof', '127.0.0.1', $redis->{port});
	poll(sub { grep { /^master_link_status:up/ } cli($replica, 'info', 'replication') }) or die 'no replica';
	results_in(qr/ retry_sink 0 1 .*READONLY /, 'a replica is an outage', '--messages=1', $module, url($replica), 'stream=replica');
	$run = harness('--messages=50', $module, "servers.0=127.0.0.1:$replica->{port}", "servers.1=127.0.0.1:$redis->{port}", 'stream=replica');
	is($run->{status}, 0, 'unless the other server is the master') or diag($run->{out});
	is($run->{delivered}, 50, 'and has all');
	$run = harness('--messages=500', @wait);
	is($run->{status}, 0, 'replicas are waited for') or diag($run->{out});
	kill 'STOP', $replica->{pid};
	outage(qr/ retry_sink 0 1 0 of 1 replicas have it/, 'a replica that is away', sub { kill 'CONT', $replica->{pid} },
		'--messages=700', @wait);
	is_whole('a replica that is away: once and in order', 700, entries('wait'));
	is(scalar entries('wait', $replica), 700, 'and the replica has all');
	end_program($replica->{pid});
}

{
	my ($first, $second) = (new_server('bus'), new_server('bus'));

	results_in(qr/ retry_sink 0 1 .*CLUSTERDOWN /, 'a cluster that is down', '--messages=1', '--topic=x', $module, url($first));
	cli($first, 'cluster', 'addslotsrange', 0, 16383);
	cli($second, 'cluster', 'meet', '127.0.0.1', $first->{port}, $first->{bus});
	poll(sub { grep { /^cluster_state:ok/ } cli($second, 'cluster', 'info') }) or die 'no cluster';
	results_in(qr/ retry_sink 0 1 the stream is on the node 127\.0\.0\.1:$first->{port} of the cluster/, 'another node has the stream',
		'--messages=1', '--topic=x', $module, url($second));
	$run = harness('--messages=50', $module, "servers.0=127.0.0.1:$second->{port}", "servers.1=127.0.0.1:$first->{port}", 'stream=x');
	is($run->{delivered}, 50, 'one of several servers is that node') or diag($run->{out});
	$run = harness('--messages=50', '--topic={key}', $module, url($first), 'stream={{tag}}:{topic}');
	is($run->{delivered}, 50, 'many streams with a hash tag') or diag($run->{out});
	is(ask($first, 'xlen', '{tag}:key-3'), 5, 'braces that are meant are in the key');
	end_program($_->{pid}) for $first, $second;
}

# ---- settings ----

for (
	[ 'url=redis://user@host', qr/"url"/ ],
	[ 'url=http://host', qr{redis://host:port or rediss://host:port} ],
	[ 'servers.0=h', qr/exclude/ ],
	[ 'stream={type}', qr/"stream"/ ],
	[ 'stream=a}b', qr/"stream"/ ],
	[ 'stream=', qr/"stream"/ ],
	[ 'password=text', qr/secret/ ],
	[ 'user=u', qr/"password"/ ],
	[ 'database:=-1', qr/"database"/ ],
	[ 'database=1', qr/"database"/ ],
	[ 'create=no', qr/"create"/ ],
	[ 'max_length:=5', qr/"max_length"/ ],
	[ 'keep_positions:=0', qr/"keep_positions"/ ],
	[ 'trim=exact', qr/needs "max_length"/ ],
	[ 'trim=maybe', qr/"trim"/ ],
	[ 'user@=s', qr/"user" must be a string/ ], [ 'stream@=s', qr/"stream" must be a string/ ], [ 'tls.ca_file@=s', qr/"tls.ca_file" must be a string/ ],
	[ 'wait_timeout:=100', qr/needs "wait_replicas"/ ],
	[ 'wait_replicas=1', qr/"wait_replicas"/ ],
	[ 'maxlen:=5', qr/"maxlen" is not known/ ],
	[ 'tls.key_file=x', qr/cert_file/ ],
	[ '--deny=127.0.0.1', qr/not allowed/ ],
	[ '--format=cloudevents-batch', qr/format/ ])
{
	my ($what, $pattern) = @$_;
	my @url = $what =~ /^url/ ? () : ("url=127.0.0.1:$redis->{port}");

	$run = harness('--invalid', $what =~ /^--/ ? ($what, $module, @url) : ($module, @url, $what));
	like($run->{out}, $pattern, "refused: $what");
}
for ([ 'max_length:=1000', 'keep_positions:=1000', qr/exclude/ ], [ 'wait_replicas:=1', 'wait_timeout:=10000', qr/"wait_timeout"/ ])
{
	my ($one, $other, $pattern) = @$_;
	like(harness('--invalid', $module, url(), $one, $other)->{out}, $pattern, "refused: $one with $other");
}
results_in(qr/retry_sink 0 1 .*not allowed/, 'the address of a name is checked, too',
	'--messages=1', '--topic=x', '--deny=127.0.0.1', '--deny=::1', $module, url());

# ---- what a server must not say ----

for (
	[ "*5\\r\\n:2\\r\\n\$3\\r\\n1-0\\r\\n\$0\\r\\n\\r\\n\$0\\r\\n\\r\\n\$0\\r\\n\\r\\n", 'more than were sent' ],
	[ "*5\\r\\n:0\\r\\n\$3\\r\\n1-0\\r\\n\$0\\r\\n\\r\\n\$0\\r\\n\\r\\n\$0\\r\\n\\r\\n", 'fewer, without an error' ],
	[ "*5\\r\\n:1\\r\\n\$3\\r\\n1-x\\r\\n\$0\\r\\n\\r\\n\$0\\r\\n\\r\\n\$0\\r\\n\\r\\n", 'an id that is none' ],
	[ "*5\\r\\n:1\\r\\n\$42\\r\\n" . '9' x 40 . "-0\\r\\n\$0\\r\\n\\r\\n\$0\\r\\n\\r\\n\$0\\r\\n\\r\\n", 'an id that is too large' ],
	[ "*5\\r\\n:1\\r\\n\$3\\r\\n1-0\\r\\n\$1\\r\\nx\\r\\n\$0\\r\\n\\r\\n\$0\\r\\n\\r\\n", 'a mark that is none' ],
	[ "*5\\r\\n:1\\r\\n\$-1\\r\\n\$-1\\r\\n\$-1\\r\\n\$-1\\r\\n", 'nulls' ],
	[ "*9999999\\r\\n", 'a large array' ],
	[ "*1\\r\\n*1\\r\\n*1\\r\\n:1\\r\\n", 'nested arrays' ],
	[ "\$999999999\\r\\n", 'a large string' ],
	[ "\$99999999999999999999\\r\\n", 'a length that is too large' ],
	[ "\$-5\\r\\n", 'a negative length' ],
	[ "\$1\\r\\nabc\\r\\n", 'a string of another length' ],
	[ ":12x\\r\\n", 'a number that is none' ],
	[ "\\0\\0\\0\\0\\r\\n", 'zero bytes' ],
	[ "HTTP/1.1 400 Bad Request\\r\\n\\r\\n", 'HTTP' ],
	[ '+' . 'x' x 70000, 'a line without an end' ])
{
	my ($answer, $name) = @$_;
	my $pid = open my $double, '-|', $^X, "$FindBin::Bin/../tools/redis_server.pl", "--answer=$answer" or die "fork: $!";
	my ($port) = <$double> =~ /^port=(\d+)$/ or die 'the double does not start';

	results_in(qr/retry_sink 0 1 (the server's answer|this is not a Redis server)/, "a server that says $name", '--messages=1', '--topic=x', $module, "url=127.0.0.1:$port");
	kill 'KILL', $pid;
	close $double;
}
for ([ "-DENIED this is \\0\\r\\n", qr/retry_sink 0 1 the server refuses: DENIED this is \?/ ], [ "+OK\\r\\n" x 50, qr/what nobody asked for/ ])
{
	my ($greeting, $pattern) = @$_;
	my $pid = open my $double, '-|', $^X, "$FindBin::Bin/../tools/redis_server.pl", "--greeting=$greeting" or die "fork: $!";
	my ($port) = <$double> =~ /^port=(\d+)$/ or die 'the double does not start';

	results_in($pattern, 'a greeting that nobody expects', '--messages=1', '--topic=x', $module, "url=127.0.0.1:$port");
	kill 'KILL', $pid;
	close $double;
}

# ---- credentials ----

{
	my $locked = new_server();
	my @as_all = ('--secret=pw=right password', '--give-up=180', '--retry-delay=50', '--messages=20');

	cli($locked, 'acl', 'setuser', 'all', 'on', '>right password', '~*', '+@all');
	cli($locked, 'acl', 'setuser', 'narrow', 'on', '>right password', '~allowed*', '+eval', '+evalsha', '+xadd', '+xrange', '+xrevrange', '+xinfo');
	cli($locked, 'acl', 'setuser', 'blind', 'on', '>right password', '~*', '+eval', '+evalsha', '-xadd');
	cli($locked, 'acl', 'setuser', 'hasty', 'on', '>right password', '~*', '+@all', '-wait');
	cli($locked, 'config', 'set', 'requirepass', 'right password');
	$locked->{login} = [ '--no-auth-warning', '-a', 'right password' ];
	is(harness(@as_all, $module, url($locked), 'stream=a', 'user=all', 'password@=pw')->{status}, 0, 'user and password');
	is(harness(@as_all, $module, url($locked), 'stream=b', 'password@=pw', 'database:=3')->{status}, 0, 'a password alone, and a database');
	is(ask($locked, '-n', 3, 'xlen', 'b'), 20, 'which has them');
	is(harness(@as_all, $module, url($locked), 'stream=allowed', 'user=narrow', 'password@=pw')->{status}, 0, 'the rights that are needed');
	results_in(qr/retry_sink 0 1 the server refuses: WRONGPASS /, 'a wrong password is an outage',
		'--messages=1', '--topic=a', '--secret=pw=wrong password', $module, url($locked), 'user=all', 'password@=pw');
	results_in(qr/retry_sink 0 1 the server refuses: NOAUTH /, 'no password is an outage', '--messages=1', '--topic=a', $module, url($locked));
	results_in(qr/retry_sink 0 1 secret "none" does not exist/, 'so is a secret that is not there',
		'--messages=1', '--topic=a', $module, url($locked), 'password@=none');
	results_in(qr/retry_sink 0 1 the server refuses: ERR /, 'and a database that is not there',
		@as_all, '--topic=a', $module, url($locked), 'password@=pw', 'database:=9999');
	outage(qr/retry_sink 0 1 (NOPERM|ERR The user executing the script) /, 'a right that is missing', sub { cli($locked, 'acl', 'setuser', 'blind', '+@all') },
		@as_all, $module, url($locked), 'stream=c', 'user=blind', 'password@=pw');
	results_in(qr/ retry_sink 0 1 the server does not wait for replicas: NOPERM /, 'WAIT is not allowed: no message is to blame',
		@as_all, '--messages=5', $module, url($locked), 'wait_replicas:=1', 'user=hasty', 'password@=pw');
	results_in(qr/ retry 0 1 NOPERM /, 'a key that is not allowed, one of many: tried again',
		@as_all, '--topic=other', $module, url($locked), 'user=narrow', 'password@=pw');
	$run = start_harness('--messages=2', '--secret=pw=old', '--rotate=0:pw=right password', '--give-up=180', '--topic=d', $module, url($locked), 'password@=pw');
	finish_harness($run);
	is($run->{status}, 0, 'a secret that changes') or diag($run->{out});
	end_program($locked->{pid});
}

# ---- TLS ----

SKIP:
{
	skip 'openssl is not installed', 4 unless grep { -x "$_/openssl" } split /:/, $ENV{PATH};
	system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName=DNS:localhost "
		. "-keyout $dir/key.pem -out $dir/cert.pem 2>$dir/openssl.log") == 0 or die 'no certificate';
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $tls = new_server('--tls-port', $port, '--tls-cert-file', "$dir/cert.pem", '--tls-key-file', "$dir/key.pem",
		'--tls-ca-cert-file', "$dir/cert.pem", '--tls-auth-clients', 'no');

	$run = harness('--messages=3000', '--edge', $module, "url=rediss://localhost:$port", "tls.ca_file=$dir/cert.pem", 'stream=tls');
	is($run->{status}, 0, 'TLS: all delivered') or diag($run->{out});
	for (
		[ 'redis://127.0.0.1', "tls.ca_file=$dir/cert.pem", qr/certificate is not accepted: .*mismatch/, 'it is for another name' ],
		[ 'rediss://localhost', 'create:=true', qr/certificate is not accepted/, 'it is of nobody we know' ],
		[ 'rediss://localhost', "tls.ca_file=$dir/none.pem", qr/retry_sink 0 1 tls.ca_file: /, 'a file that is not there' ])
	{
		my ($host, $setting, $pattern, $name) = @$_;
		results_in($pattern, "TLS: $name", '--messages=1', '--topic=x', $module, "url=$host:$port", $setting);
	}
	end_program($tls->{pid});
}

# ---- whatever is killed or stopped ----

my $seed = $ENV{EVS_REDIS_SEED} || int rand 1e9;
srand $seed;
note "EVS_REDIS_SEED=$seed";

# What can happen to the server.
my %disturbances = (
	kill => sub { restart($redis) },
	stop => sub {
		my ($run) = @_;

		kill 'STOP', $redis->{pid};
		my $before = () = slurp_file($run->{log}) =~ /retry_sink/g;
		poll(sub { my $n = () = slurp_file($run->{log}) =~ /retry_sink/g; return $n > $before || has_ended($run) });
		kill 'CONT', $redis->{pid};
	},
	cut => sub { cli($redis, 'client', 'kill', 'type', 'normal', 'skipme', 'yes') },
	full => sub {
		my ($run) = @_;

		cli($redis, 'config', 'set', 'maxmemory', '1');
		my $before = () = slurp_file($run->{log}) =~ /OOM/g;
		poll(sub { my $n = () = slurp_file($run->{log}) =~ /OOM/g; return $n > $before || has_ended($run) });
		cli($redis, 'config', 'set', 'maxmemory', '0');
	});

# So often, when a random share of the messages is there; $total tells how many there are.
sub disturb
{
	my ($run, $n, $total) = @_;
	my @shares = sort { $a <=> $b } map { 0.1 + rand 0.7 } 1 .. 4;

	for my $share (@shares)
	{
		my $what = (sort keys %disturbances)[ int rand keys %disturbances ];

		poll(sub { $total->() >= $n * $share }) or die 'nothing arrives';
		note sprintf '%s at %.2f', $what, $share;
		$disturbances{$what}->($run);
	}
	return;
}

my $n = 8000;
my @often = ('--rate=10000', '--timeout=400', '--give-up=180');

for my $options ([], ['--max=1', '--retry-delay=0'])
{
	my $key = "one@$options";
	$run = start_harness("--messages=$n", @often, @$options, $module, url(), "stream=$key");
	disturb($run, $n, sub { count($key) });
	finish_harness($run);
	is($run->{status}, 0, "one stream @$options: all delivered") or diag($run->{out});
	is_whole("one stream @$options: once and in order", $n, entries($key));
}

# A stream for each key.
{
	my $total = sub { my $sum = 0; $sum += count("each.key-$_") for 0 .. 9; return $sum };
	$run = start_harness("--messages=$n", @often, '--topic=each.{key}', $module, url());
	disturb($run, $n, $total);
	finish_harness($run);
	is($run->{status}, 0, 'a stream for each key: all delivered') or diag($run->{out});
	is_whole('a stream for each key: once and in order', $n, map { entries("each.key-$_") } 0 .. 9);
}

# Two relays into one stream: most of what they send is below the last id.
{
	my @runs = map { start_harness('--messages=' . $n / 2, "--first=$_", '--step=2', '--keys=5', @often, '--rate=4000',
		"--log=$dir/two-$_", '--topic=two', $module, url()) } 1, 2;
	$_->{log} = "$dir/two-" . (1 + ($_ == $runs[1])) for @runs;
	disturb($runs[0], $n, sub { count('two') });
	finish_harness($_) for @runs;
	is("$runs[0]{status} $runs[1]{status}", '0 0', 'two relays into one stream: all delivered') or diag($runs[0]{out} . $runs[1]{out});
	is_whole('two relays into one stream: once and in order', $n, entries('two'));
}

# The relay is killed, and begins anew.
for my $key ('relay', 'relay-slow')
{
	my @options = ("--messages=$n", '--rate=20000', $key =~ /slow/ ? '--submit=3' : (), $module, url(), "stream=$key");
	my $at = 1000 + int rand 4000;

	is(harness("--kill-at=$at", @options)->{status}, -9, "$key: killed at $at");
	$run = harness('--resume', '--destroy-at=3000', @options);
	is($run->{status}, 0, "$key: resumed, and ended in the middle") or diag($run->{out});
	$run = harness('--resume', @options);
	is($run->{status}, 0, "$key: resumed to the end") or diag($run->{out});
	cmp_ok($run->{submitted}, '<', $n, "$key: not from the beginning");
	is_whole("$key: once and in order", $n, entries($key));
}

# ---- from a store ----

is(send_from_store(500, 'redis', { url => "redis://localhost:$redis->{port}", stream => 'store' }, { in_flight => 100 }), 500,
	'a relay of a store sends all');
is_whole('and it is there, once and in order', 500, entries('store'));

done_testing();
