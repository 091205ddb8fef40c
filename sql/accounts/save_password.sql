-- Give an account another password hash.
-- $1 account (its id), $2 password_hash, $3 replaced (the hash that goes, or NULL for whatever is there).
-- Returns id; no row where somebody else was faster.
SELECT s.id FROM public.set_password($1, $2, $3) AS s (id) WHERE s.id IS NOT NULL;
