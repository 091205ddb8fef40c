-- What upstream sends beside what is read; NULL before the first pull. $1 organization, $2 dataset. Returns columns.
SELECT s.columns
  FROM public.synchronization AS s
 WHERE s.organization_id = $1
   AND s.dataset = $2;
