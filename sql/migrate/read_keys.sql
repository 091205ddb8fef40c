-- The rows that have modifications, by organization: for a migration that images them all anew. The one statement over
-- several organizations, run by the owner.
-- No parameters. Returns organization_id, row_keys (text[]).
-- All organizations: a migration images all modifications anew, those of one organization after the other.
SELECT x.organization_id, array_agg(DISTINCT x.row_key) AS row_keys
  FROM pfa.modification AS x
 GROUP BY x.organization_id;
