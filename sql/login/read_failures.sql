-- Failed logins so far.
-- $1 pair (bytea: digest of email and address), $2 alone (bytea: digest of the address).
-- Returns pair (whether it is the former), failures, last_at; only for those that failed.
SELECT f.digest = $1 AS pair, f.failures, f.last_at
  FROM public.login_failure AS f
 WHERE f.digest IN ($1, $2);
