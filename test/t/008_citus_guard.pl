# Citus would keep the rows of a distributed table elsewhere; evstore, which
# writes to its tables directly, refuses to.  There is no Citus here, but what
# evstore looks at: the catalog table pg_dist_partition.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use Test::More;

my $node = new_node('citus', conf => "allow_system_table_mods = on\n");
new_store($node, 'store', 10);

my $old = session($node, 'store');
is($old->query("SELECT version FROM evstore.append('a-1', 'x')"), 0,
	'without Citus an append works');
$node->safe_psql('store',
	'CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass NOT NULL, partmethod "char" NOT NULL)');
my $new = session($node, 'store');
is($new->query("SELECT version FROM evstore.append('a-1', 'x')"), 1,
	'nor does an empty pg_dist_partition matter');
$node->safe_psql('store', q(CREATE TABLE public.t ();
	INSERT INTO pg_dist_partition VALUES ('public.t', 'h')));
$new->close;
$new = session($node, 'store');
is($new->query("SELECT version FROM evstore.append('a-1', 'x')"), 2,
	'nor a distributed table of somebody else');

for my $table ('event_log', 'stream')
{
	my $refused = qr/cannot be distributed by Citus.*"$table".*undistribute_table/s;

	# Distributing a table also invalidates its relation cache entry.
	$node->safe_psql('store', qq(INSERT INTO pg_dist_partition VALUES ('evstore.$table', 'h');
		UPDATE pg_class SET relname = relname WHERE oid = 'evstore.$table'::regclass));

	my $another = session($node, 'store');
	for my $session ($another, $old, $new)
	{
		is_error($session, "SELECT evstore.append('a-1', 'x')", '0A000', $refused,
			"$table: an append is refused");
	}
	is_error($another, "SELECT evstore.append_streams('[{\"stream\": \"a-1\", \"events\": [{\"type\": \"t\"}]}]')",
		'0A000', $refused, "$table: to several streams too");
	is_error($another, "SELECT * FROM evstore.try_append('a-1', '[{\"type\": \"t\"}]')",
		'0A000', $refused, "$table: also where conflicts are results");
	is_error($another, 'SELECT evstore.create_partitions(1)', '0A000', $refused,
		"$table: no partition is made");
	is($another->query('SELECT count(*) FROM evstore.event_log'),
		$table eq 'event_log' ? 3 : 6, "$table: nothing was written");

	$node->safe_psql('store', "DELETE FROM pg_dist_partition WHERE logicalrelid = 'evstore.$table'::regclass");
	my $version = $table eq 'event_log' ? 3 : 6;
	for my $session ($another, $old, $new)
	{
		is($session->query("SELECT version FROM evstore.append('a-1', 'x')"), $version++,
			"$table: without the row appends work again");
	}
	$another->close;
}
is($old->query('SELECT count(*) FROM evstore.verify() WHERE NOT ok'), 0,
	'the store is sound');
$_->close for $old, $new;

done_testing();
