-- The organization's oldest entries of the feed are forgotten, as far as they are from before a time, some at a time.
-- $1 organization, $2 before (timestamptz), $3 limit (bigint). Returns forgotten, their number.
SELECT public.forget_feed($1, $2, $3) AS forgotten;
