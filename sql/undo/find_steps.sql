-- The steps that an undo or a redo is about: the newest one that is done, or the oldest that is undone, and those
-- beside it that carry the same undo group.
-- $1 organization, $2 user, $3 session (text: '' outside of any), $4 back (boolean: undo).
-- Returns numbers (bigint[]) and keys (text[]) of all of their rows; NULLs where there is nothing left.
--
-- Plan: step_done from its end, or step_undone from its beginning on; of a group its own steps and the first beside
-- them.
WITH first AS MATERIALIZED (
    (SELECT s.number, s.undo_group
       FROM pfa.step AS s
      WHERE $4::boolean
        AND s.organization_id = $1
        AND s.user_id = $2
        AND s.session_id = $3
        AND s.state = 'done'
      ORDER BY s.number DESC
      LIMIT 1)
    UNION ALL
    (SELECT s.number, s.undo_group
       FROM pfa.step AS s
      WHERE NOT $4
        AND s.organization_id = $1
        AND s.user_id = $2
        AND s.session_id = $3
        AND s.state = 'undone'
      ORDER BY s.number
      LIMIT 1)
),
bounds AS MATERIALIZED (
    -- Up to the first step of the same state that is none of the group; those of another are on the other side.
    SELECT CASE WHEN $4 THEN coalesce(
               (SELECT s.number + 1
                  FROM pfa.step AS s
                 WHERE s.organization_id = $1
                   AND s.user_id = $2
                   AND s.session_id = $3
                   AND s.state = 'done'
                   AND s.number < f.number
                   AND (f.undo_group IS NULL OR s.undo_group IS DISTINCT FROM f.undo_group)
                 ORDER BY s.number DESC
                 LIMIT 1), 0)
           ELSE f.number END AS lowest,
           CASE WHEN $4 THEN f.number ELSE coalesce(
               (SELECT s.number - 1
                  FROM pfa.step AS s
                 WHERE s.organization_id = $1
                   AND s.user_id = $2
                   AND s.session_id = $3
                   AND s.state = 'undone'
                   AND s.number > f.number
                   AND (f.undo_group IS NULL OR s.undo_group IS DISTINCT FROM f.undo_group)
                 ORDER BY s.number
                 LIMIT 1), 9223372036854775807)
           END AS highest
      FROM first AS f
),
found AS MATERIALIZED (
    SELECT s.number, s.rows
      FROM bounds AS b
     CROSS JOIN LATERAL (
               SELECT s.number, s.rows
                 FROM pfa.step AS s
                WHERE s.organization_id = $1
                  AND s.user_id = $2
                  AND s.session_id = $3
                  AND s.state = CASE WHEN $4 THEN 'done' ELSE 'undone' END
                  AND s.number BETWEEN b.lowest AND b.highest
               OFFSET 0
           ) AS s
)
SELECT (SELECT array_agg(f.number) FROM found AS f) AS numbers,
       (SELECT array_agg(DISTINCT r.row_key) FROM found AS f CROSS JOIN LATERAL unnest(f.rows) AS r) AS keys;
