-- The arms yield documents: each row that they walk over is fetched from its table.
keys AS MATERIALIZED (
    SELECT arm.*
      FROM (
    (SELECT m.f_forecast_start AS s_forecast_start, m.row_key, m.data, m.version
       FROM pfa.mirror AS m
      WHERE m.organization_id = $1
        AND NOT EXISTS (SELECT FROM pfa.modification AS x
                         WHERE x.organization_id = $1 AND x.user_id = $3 AND x.row_key = m.row_key AND x.leaves)
      ORDER BY s_forecast_start, row_key LIMIT 101)
    UNION ALL
    (SELECT x.a_forecast_start AS s_forecast_start, x.row_key, m.data, m.version
       FROM pfa.modification AS x
       LEFT JOIN pfa.mirror AS m ON m.organization_id = $1 AND m.row_key = x.row_key
      WHERE x.organization_id = $1 AND x.user_id = $3
        AND x.lands
      ORDER BY s_forecast_start, row_key LIMIT 101)
      ) AS arm
     ORDER BY s_forecast_start, row_key
     LIMIT $4::bigint + $5::bigint + 1
),
rendered AS (
    SELECT p.*,
           concat(
               '{"id":', to_json(p.row_key),
               ',"data":', d.doc,
               CASE WHEN x.row_key IS NULL THEN
                   concat(',"syncState":"pristine","version":0,"mirrorVersion":', p.version,
                          ',"modifiedFields":[],"modifiedAt":null,"modifiedBy":null,"conflicts":[]')
               ELSE
                   concat(',"syncState":', to_json(x.sync_state), ',"version":', x.version,
                          ',"mirrorVersion":', coalesce(p.version, 0),
                          ',"modifiedFields":', (SELECT coalesce(json_agg(name ORDER BY name COLLATE "C"), '[]')
                                                   FROM jsonb_object_keys(x.pending || x.delta) AS name),
                          ',"modifiedAt":', to_json(vanguard.utc(x.modified_at)), ',"modifiedBy":', to_json($3::text),
                          ',"conflicts":', coalesce(x.conflicts, '[]'))
               END,
               '}') AS body
      FROM page AS p
      LEFT JOIN LATERAL (
               SELECT x.row_key, x.pending, x.delta, x.sync_state, x.version, x.modified_at, x.conflicts
                 FROM pfa.modification AS x
                WHERE x.organization_id = $1 AND x.user_id = $3 AND x.row_key = p.row_key
                LIMIT 1
           ) AS x ON TRUE
     CROSS JOIN LATERAL (
               SELECT CASE WHEN x.row_key IS NULL THEN p.data
                           ELSE coalesce(p.data, '{}') || x.pending || x.delta END AS doc
               OFFSET 0
           ) AS d
)
