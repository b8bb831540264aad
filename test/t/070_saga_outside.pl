# Sagas against other programs that know the Amazon States Language, from npm: what is
# valid, and what comes out.
#
# EVS_ASL_SEED and EVS_ASL_COUNT choose the documents that are made at random. They are the
# same in each run unless told, since the programs have limits of their own that a document
# may meet.

use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{EVS_ASL_SEED} // 1;
my $count = $ENV{EVS_ASL_COUNT} // 1500;
my $tools = "$FindBin::Bin/../tools/asl";
my $data = "$FindBin::Bin/../data/asl";
my $dir = PostgreSQL::Test::Utils::tempdir;
my $json = JSON::PP->new->allow_nonref->canonical->utf8;

note "EVS_ASL_SEED=$seed";

# ---- the programs ----

system('cp', glob("$tools/*.js*"), $dir) == 0 or die 'cp failed';
my $npm = `cd '$dir' && npm install --no-package-lock --no-audit --no-fund --loglevel=error 2>&1`;
is($?, 0, 'the programs to compare with are installed') or BAIL_OUT($npm);

# oracle(PROGRAM, LINE...): its answers
sub oracle
{
	my ($program, @lines) = @_;
	open my $in, '>', "$dir/in" or die $!;
	print $in "$_\n" for @lines;
	close $in;
	my @out = map { $json->decode($_) } split /\n/, `cd '$dir' && node $program.js <in`;
	is($?, 0, "$program.js ends well");
	is(scalar @out, scalar @lines, 'and answers all');
	return @out;
}

# ---- the server ----

