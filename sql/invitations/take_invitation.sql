-- Accept an invitation: whoever deletes it has it, and of two at once that is one.
-- $1 organization, $2 invitation (uuid), $3 at (timestamptz: now). Returns email, role, or no row.
DELETE FROM public.invitation AS i
 WHERE i.organization_id = $1 AND i.id = $2 AND i.expires_at > $3
RETURNING i.email, i.role;
