-- An account as seen from an organization, for the operator of the installation. $1 organization, $2 account (its id),
-- $3 email (in lower case): either of the two.
-- Returns id, email, name, role (NULL for somebody who is no member), or no row.
SELECT a.id, a.email, a.name, m.role
  FROM public.account AS a
  LEFT JOIN public.membership AS m ON m.organization_id = $1 AND m.account_id = a.id
 WHERE a.id = $2 OR a.email = $3;
