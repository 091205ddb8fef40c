-- Those of the named people who cannot approve here: they are no members, or may not edit. Where an identity provider
-- manages the organization, it alone knows. $1 organization, $2 people (text[]: account ids), $3 roles (text[]: that
-- may edit). Returns id of each.
SELECT p.id
  FROM unnest($2::text[]) AS p (id)
 WHERE NOT EXISTS (SELECT FROM public.organization AS o WHERE o.id = $1 AND o.managed_by_identity_provider)
   AND NOT EXISTS (SELECT FROM public.membership AS m
                    WHERE m.organization_id = $1 AND m.account_id = p.id AND m.role = ANY ($3::text[]));
