-- The open invitations of an organization, by address.
-- $1 organization, $2 at (timestamptz: now), $3 after (text: the last address of the page before, or NULL),
-- $4 limit (bigint).
-- Returns id, email, role, invited_by, invited_by_name, created_at, expires_at.
-- Plan: invitation_email_key, in its order.
SELECT i.id, i.email, i.role, i.invited_by, vanguard.name_of($1, i.invited_by) AS invited_by_name, i.created_at,
       i.expires_at
  FROM public.invitation AS i
 WHERE i.organization_id = $1
   AND i.expires_at > $2
   AND ($3::text IS NULL OR i.email > $3)
 ORDER BY i.email
 LIMIT $4;
