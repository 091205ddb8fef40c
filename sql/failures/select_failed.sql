-- Whom and what a retry is about, read before any lock.
-- $1 organization, $2 value (what the selection compares: bigint[] changes, text[] row keys, or true for all).
-- Returns one row: keys (text[] rows of the selected changes, NULL where there are none), users (text[] who made them,
-- or have a modification of those rows), absent (the mirror lacks one of the rows).
WITH failed AS MATERIALIZED (
    SELECT c.row_key, c.user_id
      FROM pfa.change AS c
     WHERE c.organization_id = $1
       AND c.state = ANY (vanguard.refused())
       AND /*{selection}*/c.id = ANY ($2::bigint[])/*{}*/
),
concerned AS (
    SELECT DISTINCT f.row_key FROM failed AS f
)
SELECT (SELECT array_agg(c.row_key) FROM concerned AS c) AS keys,
       ARRAY(
           SELECT f.user_id FROM failed AS f
           UNION
           SELECT x.user_id
             FROM concerned AS c
             JOIN pfa.modification AS x ON x.organization_id = $1 AND x.row_key = c.row_key
       ) AS users,
       EXISTS (
           SELECT
             FROM concerned AS c
            WHERE NOT EXISTS (SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = c.row_key)
       ) AS absent;
