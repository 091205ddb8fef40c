-- The organizations that have a dataset. $1 dataset. Returns id.
-- All organizations: a worker, and a metric, go through them one after the other.
SELECT d.organization_id AS id FROM public.dataset AS d WHERE d.name = $1 ORDER BY d.organization_id;
