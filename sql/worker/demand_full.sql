-- The next pull reads everything, whatever the schedule says. $1 organization, $2 dataset.
UPDATE public.synchronization AS s
   SET full_wanted = TRUE
 WHERE s.organization_id = $1
   AND s.dataset = $2;
