-- Rows and page are built as jsonb, and written as text in the end.
keys AS MATERIALIZED (
    SELECT arm.*
      FROM (
    (SELECT m.f_forecast_start AS s_forecast_start, m.row_key
       FROM pfa.mirror AS m
      WHERE m.organization_id = $1
        AND NOT EXISTS (SELECT FROM pfa.modification AS x
                         WHERE x.organization_id = $1 AND x.user_id = $3 AND x.row_key = m.row_key AND x.leaves)
      ORDER BY s_forecast_start, row_key LIMIT 101)
    UNION ALL
    (SELECT x.a_forecast_start AS s_forecast_start, x.row_key
       FROM pfa.modification AS x
      WHERE x.organization_id = $1 AND x.user_id = $3
        AND x.lands
      ORDER BY s_forecast_start, row_key LIMIT 101)
      ) AS arm
     ORDER BY s_forecast_start, row_key
     LIMIT $4::bigint + $5::bigint + 1
),
rendered AS (
    SELECT p.*,
           jsonb_build_object(
               'id', p.row_key,
               'data', d.doc,
               'syncState', CASE WHEN x.row_key IS NULL THEN 'pristine' ELSE x.sync_state END,
               'version', coalesce(x.version, 0),
               'mirrorVersion', coalesce(m.version, 0),
               'modifiedFields', (SELECT coalesce(jsonb_agg(name ORDER BY name COLLATE "C"), '[]')
                                    FROM jsonb_object_keys(x.pending || x.delta) AS name),
               'modifiedAt', vanguard.utc(x.modified_at),
               'modifiedBy', CASE WHEN x.row_key IS NOT NULL THEN $3::text END,
               'conflicts', coalesce(x.conflicts, '[]')) AS body
      FROM page AS p
      LEFT JOIN LATERAL (
               SELECT m.data, m.version
                 FROM pfa.mirror AS m
                WHERE m.organization_id = $1 AND m.row_key = p.row_key
                LIMIT 1
           ) AS m ON TRUE
      LEFT JOIN LATERAL (
               SELECT x.row_key, x.pending, x.delta, x.sync_state, x.version, x.modified_at, x.conflicts
                 FROM pfa.modification AS x
                WHERE x.organization_id = $1 AND x.user_id = $3 AND x.row_key = p.row_key
                LIMIT 1
           ) AS x ON TRUE
     CROSS JOIN LATERAL (
               SELECT CASE WHEN x.row_key IS NULL THEN m.data
                           ELSE coalesce(m.data, '{}') || x.pending || x.delta END AS doc
               OFFSET 0
           ) AS d
)
SELECT s.revision, s.workspace_revision,
       convert_to((SELECT coalesce(jsonb_agg(r.body ORDER BY s_forecast_start, row_key), '[]')
                     FROM rendered AS r)::text, 'UTF8') AS body,
       (SELECT count(*) FROM keys) AS reached,
       l.row_key AS last_key,
       ARRAY[l.s_forecast_start::text]::text[] AS last_values,
       NULL::bigint AS base_count,
       0::bigint AS left_count,
       0::bigint AS landed_count
  FROM standing AS s
  LEFT JOIN (SELECT k.*
               FROM keys AS k
              ORDER BY s_forecast_start, row_key
             OFFSET $4::bigint + $5::bigint - 1
              LIMIT 1) AS l ON TRUE
