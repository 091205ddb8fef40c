-- Forget the invitation of an address: whoever is no member any more does not come back by an older link.
-- $1 organization, $2 email (as it is stored). Returns nothing.
DELETE FROM public.invitation AS i WHERE i.organization_id = $1 AND i.email = $2;
