-- Delete an account with its memberships, and revoke its tokens for good: the id is never given again.
-- $1 account (its id). Returns id, or no row.
WITH revoked AS (
    INSERT INTO public.revoked_token (id, expires_at)
    VALUES ('account:' || $1::text, 'infinity')
    ON CONFLICT (id) DO NOTHING
)
DELETE FROM public.account AS a WHERE a.id = $1::text
RETURNING a.id;
