# ingest() against the CloudEvents SDK for JavaScript, from npm: what it writes is taken in as
# the same event in each mode, and what relays send it reads as the same.  And what relays send
# arrives in another store as it was.
#
# EVS_INGEST_SEED and EVS_INGEST_COUNT choose the events.

use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use EvsHttp;
use EvsTest;
use JSON::PP;
use Encode;
use MIME::Base64;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{EVS_INGEST_SEED} || int rand 1e9;
my $count = $ENV{EVS_INGEST_COUNT} // 60;
my $tools = "$FindBin::Bin/../tools/cloudevents";
my $dir = PostgreSQL::Test::Utils::tempdir;
my $json = JSON::PP->new->allow_nonref->canonical->utf8;

note "EVS_INGEST_SEED=$seed";
srand $seed;

# ---- the SDK ----

system('cp', glob("$tools/*.js*"), $dir) == 0 or die 'cp failed';
my $npm = `cd '$dir' && npm install --no-package-lock --no-audit --no-fund --loglevel=error 2>&1`;
is($?, 0, 'the program to compare with is installed') or BAIL_OUT($npm);

# oracle(PROGRAM, LINE...): its answers, undecoded
sub oracle
{
	my ($program, @lines) = @_;
	open my $in, '>:raw', "$dir/in" or die $!;
	print $in "$_\n" for @lines;
	close $in;
	my @out = split /\n/, `cd '$dir' && node $program.js <in`;
	is($?, 0, "$program.js ends well");
	is(scalar @out, scalar @lines, 'and answers all');
	return @out;
}

# ---- events ----

sub any { return $_[ rand @_ ]; }

# Printable, and in a header as it is: the SDK does not encode values.
sub plain { return join '', map { any('a' .. 'z', 'A' .. 'Z', 0 .. 9, qw(- _ . / : + = & ; ! ~)) } 1 .. 1 + rand 12; }

# Anything that an attribute may have.
sub exotic { return join '', map { any('a' .. 'e', ' ', '"', '\\', '%', '%41', "\x{e4}", "\x{20ac}", "\x{1f600}", '{', ',') } 1 .. 1 + rand 12; }

sub data
{
	my ($depth) = @_;
	my $kind = int rand($depth > 2 ? 4 : 6);

	return $kind == 0 ? int rand 1e6 : $kind == 1 ? exotic() : $kind == 2 ? JSON::PP::true : $kind == 3 ? undef
	  : $kind == 4 ? [ map { data($depth + 1) } 1 .. rand 4 ] : { map { exotic() => data($depth + 1) } 1 .. rand 4 };
}

# The content is in headers in some modes, so these get what can be written there.
sub event
{
	my ($number, $text) = @_;
	my %event = (id => $text->() . $number, source => 'https://example.com/' . plain(), type => 'com.example.' . plain());

	$event{subject} = $text->() if rand > 0.5;
	$event{time} = sprintf '2024-0%d-1%dT0%d:30:00.%03dZ', 1 + rand 9, rand 10, rand 10, rand 1000 if rand > 0.2;
	$event{dataschema} = 'https://example.com/schema/' . plain() if rand > 0.7;
	$event{correlationid} = $text->() if rand > 0.6;
	$event{causationid} = any($text->(), sprintf('%08x-0000-4000-8000-%012x', rand 1e9, rand 1e9)) if rand > 0.6;
	$event{partitionkey} = $text->() if rand > 0.7;
	$event{sequence} = sprintf '%020d', rand 1e9 if rand > 0.7;
	$event{traceparent} = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' if rand > 0.7;
	$event{tenant} = $text->() if rand > 0.5;
	$event{count} = int rand 1000 if rand > 0.7;
	$event{flag} = any(JSON::PP::true, JSON::PP::false) if rand > 0.7;
	if (rand > 0.9)
	{
		return \%event;
	}
	elsif (rand > 0.8)
	{
		@event{qw(datacontenttype data_base64)} = ('application/octet-stream', encode_base64(join('', map { chr rand 256 } 1 .. 1 + rand 30), ''));
	}
	elsif (rand > 0.8)
	{
		@event{qw(datacontenttype data)} = (any('text/plain', 'text/xml', 'application/xml'), exotic());
	}
	else
	{
		$event{datacontenttype} = any('application/json', 'application/vnd.example+json') if rand > 0.5;
		$event{data} = { value => data(0) };
	}
	return \%event;
}

