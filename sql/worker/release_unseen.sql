-- At the end of a full pull: what it did not put into quarantine is not broken any more, or not there; unless it is not
-- certain that all rows came.
-- $1 organization, $2 dataset, $3 run_id (uuid).
DELETE FROM public.quarantine AS q
 WHERE q.organization_id = $1
   AND q.dataset = $2
   AND q.run_id <> $3
   AND (SELECT r.doubt FROM public.sync_run AS r WHERE r.organization_id = $1 AND r.id = $3) IS NULL;
