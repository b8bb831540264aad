# The documentation says what the extension does: names, settings and error
# codes are compared with the catalog and the source, examples are run, and
# links lead somewhere.
#
# A block that begins with ```sql is run; all blocks of a file run in one session
# with a new store.  ```sql error VS001 is one whose last statement fails, with
# that SQLSTATE if one is given; ```sql not run speaks for itself.  A block without
# a language below the same heading is what comes out, without "(1 row)"; blank lines
# are between results.  A page that creates the extension itself has an empty database.

use strict;
use warnings;

use Cwd 'abs_path';
use File::Basename 'dirname';
use File::Find ();
use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = abs_path("$FindBin::Bin/../..");
# Each page has a database of its own, and with preloading a dispatcher in it.
my $node = new_node('docs',
	conf => "shared_preload_libraries = 'evstore'\nmax_worker_processes = 100\n");
my %text;

File::Find::find(
	sub { $text{ substr $File::Find::name, 1 + length $root } = slurp_file($_) if /\.md$/; },
	"$root/docs");
$text{$_} = slurp_file("$root/$_") for qw(README.md CHANGELOG.md CONTRIBUTING.md);
my @reference = grep { m{^docs/reference/} } sort keys %text;
my @examples = grep { m{^docs/(tutorials|how-to|reference)/} } sort keys %text;
my @for_users =
  grep { m{^(README\.md|docs/(README|tutorials|how-to|reference|explanation)\b)} } sort keys %text;

new_store($node, 'names');

sub names
{
	my ($sql) = @_;

	return split /\n/, $node->safe_psql('names', "LOAD 'evstore'; $sql");
}

# what a list should be empty of
sub none
{
	my ($name, @wrong) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(!@wrong, $name);
	diag(join "\n", @wrong) if @wrong;
	return;
}

# ---- names ----

my $all_reference = join "\n", @text{@reference};
my @functions = names(q(SELECT DISTINCT proname FROM pg_proc
	WHERE pronamespace = 'evstore'::regnamespace));
my @views = names(q(SELECT relname FROM pg_class
	WHERE relnamespace = 'evstore'::regnamespace AND relkind = 'v'));
my @types = names(q(SELECT t.typname FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
	WHERE t.typnamespace = 'evstore'::regnamespace AND t.typelem = 0
		AND (t.typtype <> 'c' OR c.relkind = 'c')));
my @relations = names(q(SELECT relname FROM pg_class
	WHERE relnamespace = 'evstore'::regnamespace));
my @settings = names(q(SELECT substr(name, 9) FROM pg_settings WHERE name LIKE 'evstore.%'));

