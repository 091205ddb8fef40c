-- Forget the invitations of an address whose account was removed from the installation.
-- $1 email (as it is stored). Returns nothing. Reads the whole table, which has few rows, and seldom.
-- All organizations: the operator has removed the account of an address.
DELETE FROM public.invitation AS i WHERE i.email = $1;
