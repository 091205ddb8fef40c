-- A change request, before every other lock of a dataset, by whoever reviews or merges it.
-- $1 organization, $2 dataset, $3 id (uuid). Returns id; no row where it is none.
SELECT r.id
  FROM public.change_request AS r
 WHERE r.organization_id = $1
   AND r.dataset = $2
   AND r.id = $3
   FOR NO KEY UPDATE;
