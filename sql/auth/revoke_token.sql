-- Make a token invalid before it expires, and forget those that have expired meanwhile.
-- $1 token_id, $2 expires_at (timestamptz), $3 at (timestamptz now). Returns nothing.
WITH expired AS (
    DELETE FROM public.revoked_token AS r
     WHERE r.id IN (
               SELECT old.id FROM public.revoked_token AS old
                WHERE old.expires_at < $3 AND old.id <> $1
                  FOR UPDATE SKIP LOCKED
           )
)
INSERT INTO public.revoked_token AS r (id, expires_at)
VALUES ($1, $2)
ON CONFLICT (id) DO NOTHING;
