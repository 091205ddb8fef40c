-- All steps of a session that are done, for its end.
-- $1 organization, $2 user, $3 session (text).
-- Returns numbers (bigint[]) and keys (text[]) of all of their rows; NULLs where there are none.
WITH found AS (
    SELECT s.number, s.rows
      FROM pfa.step AS s
     WHERE s.organization_id = $1
       AND s.user_id = $2
       AND s.session_id = $3
       AND s.state = 'done'
)
SELECT (SELECT array_agg(f.number) FROM found AS f) AS numbers,
       (SELECT array_agg(DISTINCT r.row_key) FROM found AS f CROSS JOIN LATERAL unnest(f.rows) AS r) AS keys;
