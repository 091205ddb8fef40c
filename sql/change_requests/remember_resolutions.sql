-- Remember what was done about conflicts; what was remembered of the same ones is replaced.
-- $1 organization, $2 dataset, $3 resolutions (jsonb: [{id, field, base, theirs, mine, use, value}]), $4 actor, $5 at
-- (timestamptz now). Returns nothing.
-- Plan: resolution_row, an entry or two for each.
WITH given AS (
    SELECT r.id AS row_key, r.field, coalesce(r.base, 'null') AS base, coalesce(r.theirs, 'null') AS theirs,
           coalesce(r.mine, 'null') AS mine, r.use, r.value
      FROM jsonb_to_recordset($3::jsonb)
        AS r (id text, field text, base jsonb, theirs jsonb, mine jsonb, use text, value jsonb)
),
known AS MATERIALIZED (
    SELECT k.id
      FROM given AS g
     CROSS JOIN LATERAL (
               SELECT n.id
                 FROM public.resolution AS n
                WHERE n.organization_id = $1
                  AND n.dataset = $2
                  AND n.row_key = g.row_key
                  AND n.field IS NOT DISTINCT FROM g.field
                  AND n.base = g.base
                  AND n.theirs = g.theirs
                  AND n.mine = g.mine
                LIMIT 1
           ) AS k
),
gone AS (
    DELETE FROM public.resolution AS n
     WHERE n.organization_id = $1
       AND n.id = ANY (ARRAY(SELECT k.id FROM known AS k))
)
INSERT INTO public.resolution (organization_id, id, dataset, row_key, field, base, theirs, mine, use, value, actor, at)
SELECT $1, gen_random_uuid(), $2, g.row_key, g.field, g.base, g.theirs, g.mine, g.use, g.value, $4, $5
  FROM given AS g;
