-- Drop the staged rows that the mirror has just so: nothing is written for them. Before any lock.
-- $1 organization. Returns unchanged, their number.
-- Plan: the staged rows, each by the mirror's primary key.
WITH same AS (
    DELETE FROM staged AS s
     USING pfa.mirror AS m
     WHERE m.organization_id = $1
       AND m.row_key = s.row_key
       AND m.data = s.data
    RETURNING s.row_key
)
SELECT count(*) AS unchanged FROM same;
