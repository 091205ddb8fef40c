-- Which of some keys are no row of the caller's view: the mirror has none, and nothing of the caller's makes one.
-- $1 organization, $2 user, $3 keys (text[]). Returns row_key.
-- Plan: primary keys, one by one.
SELECT key AS row_key
  FROM unnest($3::text[]) AS key
 WHERE NOT EXISTS (SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = key)
   AND NOT EXISTS (SELECT FROM pfa.modification AS x
                    WHERE x.organization_id = $1 AND x.user_id = $2 AND x.row_key = key);
