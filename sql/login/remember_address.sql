-- Remember that an account was let in from an address; of each account the newest addresses only.
-- $1 account (its id), $2 address (bytea: digest of the address alone), $3 pair (bytea: digest of email and address),
-- $4 at (timestamptz now), $5 most (integer: addresses of an account). Returns nothing.
WITH surplus AS (
    DELETE FROM public.login_address AS l
     WHERE (l.address, l.pair) IN (
               SELECT old.address, old.pair
                 FROM public.login_address AS old
                WHERE old.account_id = $1::text AND old.pair <> $3::bytea
                ORDER BY old.seen_at DESC
               OFFSET $5::integer - 1
                  FOR UPDATE SKIP LOCKED
           )
),
account AS (
    SELECT a.id FROM public.account AS a WHERE a.id = $1::text FOR KEY SHARE
)
INSERT INTO public.login_address AS l (address, pair, account_id, seen_at)
SELECT $2::bytea, $3::bytea, a.id, $4::timestamptz FROM account AS a
ON CONFLICT (address, pair) DO UPDATE
   SET account_id = excluded.account_id,
       seen_at = excluded.seen_at;
