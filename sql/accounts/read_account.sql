-- One account with its memberships. $1 account (its id), $2 email (in lower case): either of them.
-- Returns id, email, name, password_hash, operator, roles (jsonb: role by organization; not in those that take their
-- identity provider's word alone), or no row.
-- All organizations: an account's own memberships, for its login and for the operator's command line.
SELECT a.id, a.email, a.name, a.operator,
       (SELECT p.password_hash FROM public.password_of(a.email) AS p) AS password_hash,
       coalesce(
           (
               SELECT jsonb_object_agg(m.organization_id, m.role)
                 FROM public.membership AS m
                 JOIN public.organization AS o ON o.id = m.organization_id AND NOT o.managed_by_identity_provider
                WHERE m.account_id = a.id
           ),
           '{}'
       ) AS roles
  FROM public.account AS a
 WHERE a.id = $1 OR a.email = $2;
