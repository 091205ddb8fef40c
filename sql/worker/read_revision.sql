-- The dataset's revision. $1 organization, $2 dataset. Returns revision.
SELECT d.revision FROM public.dataset AS d WHERE d.organization_id = $1 AND d.name = $2;
