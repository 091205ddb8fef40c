-- History from before a time is forgotten, some at a time; never beyond the revision that the view of KPIs stands at.
-- $1 organization, $2 before (timestamptz), $3 limit (bigint). Returns forgotten, their number.
SELECT pfa.forget_history($1, $2, $3) AS forgotten;
