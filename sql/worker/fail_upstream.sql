-- Upstream did not answer as it should. After five times in a row nobody asks it anything for a while (the circuit is
-- open): 15 seconds, and twice as long each further time, up to 5 minutes; or as long as it asked for itself.
-- $1 organization, $2 dataset, $3 at (timestamptz now), $4 pause (double precision: seconds that it asked for, or
-- NULL).
-- Returns open_until.
UPDATE public.synchronization AS s
   SET failures = s.failures + 1,
       open_until = CASE
           WHEN $4::float8 IS NOT NULL THEN greatest(s.open_until, $3::timestamptz + make_interval(secs => $4))
           WHEN s.failures >= 4
               THEN greatest(s.open_until, $3 + make_interval(secs => least(300, 15 * 2 ^ least(s.failures - 4, 10))))
           ELSE s.open_until
       END
 WHERE s.organization_id = $1
   AND s.dataset = $2
RETURNING s.open_until;
