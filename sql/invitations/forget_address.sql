-- Forget the invitation of an address, and those that a member has made: whoever is no member or no ADMIN any more does
-- not come back by an older link, their own or one that they wrote to themselves.
-- $1 organization, $2 email (as it is stored), $3 account (its id). Returns nothing.
DELETE FROM public.invitation AS i WHERE i.organization_id = $1 AND (i.email = $2 OR i.invited_by = $3);
