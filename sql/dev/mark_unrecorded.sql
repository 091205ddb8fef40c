-- The dataset's revision came without history: KPIs read rows until their view is newer. The caller holds lock 1.
-- $1 organization, $2 dataset.
UPDATE public.dataset
   SET unrecorded = revision
 WHERE organization_id = $1
   AND name = $2;
