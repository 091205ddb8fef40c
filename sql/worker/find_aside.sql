-- How many of these rows are in quarantine already.
-- $1 organization, $2 dataset, $3 keys (text[]). Returns aside.
SELECT count(*) AS aside
  FROM public.quarantine AS q
 WHERE q.organization_id = $1
   AND q.dataset = $2
   AND q.row_key = ANY ($3::text[]);
