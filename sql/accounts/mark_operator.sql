-- Make an account an operator of the installation, or one no longer: the owner of the tables alone may.
-- $1 account (its id), $2 operator (boolean). Returns id, or no row.
UPDATE public.account AS a SET operator = $2 WHERE a.id = $1
RETURNING a.id;
