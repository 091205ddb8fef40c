-- Where the caller's drafts of these rows and the mirror's rows stand, read once the rows are locked.
-- $1 organization, $2 user, $3 keys (text[]). Returns row_key, version, mirror_version of each; 0 where there is none.
-- Plan: primary keys, a row each.
SELECT k.row_key, coalesce(x.version, 0) AS version, coalesce(m.version, 0) AS mirror_version
  FROM unnest($3::text[]) AS k (row_key)
  LEFT JOIN LATERAL (
           SELECT x.version
             FROM pfa.modification AS x
            WHERE x.organization_id = $1 AND x.user_id = $2 AND x.row_key = k.row_key
            LIMIT 1
       ) AS x ON TRUE
  LEFT JOIN LATERAL (
           SELECT m.version FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = k.row_key LIMIT 1
       ) AS m ON TRUE;
