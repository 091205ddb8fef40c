-- Give an account another password hash.
-- $1 account (its id), $2 password_hash, $3 replaced (the hash that goes, or NULL for whatever is there).
-- Returns id; no row where somebody else was faster.
UPDATE public.account AS a
   SET password_hash = $2
 WHERE a.id = $1 AND ($3::text IS NULL OR a.password_hash = $3)
RETURNING a.id;
