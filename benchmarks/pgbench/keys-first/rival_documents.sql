-- The arms yield documents: each row that they walk over is fetched from its table.
PREPARE statement_1 AS
WITH standing AS (
    SELECT d.revision,
           coalesce((SELECT w.revision
                       FROM public.workspace AS w
                      WHERE w.organization_id = $1 AND w.dataset = $2 AND w.user_id = $3), 0) AS workspace_revision
      FROM public.dataset AS d
     WHERE d.organization_id = $1
       AND d.name = $2
),
covering AS MATERIALIZED (
    SELECT x.leaves AS left_filter,
           x.lands AS landed_filter
      FROM pfa.modification AS x
     WHERE x.organization_id = $1
       AND x.user_id = $3
       AND (x.leaves OR x.lands)
),
keys AS MATERIALIZED (
    SELECT arm.*
      FROM (
    (SELECT m.f_forecast_start AS s_forecast_start, m.row_key, m.data, m.version
       FROM pfa.mirror AS m
      WHERE m.organization_id = $1
        AND NOT EXISTS (SELECT FROM pfa.modification AS x WHERE x.organization_id = $1 AND x.user_id = $3 AND x.row_key = m.row_key AND x.leaves)
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
placed AS (
    SELECT k.row_key, k.data, k.version, ARRAY[s_forecast_start::text]::text[] AS sort_values,
           row_number() OVER (ORDER BY s_forecast_start, row_key) AS place
      FROM keys AS k
),
page AS (
    SELECT p.row_key, p.data, p.version, p.sort_values, p.place
      FROM placed AS p
     WHERE p.place > $4::bigint
       AND p.place <= $4::bigint + $5::bigint
),
rendered AS (
    SELECT p.place,
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
               NULL,
               '}') AS row
      FROM page AS p
      LEFT JOIN LATERAL (
               SELECT x.row_key, x.pending, x.delta, x.sync_state, x.version, x.modified_at, x.conflicts
                 FROM pfa.modification AS x
                WHERE x.organization_id = $1 AND x.user_id = $3 AND x.row_key = p.row_key
                LIMIT 1
           ) AS x ON TRUE
     CROSS JOIN LATERAL (
               SELECT CASE WHEN x.row_key IS NULL THEN p.data ELSE coalesce(p.data, '{}') || x.pending || x.delta END AS doc
               OFFSET 0
           ) AS d
)
SELECT s.revision, s.workspace_revision,
       convert_to(coalesce('[' || (SELECT string_agg(r.row, ',' ORDER BY r.place) FROM rendered AS r) || ']', '[]'), 'UTF8') AS body,
       (SELECT count(*) FROM keys) AS reached,
       l.row_key AS last_key,
       l.sort_values AS last_values,
       NULL::bigint AS base_count,
       0::bigint AS left_count,
       0::bigint AS landed_count
  FROM standing AS s
  LEFT JOIN (SELECT p.row_key, p.sort_values FROM page AS p ORDER BY p.place DESC LIMIT 1) AS l ON TRUE;
EXECUTE statement_1 ('acme', 'pfa', 'nobody', 0, 100); -- no drafts
EXECUTE statement_1 ('acme', 'pfa', 'spread', 0, 100); -- 10,000 drafts, spread
EXECUTE statement_1 ('acme', 'pfa', 'mover', 0, 100); -- 50,000 drafts that move the head to the end
