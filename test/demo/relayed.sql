-- What has arrived.  Variables: key, of the signatures; took, the seconds since the
-- receiver came back.

SELECT demo.check(state = 'running' AND circuit = 'closed' AND opened >= 2 AND lag_events = 0 AND retrying = 0 AND parked = 0,
				  format('the receiver is there again: the circuit closes, and nothing waits any more %s s later', :'took'))
FROM evstore.relays WHERE relay = 'partner';

-- A receiver knows the key, and so who has sent this.
CREATE FUNCTION demo.hmac_sha256(body bytea, key bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	inner_pad	bytea := key || decode(repeat('00', 64 - length(key)), 'hex');
	outer_pad	bytea := inner_pad;
BEGIN
	FOR i IN 0 .. 63 LOOP
		inner_pad := set_byte(inner_pad, i, get_byte(inner_pad, i) # 54);
		outer_pad := set_byte(outer_pad, i, get_byte(outer_pad, i) # 92);
	END LOOP;
	RETURN sha256(outer_pad || sha256(inner_pad || body));
END;
$$;

-- RFC 4231, test case 2, so that it is not only ours.
SELECT demo.hmac_sha256('what do ya want for nothing?', 'Jefe') =
	'\x5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843' AS hmac_is_right \gset

CREATE TABLE demo.received AS
SELECT r.number, h.headers, r.request ->> 'body' AS body, (r.request ->> 'body')::jsonb AS event
FROM demo.request AS r,
	 LATERAL (SELECT jsonb_object_agg(lower(x ->> 0), x ->> 1) AS headers FROM jsonb_array_elements(r.request -> 'headers') AS x) AS h;

SELECT demo.check(:'hmac_is_right' AND bool_and(headers ->> 'x-evstore-signature' =
					  'sha256=' || encode(demo.hmac_sha256(convert_to(body, 'UTF8'), :'key'), 'hex')),
				  format('the receiver got %s requests, each with the right signature', demo.figure(count(*))))
FROM demo.received;

SELECT demo.check(count(*) = count(j.event_id) AND count(*) = count(r.id),
				  format('each of the %s events arrived, and no others', demo.figure(count(*))))
FROM demo.january AS j
FULL JOIN (SELECT DISTINCT (event ->> 'id')::uuid AS id, event ->> 'subject' AS stream FROM demo.received) AS r
	ON r.id = j.event_id AND r.stream = j.stream;

SELECT demo.check(bool_and(version - before IN (0, 1)), 'every flight''s in order: 0, 1, 2, a repeated one before the next')
FROM (SELECT version, lag(version, 1, -1::bigint) OVER (PARTITION BY stream ORDER BY number) AS before
	  FROM (SELECT number, event ->> 'subject' AS stream, (event ->> 'streamversion')::bigint AS version
			FROM demo.received) AS v) AS r;

SELECT demo.check(p.failures = 6 AND r.repeated > 6 AND r.same,
				  format('%s came twice, with the same id and body: %s had been answered with 500, the others not at all',
						 r.repeated, p.failures))
FROM evstore.relays AS p,
	 (SELECT count(*) - count(DISTINCT event ->> 'id') AS repeated,
			 count(DISTINCT event ->> 'id') = count(DISTINCT body)
			 AND bool_and(headers ->> 'idempotency-key' = event ->> 'id') AS same
	  FROM demo.received) AS r
WHERE p.relay = 'partner';

-- The file is the server's.
SELECT format('COPY demo.line (event) FROM %L WITH (FORMAT csv, QUOTE %L, DELIMITER %L)',
			  concat_ws('/', current_setting('data_directory'), current_setting('evstore.file_directory'), config ->> 'path'),
			  E'\x01', E'\x02')
FROM evstore.relays WHERE relay = 'archive' \gexec

SELECT demo.check(count(*) = count(e.event_id) AND count(*) = count(l.event)
				  AND bool_and(e.data = l.event -> 'data' AND e.type = l.event ->> 'type' AND e.stream = l.event ->> 'subject'),
				  format('the file has each of the %s events exactly once', demo.figure(count(*))))
FROM (SELECT * FROM evstore.events WHERE stream LIKE 'flight-%') AS e
FULL JOIN demo.line AS l ON (l.event ->> 'id')::uuid = e.event_id;

SELECT demo.check(bool_and(position > before), 'in the order of their positions')
FROM (SELECT (event ->> 'sequence')::bigint AS position,
			 lag((event ->> 'sequence')::bigint, 1, 0::bigint) OVER (ORDER BY number) AS before
	  FROM demo.line) AS l;
