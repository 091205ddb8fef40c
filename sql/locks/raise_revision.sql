-- The dataset's next revision, for a transaction that holds lock 1 and does change the mirror.
-- $1 organization, $2 dataset. Returns revision.
UPDATE public.dataset
   SET revision = revision + 1
 WHERE organization_id = $1
   AND name = $2
RETURNING revision;
