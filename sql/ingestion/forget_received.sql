-- Forget records that were received before a time, as they came, of all organizations: retention is administration.
-- What a run still has to take stays, however long it waits, and so does what is younger than its retention.
-- $1 before (timestamptz), $2 limit (bigint: at most so many). Returns forgotten.
-- All organizations: the worker's retention is one for all of them.
SELECT public.forget_received($1, $2) AS forgotten;
