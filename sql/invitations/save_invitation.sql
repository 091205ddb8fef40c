-- Invite an address, in place of what it was invited as before: of that the link is dead, since it names another id.
-- $1 organization, $2 invitation (uuid), $3 email (as it is stored), $4 role, $5 user (who invites),
-- $6 at (timestamptz: now), $7 expires_at (timestamptz).
-- Returns invited_by_name.
INSERT INTO public.invitation (organization_id, id, email, role, invited_by, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (organization_id, email) DO UPDATE
   SET id = excluded.id,
       role = excluded.role,
       invited_by = excluded.invited_by,
       created_at = excluded.created_at,
       expires_at = excluded.expires_at
RETURNING vanguard.name_of($1, $5) AS invited_by_name;
