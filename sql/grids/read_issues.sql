-- What a session has edited in some rows, and what there is to check of them.
-- $1 organization, $2 user, $3 session (text), $4 keys (text[]), $5 unruled_fields (text[]: the fields that no rule
-- looks at).
-- Returns row_key, edited (text[]: fields that are drafted), before (what lies beneath the draft, NULL for a new row),
-- after (what the draft makes of it, NULL for a deletion), both without the unruled fields, and refused (jsonb:
-- [{field, findings}] of the values that went into no draft, the last of each cell).
--
-- Plan: primary keys by nested loops, edit_refused for each row; what came after a refused edit by edit_cell.
SELECT k.key AS row_key,
       CASE WHEN x.draft_op IS NOT NULL THEN ARRAY(SELECT jsonb_object_keys(x.delta)) ELSE '{}' END AS edited,
       CASE WHEN x.draft_op IS NOT NULL THEN m.data || x.pending - $5::text[] END AS before,
       CASE WHEN x.draft_op <> 'delete' THEN coalesce(m.data, '{}') || x.pending || x.delta - $5 END AS after,
       r.refused
  FROM unnest($4::text[]) AS k (key)
  LEFT JOIN LATERAL (
           SELECT x.draft_op, x.pending, x.delta
             FROM pfa.modification AS x
            WHERE x.organization_id = $1 AND x.user_id = $2 AND x.row_key = k.key AND x.session_id = $3
            LIMIT 1
       ) AS x ON TRUE
  LEFT JOIN LATERAL (
           SELECT m.data FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = k.key LIMIT 1
       ) AS m ON TRUE
 CROSS JOIN LATERAL (
           SELECT coalesce(jsonb_agg(jsonb_build_object('field', e.field, 'findings', e.findings) ORDER BY e.field),
                           '[]') AS refused
             FROM pfa.edit AS e
            WHERE e.organization_id = $1
              AND e.session_id = $3
              AND e.row_key = k.key
              AND NOT e.held
              AND NOT EXISTS (SELECT FROM pfa.step AS s
                               WHERE s.organization_id = $1 AND s.user_id = $2 AND s.session_id = $3
                                 AND s.number = e.step AND s.state <> 'done'
                              OFFSET 0)
              AND NOT EXISTS (SELECT FROM pfa.edit AS later
                               WHERE later.organization_id = $1 AND later.session_id = $3 AND later.row_key = k.key
                                 AND later.field = e.field AND later.id > e.id
                                 AND NOT EXISTS (SELECT FROM pfa.step AS s
                                                  WHERE s.organization_id = $1 AND s.user_id = $2 AND s.session_id = $3
                                                    AND s.number = later.step AND s.state <> 'done'
                                                 OFFSET 0)
                              OFFSET 0)
       ) AS r;
