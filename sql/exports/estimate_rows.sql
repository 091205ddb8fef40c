-- The planner's estimate of the rows that sql/exports/read_rows.sql reads: only its plan is looked at, it never runs.
-- $1 organization, $2 dataset, $3 user, then what the markers need.
EXPLAIN (FORMAT JSON)
SELECT r.row_key
  FROM (
    /*{arms}*/
    SELECT m.row_key
      FROM pfa.mirror AS m
     WHERE m.organization_id = $1
       AND NOT EXISTS (SELECT FROM pfa.modification AS x
                        WHERE x.organization_id = $1 AND x.user_id = $3 AND x.row_key = m.row_key)
    /*{}*/
       ) AS r
 WHERE EXISTS (SELECT FROM pfa.dataset AS d WHERE d.organization_id = $1 AND d.name = $2);
