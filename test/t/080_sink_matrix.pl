# The table of sinks in docs/reference/sinks.md says what the modules say: which there
# are, what they can do, which formats they take, and what they were tested with.

use strict;
use warnings;

use Cwd 'abs_path';
use FindBin;
use lib $FindBin::Bin;
use EvsSink;
use File::Basename 'basename';
use PostgreSQL::Test::Utils;
use Test::More;

my $root = abs_path("$FindBin::Bin/../..");
my @capabilities = qw(PIPELINE BATCH DEDUPLICATES RESUMES THREADS NETWORK);
my @formats = qw(cloudevents cloudevents-batch cloudevents-binary raw);

# Settings that are valid, for each row; and the package whose version it was tested with.
my %example = (
	amqp => { settings => [ 'url=amqp://127.0.0.1', 'user=x', 'password@=k', 'exchange=x' ], package => 'rabbitmq-server' },
	file => { settings => ['path=x'] },
	http => { settings => ['url=http://127.0.0.1/'], package => 'libcurl4' },
	kafka => { settings => ['brokers=127.0.0.1:9092'], package => 'librdkafka1' },
	mqtt => { settings => ['url=mqtt://127.0.0.1'], package => 'mosquitto' },
	nats => { settings => ['url=nats://127.0.0.1'], package => 'nats-server' },
	# into an evstore; into a table
	postgres => {
		settings => [ 'host=127.0.0.1', 'dbname=x', 'user=x' ],
		others => [ 'target=table', 'table=x.x', 'columns.id=id' ]
	},
	'aws-eventbridge' => { settings => ['region=eu-central-1'] },
	'aws-kinesis' => { settings => [ 'region=eu-central-1', 'stream=x' ] },
	'aws-sns' => { settings => ['topic_arn=arn:aws:sns:eu-central-1:123456789012:x'] },
	'aws-sqs' => { settings => ['queue_url=https://sqs.eu-central-1.amazonaws.com/123456789012/x'] },
	'azure-eventgrid' => { settings => [ 'url=https://x.eventgrid.azure.net/api/events', 'auth.key@=k' ] },
	'azure-eventhubs' => { settings => [ 'url=https://x.servicebus.windows.net/x', 'auth.policy=p', 'auth.key@=k' ] },
	'azure-servicebus' => { settings => [ 'url=https://x.servicebus.windows.net/x', 'auth.policy=p', 'auth.key@=k' ] },
	'gcp-pubsub' => { settings => [ 'project=p1', 'topic=x', 'auth.credentials@=c' ] },
	redis => { settings => [ 'url=redis://127.0.0.1', 'stream=x' ], package => 'redis-server' });

# ---- the table ----

my ($table) = slurp_file("$root/docs/reference/sinks.md") =~ /^(\| Sink \| Capabilities .*?)^\n/ms;
my ($head, undef, @lines) = split /\n/, $table // '';
my @columns = cells($head);
my @rows;
for my $line (@lines)
{
	my %row;
	@row{@columns} = cells($line);
	($row{name}, $row{profile}) = $row{Sink} =~ /^\[`(\w+)`(?:, `([\w-]+)`)?\]/;
	push @rows, \%row;
}

# What stands between the bars.
sub cells
{
	my ($line) = @_;

	return map { s/^\s+|\s+$//gr } (split /\|/, $line =~ s/^\|//r);
}

# Words in code, in a cell.
sub words
{
	my ($cell) = @_;

	return join ' ', sort $cell =~ /`([\w-]+)`/g;
}

is_deeply(
	[ sort map { $_->{name} } grep { !$_->{profile} } @rows ],
	[ sort map { basename($_) =~ /^evstore_sink_(\w+)\.c$/ } glob "$root/src/sinks/evstore_sink_*.c" ],
	'each sink has a row');
is(scalar(grep { /^\s*$/ } map { values %$_ } map { my %r = %$_; delete $r{profile}; \%r } @rows),
	0, 'no cell is empty');

# ---- the modules ----

my $debian = -e '/etc/os-release' ? slurp_file('/etc/os-release') : '';
my ($release) = $debian =~ /^VERSION_ID="?(\d+)"?$/m;

sub version_of
{
	my ($package) = @_;
	my ($version) = run_command([ 'dpkg-query', '-W', '-f', '${Version}', $package ]);

	return $version =~ /^(?:\d+:)?(\d+\.\d+)/ ? $1 : undef;
}

sub takes
{
	my ($module, $format, @settings) = @_;

	return harness('--invalid', "--format=$format", $module, @settings)->{out} =~
	  /^violation=the settings are accepted$/m;
}

for my $row (@rows)
{
	my $name = $row->{name};
	my $module = sink_module($name);
	my $profile = $row->{profile};
	my $example = $example{ $profile // $name };
	my @settings = @{ $example->{settings} };
	my $title = $profile ? "$name, $profile" : $name;

  SKIP:
	{
		skip "the sink $name was not built", 1 unless -e $module;
		# a setting that is not there: only what the module says of itself
		my $run = harness('--invalid', $module, 'no such setting=x');
		my $caps = hex $run->{value}{caps};
		is(words($row->{Capabilities}),
			join(' ', sort map { $capabilities[$_] } grep { $caps & 1 << $_ } 0 .. $#capabilities),
			"$title: capabilities");
		is($run->{value}{name}, $name, "$title: name");
		push @settings, "profile=$profile", map { "auth.$_\@=k" } $profile =~ /^aws/ ? qw(access_key_id secret_access_key) : ()
		  if $profile;
		my @others = @{ $example->{others} // [] };
		my @taken =
		  grep { takes($module, $_, @settings) || @others && takes($module, $_, @settings, @others) } @formats;
		is(words($row->{Formats}), join(' ', sort @taken), "$title: formats");
		like($row->{Delivery}, $caps & (1 << 2 | 1 << 3) ? qr/once/ : qr/^at least once/, "$title: delivery");
		my $package = $example->{package};
		next if !$package || ($release // 0) != 12;
		my $version = version_of($package);
		skip "$package is not installed", 1 unless defined $version;
		like($row->{'Tested with'}, qr/(?<![\d.])\Q$version\E(?![\d])/, "$title: tested with $package $version");
	}
}

done_testing();
