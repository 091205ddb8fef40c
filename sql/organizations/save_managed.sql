-- Who says who belongs to an organization. $1 organization, $2 managed (boolean: its identity provider alone),
-- $3 identity_provider (the issuer whose tokens count there, or NULL for that of the only one). Returns nothing.
UPDATE public.organization AS o
   SET managed_by_identity_provider = $2::boolean, identity_provider = $3::text
 WHERE o.id = $1;
