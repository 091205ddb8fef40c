-- Filters and sorts by the merged values as they are: right (but for a drafted null), and no index serves it.
keys AS MATERIALIZED (
    SELECT arm.*
      FROM (
    (SELECT coalesce(vanguard.as_date(x.delta, 'forecastStart'), m.f_forecast_start) AS s_forecast_start, m.row_key,
            NULL::text AS row
       FROM pfa.mirror AS m
       LEFT JOIN pfa.modification AS x ON x.organization_id = $1 AND x.user_id = $3 AND x.row_key = m.row_key
      WHERE m.organization_id = $1
        AND x.draft_op IS DISTINCT FROM 'delete'
        AND coalesce(vanguard.as_text(x.delta, 'category'), m.f_category) = $6::text
      ORDER BY s_forecast_start, row_key LIMIT 101)
      ) AS arm
     ORDER BY s_forecast_start, row_key
     LIMIT $4::bigint + $5::bigint + 1
)
