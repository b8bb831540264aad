# Much in one transaction: ids in one batch, savepoints, streams.
#
# Nothing of it may need a slot of the lock table for each, which has its
# default size here.
#
# EVS_MANY_STREAMS   streams in one transaction, a million if not set, which takes
#                    about a minute in a test build

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use EvsTest;
use Test::More;

use constant {
	IDS => 100_000,
	SAVEPOINTS => 100_000,
	NESTED => 3_000,
};

my $streams = $ENV{EVS_MANY_STREAMS} || 1_000_000;
my $node = new_node('many', conf => "fsync = off\nmax_wal_size = 4GB\n");
my $dbname = new_store($node, 'many');
my $session = session($node, $dbname);

# Locks of the session that are in the shared table; a few relations are meant.
sub locks
{
	return $session->query('SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()');
}

is($session->query('SHOW max_locks_per_transaction'), 64, 'the lock table has its default size');

# --- ids ---

my $ids = 'array_agg(md5(n::text)::uuid ORDER BY n) FROM generate_series(1, ' . IDS . ') n';
my $append = "SELECT a.first_version, a.version FROM (SELECT $ids) i (ids), LATERAL "
  . q(evstore.append_arrays('ids-1', array_fill('T'::text, ARRAY[cardinality(i.ids)]), event_ids => i.ids) a);

$session->query('BEGIN');
is($session->query($append), '0|' . (IDS - 1), IDS . ' ids in one batch');
cmp_ok(locks(), '<', 100, 'ids need no locks');
is($session->query($append), '0|' . (IDS - 1), 'a retry in the same transaction');
$session->query('COMMIT');
is($session->query($append), '0|' . (IDS - 1), 'a retry afterwards');
is($session->query(q(SELECT evstore.stream_version('ids-1'))), IDS - 1, 'and nothing more is stored');
is_error($session,
	q(SELECT evstore.append_one('ids-2', 'T', event_id => md5('77777')::uuid)),
	'VS003', qr/exist/, 'an id out of the midst is known');

# --- savepoints, one after the other ---

$session->query(<<'PROCEDURE');
CREATE PROCEDURE savepoints(n integer, OUT kept integer) LANGUAGE plpgsql AS
$$
BEGIN
	kept := 0;
	FOR i IN 1 .. n LOOP
		BEGIN
			PERFORM evstore.append_one('sp-' || i % 100, 'T');
			IF i % 3 = 0 THEN
				RAISE EXCEPTION 'not this one';
			END IF;
			kept := kept + 1;
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END
$$
PROCEDURE
my $kept = SAVEPOINTS - int(SAVEPOINTS / 3);
$session->query('BEGIN');
is($session->query('CALL savepoints(' . SAVEPOINTS . ', NULL)'), $kept, SAVEPOINTS . ' savepoints');
cmp_ok(locks(), '<', 100, 'savepoints need no locks');
my ($safe, $last) = split /\|/,
  $node->safe_psql($dbname, 'SELECT evstore.safe_position(), evstore._last_position()');
is($last - $safe, SAVEPOINTS, 'the safe position is where they began');
$session->query('COMMIT');
is( $session->query(q(SELECT sum(version + 1) FROM evstore.streams WHERE category = 'sp')),
	$kept, 'those that were not rolled back are stored');

# --- savepoints, each in the one before ---

$session->query('BEGIN');
$session->query("SAVEPOINT s$_; SELECT evstore.append_one('nest-1', 'T')") for 1 .. NESTED;
cmp_ok(locks(), '<', 2 * NESTED, 'nested savepoints: a transaction id each and no more');
is( $session->query("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype NOT IN ('transactionid', 'relation', 'virtualxid')"),
	1, 'one of them says that an append is in flight');
$session->query('ROLLBACK TO s' . (NESTED / 2 + 1));
is($session->query(q(SELECT evstore.stream_version('nest-1'))), NESTED / 2 - 1, 'half of them rolled back');
$session->query(q(SELECT evstore.append_one('nest-1', 'T')));
$session->query('COMMIT');
is($session->query(q(SELECT evstore.stream_version('nest-1'))), NESTED / 2, 'the other half and one more stored');

# --- streams ---

$session->query('BEGIN');
is( $session->query("SELECT count(evstore.append_one('many-' || n, 'T')) FROM generate_series(1, $streams / 2) n"),
	$streams / 2, "$streams streams, half of them by a loop");
my $appends = <<"END";
SELECT count(*) FROM (SELECT jsonb_agg(jsonb_build_object('stream', 'many-' || n,
	'events', '[{"type": "T"}]'::jsonb)) FROM generate_series(%s) n) a (appends),
	LATERAL evstore.append_streams(a.appends)
END
my $from = $streams / 2 + 1;
is($session->query(sprintf $appends, "$from, $streams"), $streams / 2, 'half by one call');
cmp_ok(locks(), '<', 100, 'streams need no locks');
$session->query('COMMIT');
is( $session->query(q(SELECT count(*) FROM evstore.streams WHERE category = 'many')),
	$streams, 'all are there');

is($session->query('SELECT check_name, detail FROM evstore.verify() WHERE NOT ok'), '', 'verify() finds nothing');
is($session->query('SELECT evstore.safe_position() = evstore._last_position()'), 't', 'nothing is in flight');

$session->close;
$node->stop;
done_testing();
