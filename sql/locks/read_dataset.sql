-- The dataset without its lock, for a commit that leaves the mirror alone, and for whoever asks about it.
-- $1 organization, $2 dataset. Returns revision, require_approval, incarnation; no row where there is no such dataset.
SELECT d.revision, d.require_approval, (SELECT i.number FROM public.incarnation AS i) AS incarnation
  FROM public.dataset AS d
 WHERE d.organization_id = $1
   AND d.name = $2;
