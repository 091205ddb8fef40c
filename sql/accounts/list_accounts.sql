-- Every account with its memberships, for the operator of the installation. No parameters.
-- Returns id, email, name, operator, roles (jsonb: role by organization), by email.
-- All organizations: the operator's list of accounts, of the command line.
SELECT a.id, a.email, a.name, a.operator,
       coalesce(
           jsonb_object_agg(m.organization_id, m.role) FILTER (WHERE m.organization_id IS NOT NULL), '{}'
       ) AS roles
  FROM public.account AS a
  LEFT JOIN public.membership AS m ON m.account_id = a.id
 GROUP BY a.id
 ORDER BY a.email;