ok(@functions > 30 && @views > 5 && @types && @settings > 5, 'the catalog has names');
none('every function is in the reference',
	grep { !/^_/ && $all_reference !~ /\b$_\(/ } @functions);
none('every view is in the reference',
	grep { !/^_/ && $all_reference !~ /^## $_$/m } @views);
none('every type is in the reference',
	grep { !/^_/ && $all_reference !~ /^## $_$/m } @types);

my %function = map { $_ => 1 } @functions;
# names of files, and the type of what test_relay() sends
my %known = map { $_ => 1 } @functions, @relations, @types, @settings, qw(control so test);
my (@no_function, @unknown);
for my $file (sort keys %text)
{
	push @no_function, map { "$file: $_" }
	  grep { !$function{$_} } $text{$file} =~ /\bevstore\.(\w+)\(/g;
}
for my $file (@for_users)
{
	# event_log_1 and its like are there after the first event
	push @unknown, map { "$file: $_" }
	  grep { !$known{$_} && !/^event_log_\d+$|^drop_guard$/ }
	  $text{$file} =~ /\bevstore\.([a-z_]\w*)/g;
}
none('every function that is named exists', @no_function);
none('everything else that is named exists', @unknown);

my %heading = map { $_ => 1 } $text{'docs/reference/settings.md'} =~ /^### evstore\.(\w+)$/mg;
none('every setting is in settings.md', grep { !$heading{$_} } @settings);
none('every setting of settings.md exists', grep { !$known{$_} } sort keys %heading);

# ---- error codes ----

my %code = map { join('', /'(.)'/g) => 1 }
  slurp_file("$root/src/base/errors.h") =~ /^#define ERRCODE_EVS_\w+\s+MAKE_SQLSTATE\((.*)\)/mg;
ok(keys %code >= 12, 'errors.h has codes');
none('every error code is in errors.md',
	grep { $text{'docs/reference/errors.md'} !~ /\b$_\b/ } sort keys %code);
my @no_code;
for my $file (sort keys %text)
{
	push @no_code, map { "$file: $_" } grep { !$code{$_} } $text{$file} =~ /\b(VS\d{3})\b/g;
}
none('every error code that is named exists', @no_code);

# ---- links ----

sub anchors
{
	my ($markdown) = @_;
	my (%seen, @anchors);

	$markdown =~ s/^```.*?^```//msg;
	for my $title ($markdown =~ /^#+ +(.*?) *$/mg)
	{
		my $anchor = lc $title;

		$anchor =~ s/\[([^]]*)\]\([^)]*\)/$1/g;
		$anchor =~ s/[^\w\- ]//g;
		$anchor =~ s/ /-/g;
		push @anchors, $seen{$anchor}++ ? "$anchor-" . ($seen{$anchor} - 1) : $anchor;
	}
	return @anchors;
}

my @broken;
for my $file (sort keys %text)
{
	(my $prose = $text{$file}) =~ s/^```.*?^```//msg;
	for my $link ($prose =~ /\]\(([^)\s]+)\)/g)
	{
		next if $link =~ m{^https?://};
		my ($path, $anchor) = split /#/, $link, 2;
		my $target = abs_path($path eq '' ? "$root/$file" : dirname("$root/$file") . "/$path");

		if (!defined $target || !-e $target) { push @broken, "$file: $link"; next; }
		next if !defined $anchor;
		push @broken, "$file: $link"
		  if !-f $target || !grep { $_ eq $anchor } anchors(slurp_file($target));
	}
}
none('every link leads somewhere', @broken);

my (%linked, @todo);
@todo = ('README.md');
while (my $file = shift @todo)
{
	next if $linked{$file}++ || !defined $text{$file};
	(my $prose = $text{$file}) =~ s/^```.*?^```//msg;
	for my $link ($prose =~ /\]\(([^)#\s]+)/g)
	{
		my $target = abs_path(dirname("$root/$file") . "/$link") // next;
		push @todo, substr $target, 1 + length $root;
	}
}
none('every page can be reached from the README', grep { !$linked{$_} } sort keys %text);

# ---- examples ----

# Blocks of a page: [language and what follows, text].  The language of a result,
# which follows SQL below the same heading, is "result".
sub blocks
{
	my ($markdown) = @_;
	my ($after_sql, @blocks);

	while ($markdown =~ /^(?:(#+ )|```(.*?)\n(.*?)^```$)/msg)
	{
		if (defined $1) { $after_sql = 0; next; }
		push @blocks, [ $2 eq '' && $after_sql ? 'result' : $2, $3 ];
		$after_sql ||= $2 =~ /^sql\b/;
	}
	return @blocks;
}

sub without_trailing_space
{
	my ($text) = @_;

	$text =~ s/[ \t]+$//mg;
	return $text;
}

# Which paragraphs of the results are not in what came out?
sub missing_results
{
	my ($results, $output) = @_;

	$output = "\n" . without_trailing_space($output) . "\n";
	return
	  grep { index($output, "\n$_\n") < 0 } map { s/\s+\z//r } split /\n\n+/, without_trailing_space($results);
}

my $n = 0;
for my $file (@examples)
{
	my @blocks = blocks($text{$file});
	my $dbname = 'example_' . $n++;
	my $script = "\\pset tuples_only off\n\\pset format aligned\n";
	my ($i, $results) = (0, '');

	next unless grep { $_->[0] =~ /^sql\b/ } @blocks;
	for my $block (@blocks)
	{
		my ($language, $content) = @$block;

		if ($language =~ /^sql error\b/)
		{
			$script .= "\\set ON_ERROR_STOP 0\n$content\n\\echo \@error $i :SQLSTATE\n\\set ON_ERROR_STOP 1\n";
		}
		elsif ($language =~ /^sql$/) { $script .= "$content\n"; }
		elsif ($language eq 'result') { $results .= "$content\n"; }
		$i++;
	}
	if ($script =~ /^CREATE EXTENSION evstore\b/m)
	{
		$node->safe_psql('postgres', "CREATE DATABASE $dbname");
	}
	else { new_store($node, $dbname); }
	my ($rc, $out, $err) = $node->psql($dbname, $script);
	is($rc, 0, "$file: its examples run") or diag($err);
	my %state = $out =~ /^\@error (\d+) (\w+)$/mg;
	my @wrong;
	for my $i (0 .. $#blocks)
	{
		next unless $blocks[$i][0] =~ /^sql error *(\w*)/;
		my ($wanted, $got) = ($1, $state{$i} // 'none');
		push @wrong, "block $i: $got" if $got eq '00000' || $got eq 'none' || $wanted && $got ne $wanted;
	}
	none("$file: what should fail does", @wrong);
	$err =~ s/^psql:[^:]*:\d+: //mg;
	none("$file: its results are those that come out", missing_results($results, "$out\n$err"));
}

# ---- the README's quick start ----

my $made = `'$root/test/tools/readme_sql.sh'`;
is(slurp_file("$root/test/sql/readme.sql"),
	$made, 'test/sql/readme.sql is what readme_sql.sh makes of the README');
my ($quick_start) = $text{'README.md'} =~ /^## Quick start\n(.*?)^## /ms;
none('the README shows what comes out',
	missing_results(join("\n", map { $_->[1] } grep { $_->[0] eq 'result' } blocks($quick_start)),
		slurp_file("$root/expected/readme.out")));

done_testing();