my @all = qw(http-structured http-batch kafka-structured mqtt-structured kafka-binary mqtt-binary);
my @given = map { { event => event($_, \&plain), modes => [ @all, 'http-binary' ] }, { event => event("x$_", \&exotic), modes => \@all } } 1 .. $count;
my @written = oracle('write', map { $json->encode($_) } @given);

# ---- what the SDK writes ----

my $node = new_node('ingest', conf => "evstore.egress_allow = '127.0.0.1'\n");
my $db = new_store($node, 'store');
my $session = session($node, $db);
$session->query(<<'END');
CREATE TABLE written (n integer GENERATED ALWAYS AS IDENTITY, line jsonb);
CREATE TABLE message AS SELECT w.n, w.line -> 'event' AS event, m AS message FROM written AS w, jsonb_array_elements(w.line -> 'messages') AS m;
CREATE TABLE taken (n integer, mode text, event jsonb, status text, got jsonb);

-- By the format's name, or by what the message looks like.
CREATE FUNCTION take(message jsonb, format text) RETURNS TABLE (status text, event_id uuid, index integer) LANGUAGE sql AS $$
	SELECT i.status, i.event_id, i.index FROM evstore.ingest(coalesce(message ->> 'body', ''), format, message -> 'headers') AS i
		WHERE message -> 'body_base64' IS NULL
	UNION ALL
	SELECT i.status, i.event_id, i.index FROM evstore.ingest_bytes(decode(message ->> 'body_base64', 'base64'), format, message -> 'headers') AS i
		WHERE message -> 'body_base64' IS NOT NULL
$$;

-- Each message as if it were the only one.
CREATE PROCEDURE take_all() LANGUAGE plpgsql AS $$
DECLARE
	m record;
	t record;
	event evstore.event;
	rows jsonb[];
BEGIN
	FOR m IN SELECT * FROM message ORDER BY n LOOP
		rows := '{}';
		BEGIN
			FOR t IN SELECT * FROM take(m.message, CASE m.message ->> 'mode' WHEN 'http-batch' THEN 'cloudevents-batch'
					ELSE CASE WHEN m.message ->> 'mode' LIKE '%-binary' THEN 'cloudevents-binary' ELSE 'cloudevents' END END) LOOP
				SELECT * INTO event FROM evstore.get_event(t.event_id);
				rows := rows || jsonb_build_object('status', t.status, 'index', t.index, 'got', evstore.to_cloudevent(event));
			END LOOP;
			RAISE EXCEPTION USING ERRCODE = 'ZZ001';
		EXCEPTION WHEN SQLSTATE 'ZZ001' THEN NULL;
		END;
		INSERT INTO taken SELECT m.n, m.message ->> 'mode',
				CASE r -> 'index' WHEN '1' THEN m.event || jsonb_build_object('id', m.event ->> 'id' || '-2') ELSE m.event END, r ->> 'status', r -> 'got'
			FROM unnest(rows) AS r;
	END LOOP;
END $$;

