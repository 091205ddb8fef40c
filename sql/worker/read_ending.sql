-- Why somebody wants a run to end. A check does not mind a pause.
-- $1 organization, $2 dataset, $3 run_id (uuid).
-- Returns stopped (boolean), stopped_by, paused (boolean), paused_by (the names of accounts, else their ids).
SELECT r.stop_at IS NOT NULL AS stopped,
       coalesce((SELECT a.name FROM public.account AS a WHERE a.id = r.stop_by), r.stop_by) AS stopped_by,
       r.kind <> 'check' AND s.paused_at IS NOT NULL AS paused,
       coalesce((SELECT a.name FROM public.account AS a WHERE a.id = s.paused_by), s.paused_by) AS paused_by
  FROM public.sync_run AS r
  LEFT JOIN public.synchronization AS s ON s.organization_id = $1 AND s.dataset = $2
 WHERE r.organization_id = $1
   AND r.id = $3;