my $node = new_node('outside');
$node->safe_psql('postgres', 'CREATE DATABASE sagas');
$node->safe_psql('sagas', <<'END');
CREATE EXTENSION evstore;
CREATE SCHEMA oracle;
-- those of run.js
CREATE FUNCTION oracle.echo(p jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT p $$;
CREATE FUNCTION oracle.twice(p jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('n', 2 * (p -> 'n')::numeric) $$;
CREATE FUNCTION oracle.obey(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF p ->> 'fail' IS NOT NULL THEN
		PERFORM evstore.fail_step(p ->> 'fail', 'told to: ' || (p ->> 'fail'));
	END IF;
	RETURN '{"obeyed": true}';
END $$;
CREATE FUNCTION oracle.flaky(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	attempt integer := evstore.current_saga_step() -> 'attempt';
BEGIN
	IF attempt <= (p -> 'times')::integer THEN
		PERFORM evstore.fail_step('Flaky', 'attempt ' || attempt);
	END IF;
	RETURN jsonb_build_object('attempt', attempt);
END $$;
CREATE TABLE document (n integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, line jsonb);
CREATE TABLE result (n integer PRIMARY KEY, output jsonb, error text, cause text);

-- Run all documents, each to its end, whatever it waits for.
CREATE PROCEDURE run_all() LANGUAGE plpgsql AS $$
DECLARE
	d record;
	id uuid;
	due timestamptz;
BEGIN
	FOR d IN SELECT * FROM document ORDER BY n LOOP
		PERFORM set_config('evstore.now_override', '2030-01-01T00:00:00Z', false);
		PERFORM evstore.create_saga('d' || d.n, d.line -> 'asl');
		id := evstore.start_saga('d' || d.n, d.line -> 'input');
		LOOP
			CONTINUE WHEN evstore.run_sagas(saga => 'd' || d.n) > 0;
			due := (SELECT s.next_due FROM evstore.sagas AS s WHERE s.saga_id = id AND s.ended_at IS NULL);
			EXIT WHEN due IS NULL;
			PERFORM set_config('evstore.now_override', due::text, false);
		END LOOP;
		INSERT INTO result SELECT d.n, s.output, s.error, s.cause FROM evstore.sagas AS s WHERE s.saga_id = id AND s.ended_at IS NOT NULL;
		COMMIT;
	END LOOP;
END $$;
END

# ---- what is valid ----

sub errors_in
{
	my ($session, $document) = @_;

	return $session->query(
		"SELECT count(*) FILTER (WHERE v.severity = 'error') FROM evstore.validate_saga(\$evs\$$document\$evs\$) v");
}

# Documents of the tests: valid, not valid, and those that are valid but refused, since they
# are about what evstore does not do, or mistakes that the validator does not see.
my @files = sort glob "$data/*.json";
cmp_ok(scalar @files, '>=', 20, 'there are documents');
my @texts = map { my $text = slurp_file($_); $text =~ tr/\n//d; $text } @files;
my @verdicts = oracle('validate', @texts);
my $session = session($node, 'sagas');
for my $i (0 .. $#files)
{
	my ($name, $kind) = $files[$i] =~ m{((valid|invalid|refused)_[^/]+)\.json$};
	my $errors = errors_in($session, $texts[$i]);
	is($errors > 0 ? 'refused' : 'taken', $kind eq 'valid' ? 'taken' : 'refused', "$name by validate_saga()");
	is($verdicts[$i]{valid} ? 'valid' : 'invalid', $kind eq 'invalid' ? 'invalid' : 'valid', "$name by asl-validator")
	  or diag explain $verdicts[$i]{errors};
}

# Documents that stand in the text of a file: objects with a member StartAt.
sub documents_in
{
	my ($file) = @_;
	my $text = slurp_file($file);
	my @found;

	while ($text =~ /"StartAt"/g)
	{
		my ($at, $depth) = ($-[0], 1);
		$depth += substr($text, --$at, 1) eq '}' ? 1 : substr($text, $at, 1) eq '{' ? -1 : 0 while $at > 0 && $depth > 0;
		my $document = eval { (JSON::PP->new->utf8->decode_prefix(substr($text, $at) =~ s/''/'/gr))[0] };
		push @found, $document if $document && exists $document->{States};
	}
	return @found;
}

my $root = "$FindBin::Bin/../..";
my %documents = map { my $file = $_; ($file =~ s{^\Q$root\E/}{}r => [ documents_in($file) ]) }
  "$root/README.md", glob("$root/docs/*/*.md $root/test/demo/*.sql");
my @names = map { ($_) x @{ $documents{$_} } } sort keys %documents;
my @written = map { @{ $documents{$_} } } sort keys %documents;
# and that of the sample, as it is stored
$session->query('SELECT evstore.install_sample()');
push @names, 'the sample';
push @written, $json->decode($session->query("SELECT d.definition -> 'asl' FROM evstore.saga_definitions AS d"));
cmp_ok(scalar @written, '>=', 8, 'documents of the documentation, the demo and the sample');
@verdicts = oracle('validate', map { $json->encode($_) } @written);
# some show what is wrong
my $taken = 0;
for my $i (0 .. $#written)
{
	my $errors = errors_in($session, $json->encode($written[$i]));
	is($verdicts[$i]{valid} ? 'valid' : 'invalid', $errors > 0 ? 'invalid' : 'valid', "one of $names[$i] by asl-validator")
	  or diag explain $verdicts[$i];
	$taken += $errors == 0;
}
cmp_ok($taken, '>', $#written - 3, 'nearly all of them are valid');
$session->close;

# ---- what comes out ----

my @documents = split /\n/, `cd '$dir' && node generate.js $seed $count`;
is(scalar @documents, $count, "$count documents were made");
push @documents, map { $json->encode($_) } @{ $json->decode(slurp_file("$data/../asl_runs.json")) };
# it takes a tenth of a second for each
my @valid = oracle('validate', map { $json->encode($json->decode($_)->{asl}) } @documents[0 .. 49], @documents[$count .. $#documents]);
is(scalar(grep { !$_->{valid} } @valid), 0, 'they are valid');
my @expected = oracle('run', @documents);

open my $copy, '>', "$dir/documents" or die $!;
print $copy "$_\n" for @documents;
close $copy;
$node->safe_psql('sagas', "\\copy document (line) FROM '$dir/documents' WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')");
$node->safe_psql('sagas', 'CALL run_all()');
my %ours = map { my $r = $json->decode($_); ($r->{n} => $r) }
  split /\n/, $node->safe_psql('sagas', q(SELECT to_json(r) FROM result r));

# The same for what the interpreter itself finds wrong: it has one name for all of it.
sub verdict
{
	my ($result) = @_;
	return $json->encode($result->{output}) unless defined $result->{error};
	return 'States.*' if $result->{error} =~ /^States\./;
	return "$result->{error}: $result->{cause}";
}

my @different = grep { verdict($expected[$_]) ne verdict($ours{ $_ + 1 } // { error => 'does not end', cause => '' }) } 0 .. $#documents;
is(scalar @different, 0, 'all end as with aws-local-stepfunctions');
for my $i (@different[0 .. ($#different > 4 ? 4 : $#different)])
{
	diag "document: $documents[$i]";
	diag 'expected: ' . verdict($expected[$i]);
	diag 'got:      ' . verdict($ours{ $i + 1 } // { error => 'does not end', cause => '' });
}
my %ends;
$ends{ defined $_->{error} ? 'error' : 'output' }++ for @expected;
cmp_ok($ends{output}, '>', $count / 2, 'most of them with an output');
cmp_ok($ends{error}, '>', 0, 'some with an error');

$node->stop;
done_testing();
