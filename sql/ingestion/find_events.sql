-- The events that rows have already near others: those of the same key within a window of them, and which counter the
-- next row of the very moment has. Rows that people brought count there, too: no record takes the place of one.
-- $1 organization, $2 event_keys (text[]), $3 times (timestamptz[]: one for each), $4 window (interval),
-- $5 ids (text[]: of their rows, without the counter).
-- Returns place (bigint: of the pair, from 1), near (boolean: whether there is one within the window), counter (bigint:
-- the next one that tells equal times apart).
-- Plan: for each pair a range of mirror_events, and one of the primary key: behind "~" comes a number and nothing else.
SELECT g.place,
       EXISTS (SELECT
                 FROM pfa.mirror AS m
                WHERE m.organization_id = $1 AND m.event_key = g.event_key
                  AND m.event_at > g.at - $4::interval AND m.event_at < g.at + $4::interval) AS near,
       coalesce((SELECT max(substring(m.row_key FROM '~([0-9]+)$')::bigint) + 1
                   FROM pfa.mirror AS m
                  WHERE m.organization_id = $1
                    AND m.row_key >= (g.id || '~') COLLATE "C"
                    AND m.row_key < (g.id || '~:') COLLATE "C"), 0) AS counter
  FROM unnest($2::text[], $3::timestamptz[], $5::text[]) WITH ORDINALITY AS g (event_key, at, id, place);
