-- What upstream sends beside what is read. $1 organization, $2 dataset, $3 columns (text[]). Returns dataset.
UPDATE public.synchronization AS s
   SET columns = $3
 WHERE s.organization_id = $1
   AND s.dataset = $2
RETURNING s.dataset;
