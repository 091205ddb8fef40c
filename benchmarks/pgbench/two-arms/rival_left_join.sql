-- The obvious query, and a wrong one: rows stand where the mirror has them, insertions are missing.
keys AS MATERIALIZED (
    SELECT arm.*
      FROM (
    (SELECT m.f_forecast_start AS s_forecast_start, m.row_key, NULL::text AS row
       FROM pfa.mirror AS m
       LEFT JOIN pfa.modification AS x ON x.organization_id = $1 AND x.user_id = $3 AND x.row_key = m.row_key
      WHERE m.organization_id = $1
        AND x.draft_op IS DISTINCT FROM 'delete'
      ORDER BY s_forecast_start, row_key LIMIT 101)
      ) AS arm
     ORDER BY s_forecast_start, row_key
     LIMIT $4::bigint + $5::bigint + 1
)
