-- Count a failed login twice: for email and address, and for the address alone. After a quiet time counting starts
-- anew.
-- $1 pair (bytea: digest of email and address), $2 alone (bytea: digest of the address), $3 at (timestamptz now),
-- $4 before (timestamptz: what is older is forgotten).
-- Everybody locks the pair before its address. Returns nothing.
INSERT INTO public.login_failure AS f (digest, failures, last_at)
SELECT counted.digest, 1, $3::timestamptz
  FROM (VALUES (1, $1::bytea), (2, $2::bytea)) AS counted (place, digest)
 ORDER BY counted.place
ON CONFLICT (digest) DO UPDATE
   SET failures = CASE WHEN f.last_at < $4::timestamptz THEN 1 ELSE f.failures + 1 END,
       last_at = excluded.last_at;
