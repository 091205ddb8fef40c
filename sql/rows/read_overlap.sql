-- Who else has a row in review or on its way upstream. app/engine/page_markers.py puts what is between the markers into
-- a page, whose rows are p there.
-- $1 organization, $2 key (of the row), $3 user (the caller, left out). Returns overlap (text, a JSON array).
SELECT /*{overlap}*/(
               SELECT coalesce(json_agg(json_build_object(
                          'userId', c.user_id, 'userName', vanguard.name_of($1, c.user_id), 'state', c.state,
                          'op', c.op,
                          'fields', (SELECT coalesce(json_agg(name ORDER BY name COLLATE "C"), '[]')
                                       FROM jsonb_object_keys(c.delta) AS name),
                          'since', vanguard.utc(c.created_at)) ORDER BY c.id), '[]')
                 FROM pfa.change AS c
                WHERE c.organization_id = $1 AND c.row_key = p.row_key AND c.user_id <> $3
                  AND c.state = ANY (vanguard.unfinished()))/*{}*/::text AS overlap
  FROM (SELECT $2::text AS row_key) AS p;
