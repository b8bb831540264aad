# Each message is delivered one to three times, shuffled, to several handlers at
# the same time, and the server is killed in the middle, again and again: the
# effects are there exactly once.
#
# Half of the messages are handled with inbox_begin(), the others with
# execute_once().  Two clocks differ by a period, so that handlers of the same
# message write to different tables of the inbox.  A handler rolls back now and
# then, after its work.  What it has not acknowledged when the server goes is
# delivered again.
#
# EVS_INBOX_SEED   repeats the choices of a run, though not its timing

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use List::Util qw(shuffle);
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

use constant {
	HANDLERS => 4,
	KILLS => 5,
};

my $messages = 600;
my $seed = $ENV{EVS_INBOX_SEED} || int rand 1e9;
srand $seed;
note "EVS_INBOX_SEED=$seed";

my $node = new_node('inbox',
	conf => "deadlock_timeout = 100ms\nmax_prepared_transactions = 5\n");
crash_on_purpose($node);
new_store($node, 'inbox');
$node->safe_psql('inbox', <<'END');
CREATE SEQUENCE results;
CREATE TABLE effects (message int NOT NULL);
CREATE FUNCTION work(args jsonb) RETURNS jsonb LANGUAGE sql AS $$
	INSERT INTO effects VALUES (args::int);
	SELECT to_jsonb(nextval('results'));
