-- Forget the invitations of an address, and those that its account has made. $1 email (as it is stored), $2 account
-- (its id). Returns nothing. Reads the whole table, which has few rows, and seldom.
-- All organizations: the account was removed from the installation.
DELETE FROM public.invitation AS i WHERE i.email = $1 OR i.invited_by = $2;
