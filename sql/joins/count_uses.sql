-- Joins were used once more. $1 organization, $2 ids (uuid[]), $3 at (timestamptz now). Returns id of each.
-- Plan: the primary key, in one order, so that two that count the same joins do not wait for each other both.
WITH held AS (
    SELECT j.id
      FROM public.dataset_join AS j
     WHERE j.organization_id = $1
       AND j.id = ANY ($2::uuid[])
     ORDER BY j.id
       FOR NO KEY UPDATE
)
UPDATE public.dataset_join AS j
   SET uses = j.uses + 1, last_used_at = greatest(j.last_used_at, $3::timestamptz)
  FROM held AS h
 WHERE j.organization_id = $1
   AND j.id = h.id
RETURNING j.id;
