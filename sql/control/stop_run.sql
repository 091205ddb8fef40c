-- Stop a run: one that no worker has begun is over, one that is under way is told so. Who stopped it first stays.
-- $1 organization, $2 dataset, $3 run_id (uuid), $4 user (text), $5 at (timestamptz now), $6 error_code (text),
-- $7 error (text): of one that is over now. Returns id; no row where there is no such run, or it is over.
UPDATE public.sync_run AS r
   SET stop_at = coalesce(r.stop_at, $5),
       stop_by = coalesce(r.stop_by, $4),
       state = CASE r.state WHEN 'requested' THEN 'failed' ELSE r.state END,
       started_at = coalesce(r.started_at, $5),
       finished_at = CASE r.state WHEN 'requested' THEN $5::timestamptz END,
       error_code = CASE r.state WHEN 'requested' THEN $6::text END,
       error = CASE r.state WHEN 'requested' THEN $7::text END
 WHERE r.organization_id = $1
   AND r.dataset = $2
   AND r.id = $3
   AND r.state IN ('requested', 'running')
RETURNING r.id;
