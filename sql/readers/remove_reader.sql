-- A login role reads no organization any more. Run by the owner. $1 role (its name), $2 organization.
-- Returns role_name, or no row.
-- All organizations: the operator takes from a role what it reads.
WITH removed AS (
    DELETE FROM public.reader AS r
     WHERE r.role_name = $1
       AND r.organization_id = $2
    RETURNING r.role_name
)
SELECT r.role_name FROM removed AS r CROSS JOIN LATERAL public.let_read(r.role_name, FALSE);
