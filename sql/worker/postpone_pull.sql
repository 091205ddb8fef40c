-- After a pull that failed: when it is tried again. $1 organization, $2 dataset, $3 until (timestamptz).
UPDATE public.synchronization AS s
   SET pull_failures = s.pull_failures + 1, next_pull_at = $3
 WHERE s.organization_id = $1
   AND s.dataset = $2;
