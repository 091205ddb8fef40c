-- Forget the invitations of an address. $1 email (as it is stored). Returns nothing. Reads the whole table, which has
-- few rows, and seldom.
-- All organizations: its account was removed from the installation.
DELETE FROM public.invitation AS i WHERE i.email = $1;
