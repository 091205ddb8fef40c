-- Drop the staged rows that the mirror has just so: nothing is written for them. Before any lock.
-- $1 organization. Returns unchanged, their number.
-- Plan: each staged row by the mirror's primary key. A subquery of one row, not a join: the planner knows nothing of
-- how many rows are staged, and would read all keys of the organization.
WITH same AS (
    DELETE FROM staged AS s
     WHERE s.data = (SELECT m.data FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = s.row_key LIMIT 1)
    RETURNING s.row_key
)
SELECT count(*) AS unchanged FROM same;
