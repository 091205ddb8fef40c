-- Whoever has this lock is the only one to pull, push or tidy up there, until it gives the lock back or its connection
-- ends.
-- $1 job (integer: 3 pull, 4 push, 5 upkeep), $2 organization, $3 dataset. Returns taken.
SELECT pg_try_advisory_lock($1, hashtext($2::text || '/' || $3::text)) AS taken;
