-- Everybody's modifications of a version, with the row that each lies on, there and in the version that it goes to.
-- $1 organization, $2 after_user (text), $3 after_key (text: only modifications beyond these two), $4 limit (bigint).
-- Returns user_id, row_key, pending_op, pending, pending_state, draft_op, delta, base, version, session_id,
-- change_reason, modified_at, id, data (jsonb: the row's document, NULL where there is none), there (jsonb: of the
-- other version), taken (boolean: whether the other version has a modification there already). Plan: the primary keys
-- of modifications and mirrors.
SELECT x.user_id, x.row_key, x.pending_op, x.pending, x.pending_state, x.draft_op, x.delta, x.base, x.version,
       x.session_id, x.change_reason, x.modified_at, x.id, m.data, n.data AS there,
       y.there IS NOT NULL AS taken
  FROM pfa.modification AS x
  LEFT JOIN LATERAL (
           SELECT m.data FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = x.row_key LIMIT 1
       ) AS m ON TRUE
  LEFT JOIN LATERAL (
           SELECT n.data
             FROM /*{other}*/pfa/*{}*/.mirror AS n
            WHERE n.organization_id = $1 AND n.row_key = x.row_key
            LIMIT 1
       ) AS n ON TRUE
  LEFT JOIN LATERAL (
           SELECT TRUE AS there
             FROM /*{other}*/pfa/*{}*/.modification AS y
            WHERE y.organization_id = $1 AND y.user_id = x.user_id AND y.row_key = x.row_key
            LIMIT 1
       ) AS y ON TRUE
 WHERE x.organization_id = $1
   AND (x.user_id, x.row_key) > ($2, $3)
 ORDER BY x.user_id, x.row_key
 LIMIT $4;
