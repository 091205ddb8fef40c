-- A run is over.
-- $1 organization, $2 run_id (uuid), $3 at (timestamptz now), $4 error_code (text), $5 error (text); both NULL for
-- success; $6 report (jsonb: what a check has found, else NULL).
UPDATE public.sync_run AS r
   SET state = CASE WHEN $4::text IS NULL THEN 'succeeded' ELSE 'failed' END, finished_at = $3, progressed_at = $3,
       error_code = $4, error = $5, report = $6
 WHERE r.organization_id = $1
   AND r.id = $2
   AND r.state = 'running';
