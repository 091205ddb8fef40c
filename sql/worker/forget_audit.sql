-- The organization's audit from before a time is forgotten, some entries at a time.
-- $1 organization, $2 before (timestamptz), $3 limit (bigint). Returns forgotten, their number.
SELECT public.forget_audit($1, $2, $3) AS forgotten;
