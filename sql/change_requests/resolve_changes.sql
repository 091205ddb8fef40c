-- Carry resolutions out on a request's changes under review: mine stays and takes theirs as its new base, theirs leaves
-- the change, base and a value replace mine over theirs. The caller holds the request's lock, 2 and 4 on these rows;
-- fold_pending and image_modifications follow.
--
-- $1 organization, $2 request_id (uuid), $3 resolutions (jsonb, a row once: [{id, whole: mine|theirs|null, mine[],
-- theirs[], base[], value{}}] with the fields of whole cells), $4 groups (jsonb atomic groups), $5 at (timestamptz
-- now).
-- Returns row_key of each.
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
resolved AS (
    SELECT p.place,
           CASE WHEN p.whole = 'mine' AND p.op = 'update' AND p.theirs IS NULL THEN 'insert'
                WHEN p.op = 'insert' AND p.theirs IS NOT NULL THEN 'update'
                ELSE p.op END AS op,
           CASE
               WHEN p.whole = 'mine' AND p.op = 'update' AND p.theirs IS NULL THEN p.base || p.delta
               WHEN p.op = 'delete' THEN '{}'
               ELSE (p.delta || vanguard.pick(p.base || p.delta, p.mine) || vanguard.pick(p.base, p.restored))
                    - p.given_up || p.value
           END AS delta,
           CASE
               WHEN p.whole = 'mine' AND p.op = 'update' AND p.theirs IS NULL THEN '{}'
               WHEN p.op = 'delete' THEN coalesce(p.theirs, '{}')
               WHEN p.op = 'insert' THEN vanguard.pick(p.theirs, vanguard.touched(p.delta || p.value, $4))
               ELSE p.base || vanguard.pick(p.theirs, p.mine) || vanguard.pick(p.theirs, p.restored)
                    || vanguard.pick(p.theirs, vanguard.touched(p.value, $4))
           END AS base,
           p.whole = 'theirs'
           OR p.whole IS NULL
              AND ((p.delta || vanguard.pick(p.base || p.delta, p.mine) || vanguard.pick(p.base, p.restored))
                   - p.given_up || p.value) = '{}' AS ends
      FROM present AS p
)
UPDATE pfa.change AS c
   SET id = DEFAULT, op = r.op, delta = r.delta, base = r.base,
       state = CASE WHEN r.ends THEN 'rejected' ELSE c.state END,
       settled_at = CASE WHEN r.ends THEN $5::timestamptz END
  FROM resolved AS r
 WHERE c.ctid = r.place
   AND c.state = 'in_review'
RETURNING c.row_key;
