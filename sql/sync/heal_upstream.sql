-- Upstream answered: the circuit is closed. Nothing is written where it was. $1 organization, $2 dataset.
UPDATE public.synchronization AS s
   SET failures = 0, open_until = NULL
 WHERE s.organization_id = $1
   AND s.dataset = $2
   AND (s.failures > 0 OR s.open_until IS NOT NULL);
