-- Take back what upstream refused: the caller's changes of these rows from the first refused one on return to the
-- draft, under what was drafted since. The caller holds locks 2, 3 and 4; fold_pending and image_modifications follow.
-- $1 organization, $2 user, $3 keys (text[]), $4 at (timestamptz now). Returns row_key.
--
-- base of a field is what it was when it was first touched, so that the three sides are those of the refusal. What
-- waited behind a refused change comes back with it: it was made on top of it.
--
-- Plan: the unfinished changes of these rows, once; they and the modifications again by their place.
WITH unfinished AS (
    SELECT f.ctid AS place, f.id,
           min(f.id) FILTER (WHERE f.state = ANY (vanguard.refused())) OVER (PARTITION BY f.row_key) AS first_refused
      FROM pfa.change AS f
     WHERE f.organization_id = $1
       AND f.user_id = $2
       AND f.row_key = ANY ($3::text[])
       AND f.state = ANY (vanguard.unfinished())
),
taken AS (
    UPDATE pfa.change AS c
       SET state = 'rejected', settled_at = $4, next_attempt_at = NULL
      FROM unfinished AS u
     WHERE c.ctid = u.place
       AND u.id >= u.first_refused
       AND c.state IN ('committed', 'conflict', 'sync_error')
    RETURNING c.id, c.row_key, c.op, c.base, c.delta, c.change_reason
),
layer AS (
    SELECT t.row_key,
           vanguard.fold_layers(t.op, t.delta ORDER BY t.id) AS folded,
           vanguard.layers('insert', t.base ORDER BY t.id DESC) AS base,
           (array_agg(t.change_reason ORDER BY t.id DESC))[1] AS change_reason
      FROM taken AS t
     GROUP BY t.row_key
)
UPDATE pfa.modification AS x
   SET draft_op = d.draft ->> 'op',
       delta = d.draft -> 'delta',
       base = CASE WHEN d.draft ->> 'op' = 'insert' AND l.folded ->> 'op' <> 'insert' THEN '{}'
                   ELSE x.base || l.base END,
       change_reason = coalesce(x.change_reason, l.change_reason)
  FROM layer AS l
 CROSS JOIN LATERAL (
           SELECT x.ctid AS place, x.draft_op, x.delta
             FROM pfa.modification AS x
            WHERE x.organization_id = $1 AND x.user_id = $2 AND x.row_key = l.row_key
            LIMIT 1
       ) AS was
 CROSS JOIN LATERAL (
           SELECT CASE WHEN was.draft_op IS NULL THEN l.folded
                       ELSE vanguard.fold_layer(l.folded, was.draft_op, was.delta) END AS draft
       ) AS d
 WHERE x.ctid = was.place
RETURNING x.row_key;
