# Secrets of relays: nobody finds a value in a dump, in the files of the server or in
# its log; the key is in a file of its own, and without it a secret cannot be opened, but
# set again.

use strict;
use warnings;

use File::Copy 'copy';
use File::Find ();
use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $tmp = $PostgreSQL::Test::Utils::tmp_check;
# with a data directory that a group may read, which the key is not for
my $node = new_node('secret',
	init => { allows_streaming => 1, extra => [ '--no-locale', '-E', 'UTF8', '-g' ] },
	conf => "max_connections = 30\n");
my $key = $node->data_dir . '/evstore_secret.key';

new_store($node, 'store');
$node->backup('without_key');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'without_key', has_streaming => 1);
$standby->start;

my $session = session($node, 'store');

# Values come from files, so that no statement has them.
sub value_file
{
	my ($value) = @_;
	my $path = "$tmp/" . unpack 'H*', $value;

	PostgreSQL::Test::Utils::append_to_file($path, $value) unless -e $path;
	return "pg_read_file('$path')";
}

sub create { my ($name, $value) = @_; return 'SELECT evstore.create_secret(' . "'$name', " . value_file($value) . ')'; }
sub alter { my ($name, $value) = @_; return 'SELECT evstore.alter_secret(' . "'$name', " . value_file($value) . ')'; }
sub is_value { my ($name, $value) = @_; return 'SELECT evstore._secret_is(' . "'$name', " . value_file($value) . ')'; }

sub mode { my ($path) = @_; return sprintf '%04o', (stat $path)[2] & 07777; }

