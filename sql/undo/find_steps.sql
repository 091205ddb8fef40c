-- The steps that an undo or a redo is about: the newest one that is done, or the oldest that is undone, and those
-- beside it that carry the same undo group.
-- $1 organization, $2 user, $3 session (text: '' outside of any), $4 back (boolean: undo).
-- Returns numbers (bigint[]) and keys (text[]) of all of their rows; NULLs where there is nothing left.
--
-- Plan: step_of_session, backwards; of a group its own steps and the first beside them.
WITH first AS (
    SELECT s.number, s.undo_group
      FROM pfa.step AS s
     WHERE s.organization_id = $1
       AND s.user_id = $2
       AND s.session_id = $3
       AND s.state = CASE WHEN $4::boolean THEN 'done' ELSE 'undone' END
     ORDER BY CASE WHEN $4 THEN -s.number ELSE s.number END
     LIMIT 1
),
beyond AS (
    -- Of the same state; those of another are on the other side.
    SELECT CASE WHEN $4 THEN max(s.number) ELSE min(s.number) END AS number
      FROM pfa.step AS s, first AS f
     WHERE s.organization_id = $1
       AND s.user_id = $2
       AND s.session_id = $3
       AND s.state = CASE WHEN $4 THEN 'done' ELSE 'undone' END
       AND s.undo_group IS DISTINCT FROM f.undo_group
),
found AS (
    SELECT s.number, s.rows
      FROM pfa.step AS s, first AS f, beyond AS b
     WHERE s.organization_id = $1
       AND s.user_id = $2
       AND s.session_id = $3
       AND s.state = CASE WHEN $4 THEN 'done' ELSE 'undone' END
       AND (s.number = f.number
            OR f.undo_group IS NOT NULL AND s.undo_group = f.undo_group
               AND CASE WHEN $4 THEN s.number > coalesce(b.number, 0)
                        ELSE s.number < coalesce(b.number, s.number + 1) END)
)
SELECT (SELECT array_agg(f.number) FROM found AS f) AS numbers,
       (SELECT array_agg(DISTINCT r.row_key) FROM found AS f CROSS JOIN LATERAL unnest(f.rows) AS r) AS keys;
