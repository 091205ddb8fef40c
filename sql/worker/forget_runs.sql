-- Records of runs that ended before a time are forgotten. $1 organization, $2 before (timestamptz).
DELETE FROM public.sync_run AS r
 WHERE r.organization_id = $1
   AND r.state IN ('succeeded', 'failed')
   AND r.finished_at < $2;
