-- After a login: forget the failures of the email from the address; of the email and of the address alone take back the
-- one that was reserved, and no more: others' failures stay.
-- $1 digests (bytea[]: those that were counted, and those to forget), $2 free (integer[], by kind: failures without a
-- wait). Locks in the order of kinds, as count_attempts does. Returns nothing.
WITH counted AS (
    SELECT a.digest
      FROM public.login_attempt AS a
     WHERE a.digest = ANY ($1::bytea[])
     ORDER BY a.kind
       FOR UPDATE
)
UPDATE public.login_attempt AS a
   SET failures = CASE WHEN a.kind IN (2, 3) THEN greatest(a.failures - 1, 0) ELSE 0 END,
       open_at = CASE WHEN a.kind IN (2, 3) AND a.failures > ($2::integer[])[a.kind] THEN a.open_at
                      ELSE '-infinity' END
  FROM counted AS c
 WHERE a.digest = c.digest;
