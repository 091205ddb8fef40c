-- How many rows of a pull have no id that can be read: each of them may be one that seems to be missing.
-- $1 organization, $2 dataset, $3 run_id (uuid). Returns nameless.
SELECT count(*) AS nameless
  FROM public.quarantine AS q
 WHERE q.organization_id = $1
   AND q.dataset = $2
   AND q.run_id = $3
   AND q.row_key LIKE '(no id) %';
