-- Memberships: lock the organization before its ADMINs are counted, so that two changes cannot take the last two at
-- once. Rows that refer to it can still be written. $1 organization. Returns
-- managed (its identity provider says who belongs to it), or no row.
SELECT o.managed_by_identity_provider AS managed FROM public.organization AS o WHERE o.id = $1 FOR NO KEY UPDATE;
