-- Every workspace of a dataset goes on: what its owner has seen is of another contract, and what they hold is another,
-- too. Lock 2 of all, in order.
-- $1 organization, $2 dataset. Returns user_id of each.
WITH held AS (
    SELECT w.user_id
      FROM public.workspace AS w
     WHERE w.organization_id = $1
       AND w.dataset = $2
     ORDER BY w.user_id
       FOR UPDATE
)
UPDATE public.workspace AS w
   SET revision = w.revision + 1, held_known = FALSE
  FROM held AS h
 WHERE w.organization_id = $1
   AND w.dataset = $2
   AND w.user_id = h.user_id
RETURNING w.user_id;
