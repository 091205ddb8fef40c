-- Synchronization: lock what a worker knows of a dataset, so that of two simultaneous requests for a run the second one
-- finds the first, and none comes in while it is paused. $1 organization, $2 dataset.
-- Returns paused_at, paused_by (the member's name, else the id), or no row where nothing is connected.
SELECT vanguard.utc(s.paused_at) AS paused_at,
       coalesce(vanguard.name_of($1, s.paused_by), s.paused_by) AS paused_by
  FROM public.synchronization AS s
 WHERE s.organization_id = $1
   AND s.dataset = $2
   FOR NO KEY UPDATE OF s;
