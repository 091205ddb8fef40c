-- Change requests of a dataset that are not over, before every other lock of it, in the order of their ids: by whoever
-- takes them to another version. $1 organization, $2 dataset. Returns id.
SELECT r.id
  FROM public.change_request AS r
 WHERE r.organization_id = $1
   AND r.dataset = $2
   AND r.state IN ('pending_review', 'approved')
 ORDER BY r.id
   FOR NO KEY UPDATE;
