-- The rows of a question, and one more than its limit where there are more.
-- $1 organization, $2 limit (bigint), $3 user, then what the marker needs (app/engine/query/composing.py places them).
-- Returns a0 and on: the columns of the answer, in their order.
--
-- Read through a cursor, in a transaction that begin_query.sql has prepared: one snapshot, bounded in time and memory.
-- Plan: costs decide, for a question can be anything. Of each dataset the mirror is read once, without the rows that
-- the caller's modifications cover, which a hash of those finds; conditions go down to both arms. tests/test_queries.py
-- holds the plans of the usual questions.
/*{query}*/
SELECT s0.c_category AS a0, sum(s0.c_forecast_cost) AS a1
  FROM (
    SELECT m.row_key, m.f_category AS c_category, m.f_forecast_cost AS c_forecast_cost
      FROM pfa.mirror AS m
     WHERE m.organization_id = $1
       AND NOT EXISTS (SELECT FROM pfa.modification AS x
                        WHERE x.organization_id = $1 AND x.user_id = $3
                          AND (x.leaves OR x.lands) AND x.row_key = m.row_key)
    UNION ALL
    SELECT x.row_key, x.a_category AS c_category, x.a_forecast_cost AS c_forecast_cost
      FROM pfa.modification AS x
     WHERE x.organization_id = $1 AND x.user_id = $3 AND x.lands
       ) AS s0
 GROUP BY s0.c_category
 ORDER BY s0.c_category
/*{}*/
 LIMIT $2::bigint;
