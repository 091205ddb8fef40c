-- Changes under review, or cells of them, return to their author's drafts, under what was drafted since. The caller
-- holds locks 2, 3 and 4 on these rows; fold_pending and image_modifications follow.
--
-- $1 organization, $2 user (the author), $3 request_id (uuid), $4 cells (jsonb: {row: [fields of whole cells], or null
-- for all of the row}, or NULL for the whole request), $5 session (text: the session that the drafts belong to, or
-- NULL), $6 version (bigint: the workspace's new revision), $7 at (timestamptz now), $8 groups (jsonb: how fields
-- merge).
-- Returns row_key of each.
--
-- A cell of a new row that is not accepted becomes a draft over the row that is.
-- Plan: the request's changes by change_of_request, once; they again by their place, the modification of each row by
-- its primary key.
WITH present AS MATERIALIZED (
    SELECT c.ctid AS place, c.row_key, c.op, c.base, c.delta, c.change_reason, w.fields,
           w.fields IS NULL OR c.op = 'delete' OR c.delta - w.fields = '{}' AND c.op = 'update' AS whole
      FROM pfa.change AS c
      LEFT JOIN LATERAL (
               SELECT CASE WHEN jsonb_typeof($4::jsonb -> c.row_key) = 'array'
                           THEN ARRAY(SELECT jsonb_array_elements_text($4 -> c.row_key)) END AS fields
           ) AS w ON TRUE
     WHERE c.organization_id = $1
       AND c.change_request_id = $3
       AND c.state = 'in_review'
       AND ($4 IS NULL OR $4 ? c.row_key)
),
ended AS (
    UPDATE pfa.change AS c
       SET state = 'rejected', settled_at = $7
      FROM present AS p
     WHERE c.ctid = p.place
       AND p.whole
       AND c.state = 'in_review'
),
kept AS (
    UPDATE pfa.change AS c
       SET delta = p.delta - p.fields
      FROM present AS p
     WHERE c.ctid = p.place
       AND NOT p.whole
       AND c.state = 'in_review'
),
layer AS (
    SELECT p.row_key, p.change_reason,
           CASE WHEN p.whole THEN p.op ELSE 'update' END AS op,
           CASE WHEN p.whole THEN p.delta
                ELSE (SELECT coalesce(jsonb_object_agg(field.key, field.value), '{}')
                        FROM jsonb_each(p.delta) AS field
                       WHERE field.key = ANY (p.fields)) END AS delta,
           CASE WHEN p.whole THEN p.base
                -- What of the row is accepted was drafted with the cell, and is no change of somebody else's.
                ELSE vanguard.pick(p.base || (p.delta - p.fields),
                                   vanguard.touched(vanguard.pick('{}', to_jsonb(p.fields)), $8)) END AS base
      FROM present AS p
)
UPDATE pfa.modification AS x
   SET draft_op = d.draft ->> 'op',
       delta = d.draft -> 'delta',
       base = CASE WHEN d.draft ->> 'op' = 'insert' AND l.op <> 'insert' THEN '{}' ELSE x.base || l.base END,
       session_id = coalesce(was.session_id, $5),
       change_reason = coalesce(x.change_reason, l.change_reason),
       version = $6, modified_at = $7
  FROM layer AS l
 CROSS JOIN LATERAL (
           SELECT x.ctid AS place, x.draft_op, x.delta, x.session_id
             FROM pfa.modification AS x
            WHERE x.organization_id = $1 AND x.user_id = $2 AND x.row_key = l.row_key
            LIMIT 1
       ) AS was
 CROSS JOIN LATERAL (
           SELECT CASE WHEN was.draft_op IS NULL THEN jsonb_build_object('op', l.op, 'delta', l.delta)
                       ELSE vanguard.fold_layer(jsonb_build_object('op', l.op, 'delta', l.delta),
                                                was.draft_op, was.delta) END AS draft
       ) AS d
 WHERE x.ctid = was.place
RETURNING x.row_key;
