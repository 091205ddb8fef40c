-- Go on with a dataset's synchronization. $1 organization, $2 dataset.
-- Returns paused, moved (whether it was before); no row where nothing is connected.
UPDATE public.synchronization AS s
   SET paused_at = NULL, paused_by = NULL
  FROM public.synchronization AS was
 WHERE s.organization_id = $1
   AND s.dataset = $2
   AND was.organization_id = $1
   AND was.dataset = s.dataset
RETURNING s.paused_at IS NOT NULL AS paused, was.paused_at IS NOT NULL AS moved;
