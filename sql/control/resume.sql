-- Go on with a dataset's synchronization. $1 organization, $2 dataset.
-- Returns paused; no row where nothing is connected.
UPDATE public.synchronization AS s
   SET paused_at = NULL, paused_by = NULL
 WHERE s.organization_id = $1
   AND s.dataset = $2
RETURNING s.paused_at IS NOT NULL AS paused;
