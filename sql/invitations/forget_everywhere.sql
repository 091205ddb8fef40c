-- Forget the invitations of an address, of all organizations on purpose: its account was removed from the installation.
-- $1 email (as it is stored). Returns nothing. Reads the whole table, which has few rows, and seldom.
DELETE FROM public.invitation AS i WHERE i.email = $1;
