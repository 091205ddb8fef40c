-- Which login roles read which organization. Run by the owner. No parameters.
-- Returns role, organization, there (whether the server has such a role), by organization and role.
-- All organizations: the operator's list of who reads which, of the command line.
SELECT r.role_name AS role, r.organization_id AS organization,
       EXISTS (SELECT FROM pg_roles AS s WHERE s.rolname = r.role_name) AS there
  FROM public.reader AS r
 ORDER BY r.organization_id, r.role_name;
