-- A member of an organization. $1 organization, $2 account (its id), $3 email (in lower case, or NULL): either of
-- the two.
-- Returns id, email, name, role, or no row: alike for others' accounts and for those that there are not.
SELECT a.id, a.email, a.name, m.role
  FROM public.membership AS m
  JOIN public.account AS a ON a.id = m.account_id
 WHERE m.organization_id = $1 AND (a.id = $2 OR a.email = $3);
