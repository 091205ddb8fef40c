-- After a pull that somebody stopped: the next one comes as the schedule says, not at once.
-- $1 organization, $2 dataset, $3 at (timestamptz now).
UPDATE public.synchronization AS s
   SET next_pull_at = greatest(s.next_pull_at, $3::timestamptz + make_interval(secs => s.pull_every))
 WHERE s.organization_id = $1
   AND s.dataset = $2;
