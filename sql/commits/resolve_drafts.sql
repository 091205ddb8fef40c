-- Carry out a caller's resolutions on the drafts themselves, before they are checked: mine takes theirs as the new
-- base, theirs leaves the draft, a value replaces mine. Theirs is what the conflict showed, or the caller says that it
-- saw: where it has moved again since, that is another conflict. The caller holds locks 2, 3 and 4 on these rows.
--
-- $1 organization, $2 user, $3 resolutions (jsonb, a row once: [{id, whole: mine|theirs|null, mine[], theirs[],
-- value{}, seen{}}] with the fields of whole cells), $4 groups (jsonb: how fields merge), $5 version (bigint: the
-- workspace's new revision), $6 at (timestamptz now).
-- Returns row_key, written: the fields that the draft is about, so that a resolution of anything else is refused.
WITH resolution AS (
    SELECT r.id, r.whole, r.mine, r.theirs, coalesce(r.value, '{}') AS value, coalesce(r.seen, '{}') AS seen
      FROM jsonb_to_recordset($3::jsonb) AS r (id text, whole text, mine jsonb, theirs text[], value jsonb, seen jsonb)
),
present AS (
    SELECT r.id, r.whole, r.mine, r.theirs AS given_up, r.value, x.draft_op, x.delta, x.base,
           x.place, m.data, x.pending, t.theirs,
           -- What a resolution is about; a value that the own draft shows is nothing of theirs.
           t.theirs || vanguard.shown(coalesce(x.conflicts, '[]'))
                    || (SELECT coalesce(jsonb_object_agg(field.key, field.value), '{}')
                          FROM jsonb_each(r.seen) AS field
                         WHERE field.value IS DISTINCT FROM x.delta -> field.key) AS settled
      FROM resolution AS r
     CROSS JOIN LATERAL (
               SELECT x.ctid AS place, x.draft_op, x.delta, x.base, x.pending, x.conflicts
                 FROM pfa.modification AS x
                WHERE x.organization_id = $1 AND x.user_id = $2 AND x.row_key = r.id AND x.draft_op IS NOT NULL
                LIMIT 1
           ) AS x
      LEFT JOIN LATERAL (
               SELECT m.data FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = r.id LIMIT 1
           ) AS m ON TRUE
     CROSS JOIN LATERAL (
               SELECT CASE WHEN pfa.in_flight($1, r.id) THEN pfa.theirs($1, $2, r.id, m.data)
                           ELSE m.data END AS theirs
               OFFSET 0
           ) AS t
),
resolved AS (
    SELECT p.place,
           vanguard.written(p.delta, $4) AS written,
           CASE
               WHEN p.whole = 'theirs' THEN NULL
               WHEN p.whole = 'mine' AND p.draft_op = 'update' AND p.theirs IS NULL THEN 'insert'
               WHEN p.whole IS NULL AND p.draft_op = 'update' AND (p.delta - p.given_up) || p.value = '{}' THEN NULL
               ELSE p.draft_op
           END AS draft_op,
           CASE
               WHEN p.whole = 'theirs' THEN '{}'
               WHEN p.whole = 'mine' AND p.draft_op = 'update' AND p.theirs IS NULL
                   THEN pfa.beneath($1, p.id, p.data, p.pending) || p.base || p.delta
               WHEN p.whole = 'mine' AND p.draft_op <> 'delete' AND p.theirs IS NOT NULL
                   THEN vanguard.pick(p.base || p.delta, vanguard.written(p.delta, $4))
               ELSE ((p.delta || vanguard.pick(p.base || p.delta, p.mine)) - p.given_up) || p.value
           END AS delta,
           CASE
               WHEN p.whole = 'mine' AND p.draft_op = 'delete' THEN coalesce(p.settled, '{}')
               WHEN p.whole = 'mine' AND p.theirs IS NOT NULL
                   THEN vanguard.pick(p.settled, vanguard.touched(p.delta, $4))
               WHEN p.whole IS NOT NULL THEN '{}'
               -- The row is gone: its base is what there is to insert again.
               WHEN p.draft_op = 'update' AND p.theirs IS NULL THEN p.base
               ELSE vanguard.present(
                        p.base || vanguard.pick(p.settled, to_jsonb(p.given_up)) || vanguard.pick(
                            p.settled, vanguard.settled(vanguard.pick('{}', p.mine) || p.value, p.delta, $4)),
                        vanguard.touched((p.delta || vanguard.pick('{}', p.mine)) - p.given_up || p.value, $4))
           END AS base
      FROM present AS p
)
UPDATE pfa.modification AS x
   SET draft_op = r.draft_op, delta = r.delta, base = r.base, version = $5, modified_at = $6
  FROM resolved AS r
 WHERE x.ctid = r.place
RETURNING x.row_key, r.written;
