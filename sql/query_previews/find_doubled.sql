-- Values of a join's parent that several rows of the caller's view have: a row of the child would come several times.
-- $1 organization, $2 limit (bigint), $3 user, then what the marker needs (app/engine/query/composing.py places them).
-- Returns the values of the parent's fields, as texts; no row where each is there once.
--
-- Plan: the parent's rows once, in a hash of the values.
/*{query}*/
SELECT s0.c_category::text
  FROM (
    SELECT m.row_key, m.f_category AS c_category
      FROM pfa.mirror AS m
     WHERE m.organization_id = $1
       AND NOT EXISTS (SELECT FROM pfa.modification AS x
                        WHERE x.organization_id = $1 AND x.user_id = $3
                          AND (x.leaves OR x.lands) AND x.row_key = m.row_key)
    UNION ALL
    SELECT x.row_key, x.a_category AS c_category
      FROM pfa.modification AS x
     WHERE x.organization_id = $1 AND x.user_id = $3 AND x.lands
       ) AS s0
 WHERE s0.c_category IS NOT NULL
 GROUP BY s0.c_category
HAVING count(*) > 1
/*{}*/
 LIMIT $2::bigint;
