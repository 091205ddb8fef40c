-- Add an account. $1 account (its id), $2 email (in lower case), $3 name, $4 password_hash.
-- Returns id; no row where the email is taken.
INSERT INTO public.account (id, email, name, password_hash)
VALUES ($1, $2, $3, $4)
ON CONFLICT (email) DO NOTHING
RETURNING id;
