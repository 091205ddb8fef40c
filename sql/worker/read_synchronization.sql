-- Where a dataset's synchronization stands. $1 organization, $2 dataset.
-- Returns revision, watermark, pulled_whole_at, pull_failures, full_wanted (the next pull
-- has to read everything), failures, open_until; no row where it is not connected.
SELECT d.revision, s.watermark, s.pulled_whole_at, s.pull_failures, s.full_wanted, s.failures, s.open_until
  FROM public.synchronization AS s
  JOIN public.dataset AS d ON d.organization_id = s.organization_id AND d.name = s.dataset
 WHERE s.organization_id = $1
   AND s.dataset = $2;
