-- How many rows of others the last full pull met that succeeded. $1 organization, $2 dataset.
-- Returns dropped; no row where there was none yet. Plan: sync_run_newest until it is found.
SELECT r.dropped
  FROM public.sync_run AS r
 WHERE r.organization_id = $1
   AND r.dataset = $2
   AND r.kind = 'pull'
   AND r.whole
   AND r.state = 'succeeded'
 ORDER BY r.requested_at DESC, r.id
 LIMIT 1;
