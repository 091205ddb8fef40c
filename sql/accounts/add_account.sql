-- A new account. $1 account (its id), $2 email (in lower case), $3 name, $4 password_hash, $5 operator (boolean).
-- Returns id; no row where the email is taken.
INSERT INTO public.account (id, email, name, password_hash, operator)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (email) DO NOTHING
RETURNING id;
