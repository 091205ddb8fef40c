-- Changes that ended before a time are forgotten, some at a time; what they did is in the history. Those of a change
-- request go with it.
-- $1 organization, $2 before (timestamptz), $3 limit (bigint). Returns forgotten, their number.
WITH old AS (
    SELECT c.id
      FROM pfa.change AS c
     WHERE c.organization_id = $1
       AND c.state = ANY (vanguard.ended())
       AND c.settled_at < $2
       AND c.change_request_id IS NULL
     ORDER BY c.id
     LIMIT $3
),
gone AS (
    DELETE FROM pfa.change AS c
     USING old AS o
     WHERE c.organization_id = $1
       AND c.id = o.id
    RETURNING c.id
)
SELECT count(*) AS forgotten FROM gone;
