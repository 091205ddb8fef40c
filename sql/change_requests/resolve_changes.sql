-- Carry resolutions out on a request's changes under review: mine stays and takes theirs as its new base, theirs leaves
-- the change, base and a value replace mine over theirs. The caller holds the request's lock, 2 and 4 on these rows;
-- fold_pending and image_modifications follow.
--
-- $1 organization, $2 request_id (uuid), $3 resolutions (jsonb, a row once: [{id, whole: mine|theirs|null, mine[],
-- theirs[], base[], value{}}] with the fields of whole cells), $4 groups (jsonb: how fields merge), $5 at (timestamptz
-- now), $6 unwritable (text[]: what a new row cannot bring: where the row is there by now, it is as upstream has it).
-- Returns row_key of each.
--
-- A new row that is there by now becomes an edit; those of its cells that nobody has resolved conflict as before.
--
-- A change with another base comes behind what was committed meanwhile: its id is a new one. One of which nothing is
-- left ends, and does not return to the drafts: whoever takes theirs has seen it.
-- Plan: the request's changes by change_of_request, the mirror's primary key for each, the changes again by their
-- place.
WITH present AS MATERIALIZED (
    SELECT c.ctid AS place, c.row_key, c.op, c.base, c.delta, r.whole, r.mine, r.theirs AS given_up, r.base AS restored,
           coalesce(r.value, '{}') AS value, t.theirs
      FROM jsonb_to_recordset($3::jsonb)
        AS r (id text, whole text, mine jsonb, theirs text[], base jsonb, value jsonb)
     CROSS JOIN LATERAL (
               SELECT c.ctid, c.row_key, c.op, c.base, c.delta
                 FROM pfa.change AS c
                WHERE c.organization_id = $1 AND c.change_request_id = $2 AND c.row_key = r.id
                  AND c.state = 'in_review'
                LIMIT 1
           ) AS c
      LEFT JOIN LATERAL (
               SELECT m.data FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = r.id LIMIT 1
           ) AS m ON TRUE
     CROSS JOIN LATERAL (
               SELECT CASE WHEN pfa.in_outbox($1, r.id) THEN pfa.theirs($1, '', r.id, m.data) ELSE m.data END AS theirs
               OFFSET 0
           ) AS t
),
settled AS (
    SELECT p.*,
           (CASE WHEN p.op = 'insert' AND p.theirs IS NOT NULL THEN p.delta - $6::text[] ELSE p.delta END
            || vanguard.pick(p.base || p.delta, p.mine) || vanguard.pick(p.base, p.restored))
           - p.given_up || p.value AS cells
      FROM present AS p
),
resolved AS (
    SELECT s.place,
           CASE WHEN s.whole = 'mine' AND s.op = 'update' AND s.theirs IS NULL THEN 'insert'
                WHEN s.op = 'insert' AND s.theirs IS NOT NULL THEN 'update'
                ELSE s.op END AS op,
           CASE
               WHEN s.whole = 'mine' AND s.op = 'update' AND s.theirs IS NULL THEN s.base || s.delta
               WHEN s.op = 'delete' THEN '{}'
               ELSE s.cells
           END AS delta,
           CASE
               WHEN s.whole = 'mine' AND s.op = 'update' AND s.theirs IS NULL THEN '{}'
               WHEN s.op = 'delete' THEN coalesce(s.theirs, '{}')
               -- What was a new row had no base, and is an update now: each of its cells has one, null.
               ELSE CASE s.op WHEN 'insert' THEN vanguard.pick('{}', vanguard.written(s.cells, $4)) ELSE '{}' END
                    || s.base
                    || vanguard.pick(s.theirs, to_jsonb(s.given_up))
                    || vanguard.pick(s.theirs, vanguard.settled(
                           vanguard.pick('{}', s.mine || s.restored) || s.value, s.delta, $4))
           END AS base,
           s.whole = 'theirs' OR s.whole IS NULL AND s.cells = '{}' AS ends
      FROM settled AS s
)
UPDATE pfa.change AS c
   SET id = DEFAULT, op = r.op, delta = r.delta, base = r.base,
       state = CASE WHEN r.ends THEN 'rejected' ELSE c.state END,
       settled_at = CASE WHEN r.ends THEN $5::timestamptz END
  FROM resolved AS r
 WHERE c.ctid = r.place
   AND c.state = 'in_review'
RETURNING c.row_key;
