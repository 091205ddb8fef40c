-- Forget the invitations that nobody can accept any more. $1 organization, $2 at (timestamptz: now).
-- Returns the count. An organization has few: VANGUARD_MAX_INVITATIONS.
WITH gone AS (
    DELETE FROM public.invitation AS i
     WHERE i.organization_id = $1 AND i.expires_at <= $2
    RETURNING i.id
)
SELECT count(*) FROM gone;
