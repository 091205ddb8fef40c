-- Make an account a member, or give a member another role.
-- $1 organization, $2 account (its id), $3 role. Returns nothing.
INSERT INTO public.membership AS m (organization_id, account_id, role)
VALUES ($1, $2, $3)
ON CONFLICT (organization_id, account_id) DO UPDATE SET role = excluded.role;
