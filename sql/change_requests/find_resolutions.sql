-- What was done about these conflicts before, noted as used.
-- $1 organization, $2 dataset, $3 conflicts (jsonb: [{id, field, base, theirs, mine}]), $4 at (timestamptz now).
-- Returns id, row_key, field, use, value, actor.
-- Plan: resolution_row, an entry or two for each.
WITH known AS MATERIALIZED (
    SELECT k.id
      FROM jsonb_to_recordset($3::jsonb) AS g (id text, field text, base jsonb, theirs jsonb, mine jsonb)
     CROSS JOIN LATERAL (
               SELECT n.id
                 FROM public.resolution AS n
                WHERE n.organization_id = $1
                  AND n.dataset = $2
                  AND n.row_key = g.id
                  AND n.field IS NOT DISTINCT FROM g.field
                  AND n.base = coalesce(g.base, 'null')
                  AND n.theirs = coalesce(g.theirs, 'null')
                  AND n.mine = coalesce(g.mine, 'null')
                LIMIT 1
           ) AS k
)
UPDATE public.resolution AS n
   SET used = n.used + 1, used_at = $4
 WHERE n.organization_id = $1
   AND n.id = ANY (ARRAY(SELECT k.id FROM known AS k))
RETURNING n.id, n.row_key, n.field, n.use, n.value, n.actor;
