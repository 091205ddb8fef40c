-- The member who has an address. $1 organization, $2 email (as it is stored). Returns id, or no row.
SELECT a.id
  FROM public.membership AS m
  JOIN public.account AS a ON a.id = m.account_id
 WHERE m.organization_id = $1 AND a.email = $2;