sub key_files
{
	my ($of) = @_;
	return map { s{.*/}{}r } sort glob +($of // $node)->data_dir . '/evstore_secret*';
}

# Files below a directory that have the text.
sub files_with
{
	my ($directory, $text) = @_;
	my @found;

	File::Find::find(
		sub { push @found, $File::Find::name if -f && index(slurp_file($_), $text) >= 0; }, $directory);
	return @found;
}

# ---- the key ----

is_deeply([ key_files() ], [], 'there is no key before there is a secret');
is_error($session, "SELECT evstore._secret_is('a', 'x')", 'VS009', qr/"a" does not exist/, 'nor a secret');

# of a process with the same id that has crashed
my $pid = $session->query('SELECT pg_backend_pid()');
PostgreSQL::Test::Utils::append_to_file("$key.$pid", 'half a k');
my $needle = 'needle-' . join '', map { chr 97 + int rand 26 } 1 .. 30;
my $old_needle = 'old' . $needle;
$session->query(create('a', $old_needle));
is_deeply([ key_files() ], ['evstore_secret.key'], 'the first secret makes the key, and nothing is left beside it');
is(mode($node->data_dir . '/PG_VERSION'), '0640', 'a group may read the other files');
is(mode($key), '0600', 'only who runs the server can read it');
is(-s $key, 32, 'it has 32 bytes');
my $first_key = slurp_file($key);
$session->query(create('b', 'value of b'));
is(slurp_file($key), $first_key, 'further secrets use it');
is($session->query(is_value('a', $old_needle)), 't', 'what was stored is what comes out');
is($session->query(is_value('a', $needle)), 'f', 'and nothing else');

# ---- a change is noticed ----

my $other = session($node, 'store');
is($other->query(is_value('a', $old_needle)), 't', 'another session has it');
my $version = $other->query('SELECT evstore._secret_version()');
is($other->query('SELECT evstore._secret_version()'), $version, 'without a change the version stays');
$session->query('BEGIN');
$session->query(alter('a', $needle));
is($other->query(is_value('a', $old_needle)), 't', 'a change that is not committed is not there');
is($other->query('SELECT evstore._secret_version()'), $version, 'nor is there another version');
$session->query('COMMIT');
isnt($other->query('SELECT evstore._secret_version()'), $version, 'when it is, there is');
is($other->query(is_value('a', $needle)), 't', 'and the new value');

# ---- nowhere in the clear ----

$session->query("CREATE TABLE haystack AS SELECT 'control-of-' || 'the-search' AS t");
$session->query('CHECKPOINT');
$node->command_ok([ 'pg_dump', '--no-sync', '-d', $node->connstr('store'), '-f', "$tmp/store.sql" ], 'pg_dump');
my $dump = slurp_file("$tmp/store.sql");
like($dump, qr/control-of-the-search/, 'a dump has what is in tables');
like($dump, qr/^a\t\\\\x01[0-9a-f]{150,}\t/m, '... the sealed secret, too');
for my $text ($needle, $old_needle, unpack('H*', $needle))
{
	is(index($dump, $text), -1, '... but not its value');
	is_deeply([ files_with($node->data_dir, $text) ], [], 'no file of the server has it');
}
is(index($dump, unpack 'H*', $first_key), -1, 'nor does the dump have the key');
cmp_ok(scalar files_with($node->data_dir, 'control-of-the-search'), '>=', 2, 'the search finds what is in a table and in WAL');
is_deeply([ files_with($node->data_dir, $first_key) ], [$key], 'the key is in its file only');

# Statements that a function runs can be logged, with their parameters.
$session->query("LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on");
$session->query(create('logged', "$needle, logged"));
is_error($session, create('logged', "$needle, logged"), 'VS008', qr/^secret "logged" already exists\n/, 'an error');
my $log = slurp_file($node->logfile);
like($log, qr/INSERT INTO evstore\.secret/, 'nested statements are in the log');
is(index($log, $needle), -1, 'the value is not');

# ---- copies ----

$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', "$tmp/store.sql" ], 'the dump restores');
is($node->safe_psql('restored', is_value('a', $needle)), 't', 'in the same cluster the copy can open it');

$node->backup('with_key');
my $copy = PostgreSQL::Test::Cluster->new('copy');
$copy->init_from_backup($node, 'with_key');
$copy->start;
is($copy->safe_psql('store', is_value('a', $needle)), 't', 'a base backup takes the key along');
is(mode($node->backup_dir . '/with_key/evstore_secret.key'), '0600', '... which is as private there');
$copy->stop;

# WAL does not: a standby from before the first secret has no key, and makes none.
# (a segment that the backup has just begun ends with nothing that could be waited for)
$session->query('CREATE TABLE after_the_backup ()');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
my $reader = session($standby, 'store');
is_error($reader, is_value('a', $needle), '55000', qr/"a" cannot be opened.*not in the data directory.*alter_secret/s,
	'a standby without the key says so');
is_error($reader, create('c', 'x'), '25006', qr/create_secret/, 'no secret can be made there');
is_deeply([ key_files($standby) ], [], 'and no key');
copy($key, $standby->data_dir . '/evstore_secret.key') or die "copy: $!";
is($reader->query(is_value('a', $needle)), 't', 'with a copy of the key it can open them');
$reader->close;
$standby->stop;

# ---- another key ----

rename $key, "$tmp/first.key" or die "rename: $!";
is_error($session, is_value('a', $needle), '55000',
	qr/^secret "a" cannot be opened\nFile "evstore_secret.key" is not in the data directory.\nSet it again with evstore.alter_secret\(\)/,
	'without the key a secret cannot be opened');
$session->query(alter('a', 'set again'));
is($session->query(is_value('a', 'set again')), 't', 'it can be set again, with a new key');
isnt(slurp_file($key), $first_key, '... that is another one');
is_error($session, is_value('b', 'value of b'), '55000', qr/"b" cannot be opened.*sealed with another key.*alter_secret/s,
	'what was sealed with the old one stays shut');
copy("$tmp/first.key", $key) or die "copy: $!";
is($session->query(is_value('b', 'value of b')), 't', 'until the old one is back');

for my $wrong (substr($first_key, 1), "${first_key}x", '')
{
	unlink $key;
	PostgreSQL::Test::Utils::append_to_file($key, $wrong);
	is_error($session, is_value('b', 'value of b'), 'XX001', qr/does not hold a key of 32 bytes/,
		'a file of ' . length($wrong) . ' bytes is no key');
	is_error($session, alter('b', 'other'), 'XX001', qr/does not hold a key of 32 bytes/, '... and is not replaced');
}

# ---- two at the same time ----

# Both have seen that there is no key, and have one of their own, when the first goes on.
unlink $key or die "unlink: $!";
my $gate = session($node, 'store');
my @first = map { session($node, 'store') } 0 .. 3;
$gate->query("SELECT pg_advisory_lock(hashtextextended('evstore.secret_key_link', 0))");
$first[$_]->send(create("first $_", "value $_")) for 0 .. $#first;
ok($_->waits($session, 'Lock'), 'a session has made a key') for @first;
cmp_ok(scalar(key_files()), '==', scalar @first, '... and has not linked it');
$gate->query("SELECT pg_advisory_unlock(hashtextextended('evstore.secret_key_link', 0))");
$_->result for @first;
is_deeply([ map { $session->try(is_value("first $_", "value $_")) } 0 .. $#first ],
	[ ('t') x @first ], 'who comes first makes the key for all');
is_deeply([ key_files() ], ['evstore_secret.key'], 'and nothing is left');

done_testing();
