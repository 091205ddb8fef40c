-- An execution has ended. $1 organization, $2 id (uuid), $3 outcome, $4 seconds (double precision), $5 rows (bigint),
-- $6 truncated (boolean: there were more rows, NULL where that is not known). Returns nothing.
UPDATE public.query_execution AS e
   SET outcome = $3, seconds = $4, rows = $5, truncated = $6
 WHERE e.organization_id = $1
   AND e.id = $2::uuid;
