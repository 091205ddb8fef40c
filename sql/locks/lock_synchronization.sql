-- Synchronization: lock what a worker knows of a dataset, so that of two simultaneous requests for a run the second one
-- finds the first. $1 organization, $2 dataset. Returns dataset, or no row where nothing is connected.
SELECT s.dataset
  FROM public.synchronization AS s
 WHERE s.organization_id = $1
   AND s.dataset = $2
   FOR NO KEY UPDATE;
