-- What is stored about a user in each of the organizations that a token names.
-- $1 user, $2 organizations (text[]), $3 issued_at (timestamptz: the token's, or that of
-- the login that it goes back to).
-- Returns id, managed, identity_provider, role (NULL without a membership), by id; organizations that do not exist are
-- left out, and those that an ADMIN has logged the user out of since.
SELECT o.id, o.managed_by_identity_provider AS managed, o.identity_provider, m.role
  FROM public.organization AS o
  LEFT JOIN public.membership AS m ON m.organization_id = o.id AND m.account_id = $1::text
 WHERE o.id = ANY ($2::text[])
   AND NOT EXISTS (
           SELECT FROM public.logout AS l WHERE l.subject = $1 AND l.scope = o.id AND l.at > $3::timestamptz
       )
 ORDER BY o.id;
