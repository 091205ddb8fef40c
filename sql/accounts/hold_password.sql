-- The password's hash of an account, which nobody changes until the transaction ends. $1 account (its id).
-- Returns password_hash, or no row.
SELECT a.password_hash FROM public.account AS a WHERE a.id = $1 FOR SHARE;
