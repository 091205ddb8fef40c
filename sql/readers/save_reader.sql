-- Let a login role read one organization, and no other any more. Run by the owner. $1 role (its name), $2 organization.
-- Returns nothing; a foreign key refuses an organization that is not there.
-- All organizations: the operator says which of them a role reads, and takes it from another.
WITH saved AS (
    INSERT INTO public.reader AS r (role_name, organization_id)
    VALUES ($1, $2)
    ON CONFLICT (role_name) DO UPDATE SET organization_id = excluded.organization_id
    RETURNING r.role_name
)
SELECT public.let_read(s.role_name, TRUE) FROM saved AS s;
