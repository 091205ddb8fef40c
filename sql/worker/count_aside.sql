-- How many rows are in quarantine that the mirror does not have. $1 organization, $2 dataset. Returns aside.
-- Plan: the dataset's quarantine, each row by the mirror's primary key, as in sift_staged.
SELECT count(*) AS aside
  FROM public.quarantine AS q
 WHERE q.organization_id = $1
   AND q.dataset = $2
   AND (SELECT m.row_key FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = q.row_key LIMIT 1) IS NULL;
