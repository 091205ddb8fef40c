-- The dataset without its lock, for a commit that leaves the mirror alone.
-- $1 organization, $2 dataset. Returns revision, require_approval; no row where there is no such dataset.
SELECT d.revision, d.require_approval
  FROM public.dataset AS d
 WHERE d.organization_id = $1
   AND d.name = $2;
