-- Written by `python -m benchmarks.pgbench --write`: GET D/rows?category=...&source=...&sort=forecastStart&count=none.
PREPARE statement_1 AS
-- A page of the caller's view: mirror || pending || delta, filtered, sorted and counted on merged values.
--
-- $1 organization, $2 dataset, $3 user, $4 offset (bigint), $5 limit (bigint: the page size), then what the markers
-- need (app/engine/page.py composes them).
-- Returns one row: revision, workspace_revision, body (bytea, the page's rows as a JSON array), reached (how many of
-- offset + limit + 1 rows there are), last_key and last_values (text[], for the next cursor; NULL where the page is not
-- full), base_count (mirror rows that pass the filter, NULL when not asked), left_count and landed_count (the caller's
-- covering modifications: how many of them the mirror's count has too much, and too little). No row: no such dataset.
--
-- Arm one walks the mirror in sort order without the rows that the caller's modifications cover; arm two walks those
-- modifications in the same order by their after-image. Both yield keys; documents are fetched for the page alone.
-- Everything comes from one snapshot.
--
-- direct is arm one where an index ascends in this order: a short walk with the documents at hand, beside the caller's
-- modifications in the order of their before-image, so that nothing is looked up row by row. It leaves the row out
-- (NULL) where a modification is merged in place. walk tells what became of it: ended before the page was full; and
-- cut, when it may have stopped at its limit, for drafts took so many rows away. Then arm one begins anew with keys
-- alone, from indexes alone.
-- Where there is no such index, nothing reads direct, and arm one probes the covering modifications row by row.
-- Plan: merge anti-joins of equally ordered indexes, the second of them never executed but after a cut; Merge Append of
-- the arms; primary keys for drafted rows; for an exact total one pass over the caller's covering modifications.
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
direct AS MATERIALIZED (
    SELECT m.s_forecast_start, m.row_key,
           CASE WHEN x.row_key IS NULL THEN
               concat('{"id":', to_json(m.row_key), ',"data":', m.data,
                      ',"syncState":"pristine","version":0,"mirrorVersion":', m.version,
                      ',"modifiedFields":[],"modifiedAt":null,"modifiedBy":null,"conflicts":[]}')
           END AS row
      FROM (
               SELECT m.f_forecast_start AS s_forecast_start, m.row_key AS row_key, m.data, m.version
                 FROM pfa.mirror AS m
                WHERE m.organization_id = $1 AND m.f_category = $6::text AND m.f_source = $7::text AND m.f_forecast_start IS NOT NULL
                ORDER BY s_forecast_start, row_key
                LIMIT 505
           ) AS m
      LEFT JOIN pfa.modification AS x
             ON x.organization_id = $1 AND x.user_id = $3 AND NOT x.leaves
            AND x.b_forecast_start IS NOT NULL AND x.b_forecast_start = m.s_forecast_start AND x.row_key = m.row_key
     WHERE NOT EXISTS (SELECT FROM pfa.modification AS x
                        WHERE x.organization_id = $1 AND x.user_id = $3 AND x.leaves
                          AND x.b_forecast_start IS NOT NULL AND x.b_forecast_start = m.s_forecast_start AND x.row_key = m.row_key)
     ORDER BY s_forecast_start, row_key
     LIMIT $5::bigint + 1
),
walk AS MATERIALIZED (
    SELECT count(*) <= $5::bigint AS ended,
           count(*) <= $5::bigint
           AND count(*) + (SELECT count(*)
                             FROM (SELECT FROM pfa.modification AS x
                                    WHERE x.organization_id = $1 AND x.user_id = $3 AND x.leaves
                                    LIMIT 505) AS l) >= 505 AS cut
      FROM direct
),
keys AS MATERIALIZED (
    SELECT arm.*
      FROM (
    (SELECT arm.*, NULL::text AS row
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
            ) AS arm)
      ) AS arm
     ORDER BY s_forecast_start, row_key
     LIMIT $4::bigint + $5::bigint + 1
),
page AS (
    SELECT k.*
      FROM keys AS k
     ORDER BY s_forecast_start, row_key
    OFFSET $4::bigint
     LIMIT $5::bigint
),
rendered AS (
    SELECT p.*,
           coalesce(p.row, concat(
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
               '}')) AS body
      FROM page AS p
      LEFT JOIN LATERAL (
               SELECT m.data, m.version
                 FROM pfa.mirror AS m
                WHERE m.organization_id = $1 AND m.row_key = p.row_key AND p.row IS NULL
                LIMIT 1
           ) AS m ON TRUE
      LEFT JOIN LATERAL (
               SELECT x.row_key, x.pending, x.delta, x.sync_state, x.version, x.modified_at, x.conflicts
                 FROM pfa.modification AS x
                WHERE x.organization_id = $1 AND x.user_id = $3 AND x.row_key = p.row_key AND p.row IS NULL
                LIMIT 1
           ) AS x ON TRUE
     CROSS JOIN LATERAL (
               SELECT CASE WHEN x.row_key IS NULL THEN m.data
                           ELSE coalesce(m.data, '{}') || x.pending || x.delta END AS doc
               OFFSET 0
           ) AS d
)
SELECT s.revision, s.workspace_revision,
       convert_to(coalesce('[' || (SELECT string_agg(r.body, ',' ORDER BY s_forecast_start, row_key)
                                     FROM rendered AS r) || ']', '[]'), 'UTF8') AS body,
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
              LIMIT 1) AS l ON TRUE;
EXECUTE statement_1 ('acme', 'pfa', 'nobody', 0, 100, 'Cranes', 'Rental'); -- 18,000 lines pass
EXECUTE statement_1 ('acme', 'pfa', 'nobody', 0, 100, 'Aerial Lifts', 'Purchase'); -- 200 lines pass
