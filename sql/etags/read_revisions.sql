-- Where a dataset and the caller's workspace stand: all that an ETag is made of.
-- $1 organization, $2 dataset, $3 user. Returns revision, workspace_revision; no row where there is no such dataset.
SELECT d.revision,
       coalesce((SELECT w.revision
                   FROM public.workspace AS w
                  WHERE w.organization_id = $1 AND w.dataset = $2 AND w.user_id = $3), 0) AS workspace_revision
  FROM pfa.dataset AS d
 WHERE d.organization_id = $1
   AND d.name = $2;
