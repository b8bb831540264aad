-- Automatic snapshots: a projection whose handler saves them.

/*
 * Automatic snapshots are a projection, by the name of $snapshots-<category>: made,
 * or removed, as the aggregate says.  It runs as owner if that is given, else as
 * whom it has run as, or whoever has turned it on.
 */
CREATE OR REPLACE FUNCTION evstore._follow_snapshots(a evstore.aggregate, owner text, caller text)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p evstore.projection;
	s evstore.subscription;
BEGIN
	SELECT x.* INTO s FROM evstore.subscription x WHERE x.name = '$snapshots-' || a.category;
	IF a.snapshot_every IS NULL THEN
		IF s.id IS NOT NULL THEN
			PERFORM evstore._projection_remove(s.id);
		END IF;
		RETURN;
	END IF;
	IF s.id IS NOT NULL THEN
		UPDATE evstore.projection x
		SET owner = COALESCE(_follow_snapshots.owner, x.owner), schema = (parse_ident(a.transition))[1]
		WHERE x.id = s.id;
		PERFORM evstore._kick(s.id);
		RETURN;
	END IF;
	s.name := '$snapshots-' || a.category;
	s.kind := 'projection';
	s.filter := jsonb_build_object('categories', jsonb_build_array(a.category));
	s.slots := 1;
	s.retry := evstore.retry_policy('"none"');
	s.on_failure := 'skip';
	s.paused := false;
	p.owner := COALESCE(owner, caller);
	p.handler := 'evstore._snapshot_events';
	p.batched := true;
	p.mode := 'async';
	p.on_error := 'skip';
	p.batch_size := 1000;
	p.statement_timeout := 600000;
	p.schema := (parse_ident(a.transition))[1];
	p.tables := '{}';
	p.depends_on := '{}';
	p.notify := false;
	p.begins := 0;
	PERFORM evstore._projection_store(p, s);
END
$$;
COMMENT ON FUNCTION evstore._follow_snapshots(evstore.aggregate, text, text) IS
	'makes or removes the projection that saves an aggregate''s snapshots';

-- Streams among those of the events that have snapshot_every events, or more, since
-- their last snapshot.  Not by a multiple of the version, which appends of several
-- events step over.
CREATE OR REPLACE FUNCTION evstore._snapshots_due(events evstore.event[]) RETURNS SETOF text
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT e.stream
	FROM (SELECT x.stream, max(x.version) AS version FROM unnest(events) x GROUP BY 1) e
		JOIN evstore.stream s ON s.name = e.stream
		JOIN evstore.aggregate a ON a.category = split_part(e.stream, '-', 1)
	WHERE e.version - GREATEST(s.begun_version - 1, COALESCE((SELECT max(n.version) FROM evstore.snapshot n
			WHERE n.stream_id = s.id AND n.state_version = a.state_version), -1)) >= a.snapshot_every
	ORDER BY e.stream;
END;
COMMENT ON FUNCTION evstore._snapshots_due(evstore.event[]) IS 'streams that want a snapshot';

-- The handler.  It has no search_path of its own: the transition is called with it.
CREATE OR REPLACE FUNCTION evstore._snapshot_events(events evstore.event[]) RETURNS void
LANGUAGE sql VOLATILE
BEGIN ATOMIC
	SELECT evstore.save_snapshot(d.stream, l.version, l.state, l.state_version)
	FROM evstore._snapshots_due(events) d (stream)
		CROSS JOIN LATERAL evstore.load_aggregate(d.stream) l
	WHERE l.version >= 0;
END;
COMMENT ON FUNCTION evstore._snapshot_events(evstore.event[]) IS 'saves the snapshots that are due; the handler of a projection';
