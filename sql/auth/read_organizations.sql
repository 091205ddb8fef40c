-- What is stored about a user in each of the organizations that a token names.
-- $1 user, $2 organizations (text[]).
-- Returns id, managed, role (NULL without a membership), by id; organizations that do not exist are left out.
SELECT o.id, o.managed_by_identity_provider AS managed, m.role
  FROM public.organization AS o
  LEFT JOIN public.membership AS m ON m.organization_id = o.id AND m.account_id = $1::text
 WHERE o.id = ANY ($2::text[])
 ORDER BY o.id;
