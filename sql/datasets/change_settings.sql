-- Change a dataset's settings. The caller holds lock 1.
-- $1 organization, $2 dataset, $3 require_approval (boolean). Returns nothing.
UPDATE public.dataset AS d
   SET require_approval = $3
 WHERE d.organization_id = $1
   AND d.name = $2;
