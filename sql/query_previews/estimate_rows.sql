-- About how many rows a dataset's mirror has: only the plan is looked at. $1 organization.
-- Returns "QUERY PLAN" (text): the plan as JSON.
EXPLAIN (FORMAT JSON)
SELECT m.row_key FROM pfa.mirror AS m WHERE m.organization_id = $1;
