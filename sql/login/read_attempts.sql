-- What an attempt to log in would meet: whether it has to wait, and whether it comes from where its account is at home.
-- $1 digests (bytea[]: as count_attempts has them), $2 address (bytea: digest of the address alone), $3 pair (bytea:
-- digest of email and address), $4 at (timestamptz now), $5 since (timestamptz: addresses of before are forgotten).
-- One row: pair_opens, account_opens, address_opens (the moment from which the next attempt is let through; NULL: now),
-- at_home (the email was let in from the address), inhabited (somebody was).
-- Each is a lookup by a key, whatever the email: it tells nothing of accounts.
WITH waits AS (
    SELECT a.kind, a.open_at
      FROM public.login_attempt AS a
     WHERE a.digest = ANY ($1::bytea[])
       AND a.open_at > $4::timestamptz
       AND a.last_at <= $4::timestamptz + interval '1 minute'
)
SELECT (SELECT w.open_at FROM waits AS w WHERE w.kind = 1) AS pair_opens,
       (SELECT w.open_at FROM waits AS w WHERE w.kind = 2) AS account_opens,
       (SELECT w.open_at FROM waits AS w WHERE w.kind = 3) AS address_opens,
       EXISTS (
           SELECT FROM public.login_address AS l
            WHERE l.address = $2::bytea AND l.pair = $3::bytea AND l.seen_at > $5::timestamptz
       ) AS at_home,
       EXISTS (
           SELECT FROM public.login_address AS l WHERE l.address = $2::bytea AND l.seen_at > $5::timestamptz
       ) AS inhabited;
