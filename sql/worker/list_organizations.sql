-- The organizations that have a dataset. $1 dataset. Returns id.
SELECT d.organization_id AS id FROM public.dataset AS d WHERE d.name = $1 ORDER BY d.organization_id;
