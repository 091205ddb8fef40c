-- After a login: forget its failures, and whatever is too old to count. Rows that somebody counts in are left alone.
-- $1 pair (bytea: digest of email and address), $2 before (timestamptz: what is older is forgotten). Returns nothing.
DELETE FROM public.login_failure AS f
 WHERE f.digest IN (
           SELECT old.digest FROM public.login_failure AS old
            WHERE old.digest = $1 OR old.last_at < $2
              FOR UPDATE SKIP LOCKED
       );
