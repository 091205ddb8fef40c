-- The password's hash of an account, which nobody changes until the transaction ends: the service reads hashes by
-- functions of the owner's alone. $1 account (its id). Returns password_hash, or NULL.
SELECT public.hold_password($1) AS password_hash;
