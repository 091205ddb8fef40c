-- The members of an organization. $1 organization.
-- Returns id, email, name, role, by email.
SELECT a.id, a.email, a.name, m.role
  FROM public.membership AS m
  JOIN public.account AS a ON a.id = m.account_id
 WHERE m.organization_id = $1
 ORDER BY a.email;
