-- Who else has a row in review or on its way upstream.
-- $1 organization, $2 user (the caller, left out), $3 key (of the row). Returns overlap (text, a JSON array).
SELECT coalesce(json_agg(json_build_object(
           'userId', c.user_id, 'state', c.state, 'op', c.op,
           'fields', (SELECT coalesce(json_agg(name ORDER BY name COLLATE "C"), '[]')
                        FROM jsonb_object_keys(c.delta) AS name),
           'since', vanguard.utc(c.created_at)) ORDER BY c.id), '[]')::text AS overlap
  FROM pfa.change AS c
 WHERE c.organization_id = $1
   AND c.row_key = $3
   AND c.user_id <> $2
   AND c.state IN ('in_review', 'committed', 'syncing', 'conflict', 'sync_error');
