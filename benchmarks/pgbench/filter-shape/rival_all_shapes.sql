-- Written by `python -m benchmarks.pgbench --write`: GET D/rows?category=...&source=...&sort=forecastStart&count=none.
PREPARE statement_1 AS
-- A page of the caller's view: mirror || pending || delta, filtered, sorted and counted on merged values.
--
-- $1 organization, $2 dataset, $3 user, $4 offset, $5 page size, then what the markers need (app/pages.py composes them).
-- Returns one row: revision, workspace_revision, body (bytea, the page's rows as a JSON array), reached (how many of
-- offset + page size + 1 rows there are), last_key and last_values (text[], for the next cursor), base_count (mirror rows
-- that pass the filter, NULL when not asked), left_count and landed_count (the caller's covering modifications: how many of
-- them the mirror's count has too much, and too little). No row: no such dataset.
--
-- Arm one walks the mirror in sort order without the rows that the caller's modifications cover; arm two walks those
-- modifications in the same order by their after-image. Both yield keys from covering indexes; documents are fetched for
-- the page alone. Everything comes from one snapshot.
-- Plan: Merge Append over index-only scans, the first an anti-join that probes the index of covering modifications row by
-- row; primary keys for the page; for an exact total one pass over the caller's covering modifications.
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
    SELECT x.leaves AND x.b_category = $6::text AND x.b_source = $7::text AS left_filter,
           x.lands AND x.a_category = $6::text AND x.a_source = $7::text AS landed_filter
      FROM pfa.modification AS x
     WHERE x.organization_id = $1
       AND x.user_id = $3
       AND (x.leaves OR x.lands)
),
keys AS MATERIALIZED (
    SELECT arm.*
      FROM (
    (SELECT m.f_forecast_start AS s_forecast_start, m.row_key
       FROM pfa.mirror AS m
      WHERE m.organization_id = $1
        AND ($6::text IS NULL OR m.f_category = $6::text)
        AND ($7::text IS NULL OR m.f_source = $7::text)
        AND NOT EXISTS (SELECT FROM pfa.modification AS x WHERE x.organization_id = $1 AND x.user_id = $3 AND x.row_key = m.row_key AND x.leaves)
      ORDER BY s_forecast_start, row_key LIMIT 101)
    UNION ALL
    (SELECT x.a_forecast_start AS s_forecast_start, x.row_key
       FROM pfa.modification AS x
      WHERE x.organization_id = $1 AND x.user_id = $3 AND x.lands
        AND ($6::text IS NULL OR x.a_category = $6::text)
        AND ($7::text IS NULL OR x.a_source = $7::text)
      ORDER BY s_forecast_start, row_key LIMIT 101)
      ) AS arm
     ORDER BY s_forecast_start, row_key
     LIMIT $4::bigint + $5::bigint + 1
),
placed AS (
    SELECT k.row_key, ARRAY[s_forecast_start::text]::text[] AS sort_values,
           row_number() OVER (ORDER BY s_forecast_start, row_key) AS place
      FROM keys AS k
),
page AS (
    SELECT p.row_key, p.sort_values, p.place
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
                   concat(',"syncState":"pristine","version":0,"mirrorVersion":', m.version,
                          ',"modifiedFields":[],"modifiedAt":null,"modifiedBy":null,"conflicts":[]')
               ELSE
                   concat(',"syncState":', to_json(x.sync_state), ',"version":', x.version,
                          ',"mirrorVersion":', coalesce(m.version, 0),
                          ',"modifiedFields":', (SELECT coalesce(json_agg(name ORDER BY name COLLATE "C"), '[]')
                                                   FROM jsonb_object_keys(x.pending || x.delta) AS name),
                          ',"modifiedAt":', to_json(vanguard.utc(x.modified_at)), ',"modifiedBy":', to_json($3::text),
                          ',"conflicts":', coalesce(x.conflicts, '[]'))
               END,
               NULL,
               '}') AS row
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
               SELECT CASE WHEN x.row_key IS NULL THEN m.data ELSE coalesce(m.data, '{}') || x.pending || x.delta END AS doc
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
EXECUTE statement_1 ('acme', 'pfa', 'nobody', 0, 100, 'Cranes', 'Rental'); -- 18,000 lines pass
EXECUTE statement_1 ('acme', 'pfa', 'nobody', 0, 100, 'Aerial Lifts', 'Purchase'); -- 200 lines pass
