-- Forget attempts that count no more, a few at a time: each attempt to log in forgets more than it adds.
-- $1 before (timestamptz: what is older counts no more), $2 since (timestamptz: addresses of before are forgotten),
-- $3 limit (integer). Rows that somebody is at are left alone. Reads the oldest by their index, as many as it deletes.
-- Returns nothing.
WITH attempts AS (
    DELETE FROM public.login_attempt AS a
     WHERE a.digest IN (
               SELECT old.digest
                 FROM public.login_attempt AS old
                WHERE old.last_at < $1::timestamptz
                ORDER BY old.last_at
                LIMIT $3::integer
                  FOR UPDATE SKIP LOCKED
           )
)
DELETE FROM public.login_address AS l
 WHERE (l.address, l.pair) IN (
           SELECT old.address, old.pair
             FROM public.login_address AS old
            WHERE old.seen_at <= $2::timestamptz
            ORDER BY old.seen_at
            LIMIT $3::integer
              FOR UPDATE SKIP LOCKED
       );
