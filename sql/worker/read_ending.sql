-- Why somebody wants a run to end. A check does not mind a pause, nor the dataset's state.
-- $1 organization, $2 dataset, $3 run_id (uuid).
-- Returns stopped (boolean), stopped_by, paused (boolean), paused_by (the names of members, else their ids), closed
-- (the state of the dataset where that takes no pulls, or NULL).
SELECT r.stop_at IS NOT NULL AS stopped,
       coalesce(vanguard.name_of($1, r.stop_by), r.stop_by) AS stopped_by,
       r.kind <> 'check' AND s.paused_at IS NOT NULL AS paused,
       coalesce(vanguard.name_of($1, s.paused_by), s.paused_by) AS paused_by,
       CASE WHEN r.kind <> 'check' AND NOT t.filled THEN t.state END AS closed
  FROM public.sync_run AS r
  JOIN public.dataset AS d ON d.organization_id = $1 AND d.name = r.dataset
  JOIN public.dataset_state AS t ON t.state = d.state
  LEFT JOIN public.synchronization AS s ON s.organization_id = $1 AND s.dataset = $2
 WHERE r.organization_id = $1
   AND r.id = $3;
