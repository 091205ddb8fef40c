-- Upstream answered: the circuit is closed. Nothing is written where it was. While upstream has asked to be left alone
-- it stays open, unless a person asked for the run.
-- $1 organization, $2 dataset, $3 at (timestamptz now), $4 asked (boolean: whether a person did).
UPDATE public.synchronization AS s
   SET failures = 0, open_until = NULL
 WHERE s.organization_id = $1
   AND s.dataset = $2
   AND (s.failures > 0 OR s.open_until IS NOT NULL)
   AND ($4 OR coalesce(s.open_until, '-infinity') <= $3);
