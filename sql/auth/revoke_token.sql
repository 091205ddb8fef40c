-- Make a token invalid before it expires, and forget those that have expired meanwhile: by the database's clock, too,
-- since what is forgotten by one that is ahead would count again once it is put back.
-- $1 token_ids (text[]: its own, and that of the one that it renews), $2 expires_at (timestamptz), $3 at (timestamptz
-- now). Returns nothing.
WITH expired AS (
    DELETE FROM public.revoked_token AS r
     WHERE r.id IN (
               SELECT old.id FROM public.revoked_token AS old
                WHERE old.expires_at < least($3, now()) AND old.id <> ALL ($1::text[])
                  FOR UPDATE SKIP LOCKED
           )
)
INSERT INTO public.revoked_token AS r (id, expires_at)
SELECT DISTINCT given.id, $2::timestamptz FROM unnest($1::text[]) AS given (id)
ON CONFLICT (id) DO UPDATE SET expires_at = greatest(r.expires_at, excluded.expires_at);
