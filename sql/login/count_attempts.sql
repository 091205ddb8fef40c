-- Reserve a login attempt before the password is looked at: check and count at once, so that attempts sent together
-- cannot pass together. It counts as a failure from here on; settle_attempts takes that back. What has to wait is not
-- counted. What was quiet for long begins anew, and so does what lies ahead of the clock, which was put back then.
-- $1 digests (bytea[]), $2 kinds (smallint[]: what each counts: 1 an email from an address, 2 an email, 3 an address,
-- 4 an email from an address where it was let in before), $3 free (integer[], by kind: failures without a wait),
-- $4 longest (integer[], by kind: seconds of the longest wait), $5 windows (integer[], by kind: quiet seconds),
-- $6 first (integer: seconds of the first wait, each further one is twice as long), $7 at (timestamptz now).
-- Where nothing waits, open_at is before all time: the clocks of several processes differ by a little.
-- Everybody locks in the order of kinds. Returns kind of those that were counted.
INSERT INTO public.login_attempt AS a (digest, kind, failures, last_at, open_at)
SELECT given.digest, given.kind, 1, $7::timestamptz,
       CASE WHEN ($3::integer[])[given.kind] > 1 THEN '-infinity'
            ELSE $7::timestamptz + make_interval(secs => least($6::integer, ($4::integer[])[given.kind])) END
  FROM unnest($1::bytea[], $2::smallint[]) AS given (digest, kind)
 ORDER BY given.kind
ON CONFLICT (digest) DO UPDATE
   SET failures = CASE WHEN a.last_at < $7::timestamptz - make_interval(secs => ($5::integer[])[a.kind])
                         OR a.last_at > $7::timestamptz + interval '1 minute'
                       THEN 1 ELSE a.failures + 1 END,
       last_at = excluded.last_at,
       open_at = CASE WHEN a.last_at < $7::timestamptz - make_interval(secs => ($5::integer[])[a.kind])
                        OR a.last_at > $7::timestamptz + interval '1 minute'
                      THEN excluded.open_at
                      WHEN a.failures + 1 < ($3::integer[])[a.kind] THEN '-infinity'
                      ELSE $7::timestamptz + make_interval(secs => least(
                               $6::integer * 2 ^ least(a.failures + 1 - ($3::integer[])[a.kind], 20),
                               ($4::integer[])[a.kind]
                           )) END
 WHERE a.open_at <= $7::timestamptz OR a.last_at > $7::timestamptz + interval '1 minute'
RETURNING a.kind;
