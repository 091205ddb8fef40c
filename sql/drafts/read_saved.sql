-- What became of saved drafts after they were imaged anew: the modifications that are left of these rows.
-- $1 organization, $2 user, $3 keys (text[]). Returns id, modification_id, version, mirror_version, sync_state.
SELECT x.row_key AS id, x.id::text AS modification_id, x.version, coalesce(x.mirror_version, 0) AS mirror_version,
       x.sync_state
  FROM pfa.modification AS x
 WHERE x.organization_id = $1
   AND x.user_id = $2
   AND x.row_key = ANY ($3::text[]);
