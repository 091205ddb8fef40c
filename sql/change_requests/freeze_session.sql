-- Freeze a session's drafts into changes under review: each row's delta with its base, as it was drafted, and the delta
-- moved to pending. The caller holds locks 2, 3 and 4 on these rows.
--
-- $1 organization, $2 user, $3 session_id (text), $4 request_id (uuid), $5 version (bigint: the workspace's new
-- revision), $6 at (timestamptz now).
-- Returns row_key of each.
--
-- Plan: the user's modifications by their primary key, once; they again by their place: nobody else writes them.
WITH present AS MATERIALIZED (
    SELECT x.ctid AS place, x.row_key, x.draft_op, x.delta, x.base, x.change_reason, x.pending_op, x.pending,
           x.pending_state
      FROM pfa.modification AS x
     WHERE x.organization_id = $1
       AND x.user_id = $2
       AND x.session_id = $3
       AND x.draft_op IS NOT NULL
),
frozen AS (
    INSERT INTO pfa.change (organization_id, row_key, user_id, op, base, delta, state, change_request_id,
                            change_reason, created_at)
    SELECT $1, p.row_key, $2, p.draft_op, CASE p.draft_op WHEN 'insert' THEN '{}' ELSE p.base END, p.delta,
           'in_review', $4, p.change_reason, $6
      FROM present AS p
     ORDER BY p.row_key
    RETURNING row_key
)
UPDATE pfa.modification AS x
   SET draft_op = NULL, delta = '{}', base = '{}', conflicts = NULL, session_id = NULL, change_reason = NULL,
       version = $5, modified_at = $6,
       pending_op = CASE WHEN p.pending_op IS NULL THEN p.draft_op ELSE layer.folded ->> 'op' END,
       pending = CASE WHEN p.pending_op IS NULL THEN p.delta ELSE layer.folded -> 'delta' END,
       pending_state = coalesce(p.pending_state, 'in_review')
  FROM present AS p
 CROSS JOIN LATERAL (
           SELECT CASE WHEN p.pending_op IS NOT NULL
                       THEN vanguard.fold_layer(jsonb_build_object('op', p.pending_op, 'delta', p.pending),
                                                p.draft_op, p.delta) END AS folded
           OFFSET 0
       ) AS layer
 WHERE x.ctid = p.place
RETURNING x.row_key;
