-- Let a login role read one organization, and no other any more. Run by the owner. $1 role (its name), $2 organization.
-- Returns before (the organization that it read until now, or NULL); a foreign key refuses an organization that is not
-- there.
-- The row is locked first, so that what it was is what goes.
-- All organizations: the operator says which of them a role reads, and takes it from another.
WITH was AS MATERIALIZED (
    SELECT r.organization_id FROM public.reader AS r WHERE r.role_name = $1 FOR NO KEY UPDATE
),
saved AS (
    INSERT INTO public.reader AS r (role_name, organization_id)
    SELECT $1, $2 FROM (SELECT count(*) FROM was) AS locked
    ON CONFLICT (role_name) DO UPDATE SET organization_id = excluded.organization_id
    RETURNING r.role_name
)
SELECT (SELECT w.organization_id FROM was AS w) AS before
  FROM saved AS s
 CROSS JOIN LATERAL public.let_read(s.role_name, TRUE);