$$;
CREATE FUNCTION id(n int) RETURNS uuid LANGUAGE sql IMMUTABLE AS
$$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
-- The answer to a delivery: whether it was the first, or the result.
CREATE FUNCTION deliver(n int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF n % 2 = 0 THEN
		RETURN evstore.execute_once('work', n::text, 'work(jsonb)', to_jsonb(n));
	ELSIF evstore.inbox_begin('handler', id(n)) THEN
		PERFORM work(to_jsonb(n));
		RETURN 'first';
	END IF;
	RETURN 'known';
END $$;
END

# ---- handlers ----

sub process
{
	my ($session, $message) = @_;
	my @levels = ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE');
	my $level = $levels[ rand @levels ];

	while (1)
	{
		my $fail = rand() < 0.15;
		my $answer = $session->query("BEGIN ISOLATION LEVEL $level; SELECT deliver($message)");

		if ($fail) { $session->query('ROLLBACK'); next; }
		$session->query('COMMIT');
		return $answer;
	}
}

# In a process of its own: what it has committed comes back as lines of message
# and answer, and then why it has ended.
sub start_handler
{
	my ($n, @deliveries) = @_;
	my $file = "$PostgreSQL::Test::Utils::tmp_check/handler_$n.log";

	unlink $file;
	my $pid = fork // die "fork: $!";
	return { pid => $pid, file => $file, deliveries => \@deliveries } if $pid;

	open my $log, '>>', $file or die "$file: $!";
	srand $seed + $$;
	my $day = 1 + $n % 2;
	eval {
		my $session =
		  session($node, 'inbox', 'evstore.now_override' => "2020-01-0$day 12:00+00");
		for my $message (@deliveries)
		{
			syswrite $log, "$message|" . process($session, $message) . "\n";
		}
		1;
	};
	my $why = $@ || 'done';
	chomp $why;
	syswrite $log, "end|$why\n";
	POSIX::_exit(0);
}

# ---- killing ----

sub acknowledged
{
	my $n = 0;

	for my $handler (@_)
	{
		$n += () = slurp_file($handler->{file}) =~ /^\d/mg if -e $handler->{file};
	}
	return $n;
}

sub kill_everything
{
	my $postmaster = $node->{_pid};

	my @children = frozen_children($postmaster);
	kill 'KILL', $postmaster, @children;
	poll(sub { !grep { is_running($_) } $postmaster, @children }) or die 'it does not die';
	# they count as long as nobody has waited for the process
	unlink $node->data_dir . '/postmaster.pid',
	  $node->host . '/.s.PGSQL.' . $node->port . '.lock';
	$node->{_pid} = undef;
	$node->start;
	return;
}

# ---- deliver, kill, deliver again ----

my @queue = shuffle map { ($_) x (1 + int rand 3) } 1 .. $messages;
my $deliveries = @queue;
my (%answers, @strange);
my $killed = 0;

for my $round (0 .. KILLS)
{
	my @share;
	push @{ $share[ $_ % HANDLERS ] }, $queue[$_] for 0 .. $#queue;
	my @handlers = map { start_handler($_, @{ $share[$_] // [] }) } 0 .. HANDLERS - 1;

	if ($round < KILLS)
	{
		my $enough = int($deliveries / (KILLS + 2) * (0.5 + rand));
		poll(sub { acknowledged(@handlers) >= $enough });
		kill_everything();
	}
	@queue = ();
	for my $handler (@handlers)
	{
		waitpid $handler->{pid}, 0;
		my @lines = map { [ split /\|/, $_, 2 ] } split /\n/, slurp_file($handler->{file});
		my $why = (pop @lines)->[1];

		push @strange, $why if $why !~ /^(done|lost|no server|57P0\d.*)$/;
		$killed++ if $why eq 'lost';
		push @{ $answers{ $_->[0] } }, $_->[1] for @lines;
		my @todo = @{ $handler->{deliveries} };
		push @queue, @todo[ scalar @lines .. $#todo ];
	}
	@queue = shuffle @queue;
}

# ---- what is there ----

sub none
{
	my ($name, @wrong) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(!@wrong, $name) or diag(join "\n", @wrong[ 0 .. ($#wrong > 9 ? 9 : $#wrong) ]);
	return;
}

none('handlers ended only because the server did', @strange);
cmp_ok($killed, '>=', KILLS, 'handlers were at work when the server was killed');
is(scalar @queue, 0, 'everything has been delivered');
is($node->safe_psql('inbox', 'SELECT count(*), count(DISTINCT message) FROM effects'),
	"$messages|$messages", 'the effects of each message are there exactly once');
none('nobody was told twice that it is the first',
	grep { $_ % 2 && grep({ $_ eq 'first' } @{ $answers{$_} }) > 1 } sort keys %answers);
none('all got the same result',
	grep {
		my %seen = map { $_ => 1 } @{ $answers{$_} };
		$_ % 2 == 0 && keys %seen != 1
	} sort keys %answers);
my $tables = $node->safe_psql('inbox', q(SELECT count(*) FROM pg_class
	WHERE relnamespace = 'evstore'::regnamespace AND relname ~ '^inbox_\d$' AND pg_relation_size(oid) > 0));
is($tables, 2, 'in two tables');

# ---- a prepared transaction keeps its keys over a crash ----

$node->safe_psql('inbox',
	"BEGIN; SELECT evstore.inbox_begin('prepared', id(1)); PREPARE TRANSACTION 'inbox'");
kill_everything();
my $observer = session($node, 'inbox');
my $waiting = session($node, 'inbox');
$waiting->send("SELECT evstore.inbox_begin('prepared', id(1))");
ok($waiting->waits($observer), 'another session waits for it');
$observer->query("COMMIT PREPARED 'inbox'");
is($waiting->outcome, 'f', 'and knows when it has been committed');

# ---- dump and restore ----

my $dump = "$PostgreSQL::Test::Utils::tmp_check/inbox.dump";
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('inbox') ], 'dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ],
	'restore');
is( $node->safe_psql('restored',
		"SELECT count(*) FROM generate_series(1, $messages) n WHERE deliver(n) = 'first'"),
	0,
	'the copy knows what has been processed');
is( $node->safe_psql('restored', 'SELECT count(*), count(DISTINCT message) FROM effects'),
	"$messages|$messages", 'and does nothing again');

# ---- expiry ----

is( $node->safe_psql('inbox',
		"LOAD 'evstore'; SET evstore.now_override = '2020-01-09 18:00+00'; SELECT evstore.inbox_expire()"),
	2,
	'what is old is forgotten');
is($node->safe_psql('inbox', "SELECT deliver(1)"), 'first', 'and new then');

$node->stop;
done_testing();
