-- Go on with a dataset's synchronization. $1 organization, $2 dataset.
-- Returns paused, moved (whether it was before: the row is locked first, so that of two at once one has moved it); no
-- row where nothing is connected.
WITH was AS MATERIALIZED (
    SELECT s.paused_at
      FROM public.synchronization AS s
     WHERE s.organization_id = $1
       AND s.dataset = $2
       FOR NO KEY UPDATE
)
UPDATE public.synchronization AS s
   SET paused_at = NULL, paused_by = NULL
  FROM was
 WHERE s.organization_id = $1
   AND s.dataset = $2
RETURNING s.paused_at IS NOT NULL AS paused, was.paused_at IS NOT NULL AS moved;
