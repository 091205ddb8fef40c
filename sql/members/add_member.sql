-- Make an account a member; who is one already stays what they are. $1 organization, $2 account (its id), $3 role.
-- Returns role: the one that was given, or no row.
INSERT INTO public.membership AS m (organization_id, account_id, role)
VALUES ($1, $2, $3)
ON CONFLICT (organization_id, account_id) DO NOTHING
RETURNING m.role;
