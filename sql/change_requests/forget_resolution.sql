-- A resolution is forgotten. $1 organization, $2 dataset, $3 id (uuid). Returns row_key, field; no row where it is
-- none.
DELETE FROM public.resolution AS n
 WHERE n.organization_id = $1
   AND n.dataset = $2
   AND n.id = $3
RETURNING n.row_key, n.field;
