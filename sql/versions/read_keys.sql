-- The rows of a dataset that have modifications, everybody's: for a new version that images them all anew.
-- $1 organization. Returns row_keys (text[]); no row where there are none.
SELECT array_agg(DISTINCT x.row_key) AS row_keys
  FROM pfa.modification AS x
 WHERE x.organization_id = $1
 GROUP BY x.organization_id;