-- Attributes that are not the same: in binary modes as texts, since that is what they are there.
CREATE FUNCTION differences(mode text, event jsonb, got jsonb) RETURNS text[] LANGUAGE sql AS $$
	SELECT array_agg(format('%s: %s, not %s', e.key, got -> e.key, e.value) ORDER BY e.key)
	FROM jsonb_each(event) AS e
	WHERE CASE
		WHEN e.key = 'data' THEN got -> 'data' IS DISTINCT FROM e.value
		-- the SDK makes one up for times that are not given, and writes them in a form of its own
		WHEN e.key = 'time' THEN (got ->> 'time')::timestamptz IS DISTINCT FROM (e.value #>> '{}')::timestamptz
		ELSE got ->> e.key IS DISTINCT FROM e.value #>> '{}'
	END
	OR (mode !~ 'binary' AND jsonb_typeof(got -> e.key) <> jsonb_typeof(e.value))
$$;
END

for my $line (@written)
{
	$line =~ /\$evs\$/ and die 'a quote';
	$session->query("INSERT INTO written (line) VALUES (\$evs\$$line\$evs\$)");
}
$session->query("INSERT INTO message SELECT w.n, w.line -> 'event', m FROM written AS w, jsonb_array_elements(w.line -> 'messages') AS m");
my $nmessages = $session->query('SELECT count(*) FROM message');
is($nmessages, $count * 13, 'messages of all modes');
$session->query('CALL take_all()');
for my $mode (@all, 'http-binary')
{
	is($session->query("SELECT string_agg(format('%s %s %s', n, status, differences(mode, event, got)), chr(10))
		FROM (SELECT * FROM taken WHERE mode = '$mode' AND (status <> 'appended' OR differences(mode, event, got) IS NOT NULL) LIMIT 5) AS t") // '',
		'', "events of mode $mode are what the SDK has written");
}
is($session->query("SELECT count(*) FROM taken"), $nmessages + 2 * $count, 'all of them');

# What it looks like is enough, but for batches of another kind.
is($session->query("SELECT string_agg(DISTINCT t.status, ' ' ORDER BY t.status) FROM message AS m, take(m.message, 'auto') AS t WHERE m.n = 1"), 'appended duplicate',
	'the same event in each mode is one event');
is($session->query("SELECT count(*) FROM evstore.events"), 2, '... and the other one of the batch');
is($session->query("SELECT string_agg(DISTINCT t.status, ' ' ORDER BY t.status) FROM message AS m, take(m.message, 'auto') AS t WHERE m.n > 1"), 'appended duplicate', 'so are the others');
is($session->query("SELECT count(*) FROM evstore.events"), 4 * $count, 'each event is there once');

# ---- what relays send ----

my $receiver = http_server();
$session->query(q(SELECT evstore.append('order-' || n % 3, 'com.example.order', jsonb_build_object('n', n, 'note', E'na\u00efve \u20ac "\n'),
	correlation_id => 'c 100% ' || n, schema_version => 2, metadata => '{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}') FROM generate_series(1, 20) AS n));
my %formats = ('structured' => 'cloudevents', 'batch' => 'cloudevents-batch', 'binary' => 'cloudevents-binary');
for my $path (sort keys %formats)
{
	my $url = $receiver->url("/$path");
	$session->query(qq(SELECT evstore.create_relay('$path', 'http', '{"url": "$url"}', options => '{"format": "$formats{$path}"}')));
}
$session->query(q(SELECT evstore.create_relay('file', 'file', '{"path": "events.ndjson"}')));
for my $relay (keys %formats, 'file')
{
	poll(sub { $session->query("SELECT evstore.run_relay('$relay')") == 0 && $session->query("SELECT lag_events FROM evstore.relays WHERE relay = '$relay'") == 0 })
	  or die "$relay does not end";
}
my %requests;
push @{ $requests{ $_->{target} =~ s{^/}{}r } }, $_ for $receiver->requests;

# Attributes in the headers, the rest of them are the protocol's.
sub as_message
{
	my ($request) = @_;
	my %message = (headers => { map { lc $_->[0] => $_->[1] } @{ $request->{headers} } });

	$message{$_} = $request->{$_} for grep { defined $request->{$_} } qw(body body_base64);
	# bytes that happen to be text
	$message{body_base64} = encode_base64(Encode::encode('UTF-8', delete $message{body}), '')
	  if defined $message{body} && ($message{headers}{'content-type'} // '') eq 'application/octet-stream';
	return \%message;
}

my $all_events = $session->query('SELECT count(*) FROM evstore.events');
my %sent = map { ("$_->{source} $_->{id}" => $_) }
  map { $json->decode($_->[0]) } @{ $session->rows('SELECT evstore.to_cloudevent(e) FROM evstore.events AS e') };

# What the SDK has read as the store has it: it leaves values of headers percent-encoded, and data
# of other JSON types than application/json as text; it writes times with milliseconds.
sub as_sent
{
	my ($event, $is_binary) = @_;
	my %result = %$event;

	delete @result{qw(hops time)};
	if ($is_binary)
	{
		for my $name (grep { !ref $result{$_} && !/^data/ } keys %result)
		{
			$result{$name} =~ s/%([0-9A-F]{2})/chr hex $1/ge;
			$result{$name} = Encode::decode('UTF-8', $result{$name});
		}
		# headers are texts
		$result{$_} = $_ eq 'flag' ? ($result{$_} eq 'true' ? JSON::PP::true : JSON::PP::false) : 0 + $result{$_}
		  for grep { defined $result{$_} } qw(count flag schemaversion streamversion);
		if (!defined $result{datacontenttype})
		{
			is(delete $result{data}, '', 'no type, no data');
			$result{datacontenttype} = 'application/json';
		}
		$result{data} = $json->decode(Encode::encode('UTF-8', $result{data})) if $result{datacontenttype} =~ /\+json$/;
	}
	return \%result;
}

for my $path (sort keys %formats)
{
	my @read = map { $json->decode($_) } oracle('read', map { $json->encode(as_message($_)) } @{ $requests{$path} });
	my @events = map { as_sent($_, $path eq 'binary') } map { ref $_ eq 'ARRAY' ? @$_ : diag($_->{error}) } @read;
	my @wrong;

	is(scalar @events, $all_events, "the SDK reads all that a relay sends: $path");
	for my $event (@events)
	{
		my %expected = %{ $sent{"$event->{source} $event->{id}"} // {} };

		delete @expected{qw(hops time)};
		# without data its type is not sent in headers
		$expected{datacontenttype} = 'application/json' if $path eq 'binary' && !exists $expected{data} && !exists $expected{data_base64};
		push @wrong, $json->encode([ $event, \%expected ]) if $json->encode($event) ne $json->encode(\%expected);
	}
	is(join("\n", @wrong[ 0 .. ($#wrong > 4 ? 4 : $#wrong) ]), '', '... and as the events that they are');
}

# In other stores they are what they were: the wire's bytes, taken in as they are.
my %lines = (file => [ map { { headers => {}, body_base64 => encode_base64($_, '') } } split /\n/, slurp_file($node->data_dir . '/evstore_relay/events.ndjson') ],
	map { $_ => [ map { as_message($_) } @{ $requests{$_} } ] } keys %formats);
for my $name (sort keys %lines)
{
	my $other = session($node, new_store($node, "copy_$name"));
	$other->query('CREATE TABLE sent (event jsonb)');
	for my $again (0, 1)
	{
		my $expected = $again ? 'duplicate' : 'appended';
		my @wrong;

		$other->query('BEGIN');
		for my $message (@{ $lines{$name} })
		{
			my $body = $message->{body_base64} // encode_base64(Encode::encode('UTF-8', $message->{body} // ''), '');
			my $headers = $json->encode($message->{headers});
			my $status = $other->query("SELECT DISTINCT status FROM evstore.ingest_bytes(decode('$body', 'base64'), 'auto', \$evs\$$headers\$evs\$, stream => '{subject}')");

			push @wrong, $status if $status ne $expected;
		}
		$other->query('COMMIT');
		is("@wrong", '', "a relay to another store, $name: " . ($again ? 'once more' : 'all deliveries are taken in'));
	}
	is($other->query('SELECT count(*) FROM evstore.events'), $all_events, '... all events are there, once');
	$other->query('INSERT INTO sent VALUES ' . join ', ', map { '($evs$' . $json->encode($_) . '$evs$)' } values %sent);
	$other->query('CREATE TABLE got AS SELECT evstore.to_cloudevent(e) AS event FROM evstore.events AS e');
	is($other->query(<<"END"), '', '... and each is what it was');
CREATE FUNCTION comparable(event jsonb) RETURNS jsonb LANGUAGE sql AS \$\$
	SELECT CASE
		WHEN '$name' <> 'binary' THEN event - 'hops'
		-- there all attributes are texts, and without data its type is not sent
		ELSE (SELECT jsonb_object_agg(m.key, m.value #>> '{}') FROM jsonb_each(event) AS m WHERE m.key <> 'data') - 'hops'
			- CASE WHEN event ?| '{data,data_base64}' THEN '' ELSE 'datacontenttype' END
			|| jsonb_build_object('data', event -> 'data')
	END
\$\$;
SELECT string_agg(format('%s instead of %s', g.event, s.event), chr(10))
FROM sent AS s LEFT JOIN got AS g ON g.event ->> 'id' = s.event ->> 'id' AND g.event ->> 'source' = s.event ->> 'source'
WHERE comparable(g.event) IS DISTINCT FROM comparable(s.event)
END
	$other->close;
}

$session->close;
$receiver->stop;
$node->stop;
done_testing();
