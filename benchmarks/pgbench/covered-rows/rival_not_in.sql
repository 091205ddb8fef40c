-- A hash of all covered rows is made first, then asked for each row.
keys AS MATERIALIZED (
    SELECT arm.*
      FROM (
    (SELECT m.f_forecast_start AS s_forecast_start, m.row_key, NULL::text AS row
       FROM pfa.mirror AS m
      WHERE m.organization_id = $1
        AND m.row_key NOT IN (SELECT x.row_key FROM pfa.modification AS x
                               WHERE x.organization_id = $1 AND x.user_id = $3 AND x.leaves)
      ORDER BY s_forecast_start, row_key LIMIT 101)
    UNION ALL
    (SELECT x.a_forecast_start AS s_forecast_start, x.row_key, NULL::text AS row
       FROM pfa.modification AS x
      WHERE x.organization_id = $1 AND x.user_id = $3
        AND x.lands
      ORDER BY s_forecast_start, row_key LIMIT 101)
      ) AS arm
     ORDER BY s_forecast_start, row_key
     LIMIT $4::bigint + $5::bigint + 1
)
