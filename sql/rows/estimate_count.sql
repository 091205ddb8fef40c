-- The planner's estimate of the mirror rows that pass a filter: only its plan is looked at, it never runs.
-- $1 organization, then what the filter needs.
EXPLAIN (FORMAT JSON)
SELECT m.row_key
  FROM pfa.mirror AS m
 WHERE m.organization_id = $1
   AND /*{filter}*/TRUE/*{}*/;
