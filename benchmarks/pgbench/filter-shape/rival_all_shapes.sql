-- One statement for every filter: a parameter that is NULL does not filter.
keys AS MATERIALIZED (
    SELECT arm.*
      FROM (
    (SELECT m.f_forecast_start AS s_forecast_start, m.row_key, NULL::text AS row
       FROM pfa.mirror AS m
      WHERE m.organization_id = $1
        AND ($6::text IS NULL OR m.f_category = $6::text)
        AND ($7::text IS NULL OR m.f_source = $7::text)
        AND NOT EXISTS (SELECT FROM pfa.modification AS x
                         WHERE x.organization_id = $1 AND x.user_id = $3 AND x.row_key = m.row_key AND x.leaves)
      ORDER BY s_forecast_start, row_key LIMIT 101)
    UNION ALL
    (SELECT x.a_forecast_start AS s_forecast_start, x.row_key, NULL::text AS row
       FROM pfa.modification AS x
      WHERE x.organization_id = $1 AND x.user_id = $3
        AND x.lands
        AND ($6::text IS NULL OR x.a_category = $6::text)
        AND ($7::text IS NULL OR x.a_source = $7::text)
      ORDER BY s_forecast_start, row_key LIMIT 101)
      ) AS arm
     ORDER BY s_forecast_start, row_key
     LIMIT $4::bigint + $5::bigint + 1
)
