-- The caller's modifications, pending ones and deletions included, in the order of their rows' ids.
-- $1 organization, $2 dataset, $3 user, $4 after (text: only keys beyond this one, '' for the first page), $5 limit
-- (bigint).
-- Returns one row: revision, workspace_revision, incarnation, feed_number (of the feed's newest entry), total, body
-- (bytea, JSON array), last_key (NULL on the last page). No row: no such dataset.
WITH page AS MATERIALIZED (
    SELECT x.row_key, x.pending_op, x.pending, x.draft_op, x.delta, x.base, x.conflicts, x.sync_state, x.version,
           x.session_id, x.change_reason, x.modified_at, x.id
      FROM pfa.modification AS x
     WHERE x.organization_id = $1
       AND x.user_id = $3
       AND x.row_key > $4
     ORDER BY x.row_key
     LIMIT $5::bigint + 1
),
shown AS (
    SELECT p.*, row_number() OVER (ORDER BY p.row_key) AS place FROM page AS p
),
rendered AS (
    SELECT s.place, s.row_key,
           json_build_object(
               'id', s.row_key,
               'modificationId', s.id,
               'op', coalesce(s.draft_op, s.pending_op),
               -- A row that was deleted under the draft is shown as it was; a new one lies on nothing.
               'data', coalesce(m.data,
                                CASE WHEN s.conflicts IS NOT NULL AND s.draft_op <> 'insert' THEN s.base END,
                                '{}') || s.pending || s.delta,
               'syncState', s.sync_state,
               'version', s.version,
               'mirrorVersion', coalesce(m.version, 0),
               'modifiedFields', (SELECT coalesce(json_agg(name ORDER BY name COLLATE "C"), '[]')
                                    FROM jsonb_object_keys(s.pending || s.delta) AS name),
               'modifiedAt', vanguard.utc(s.modified_at),
               'modifiedBy', $3::text,
               'modifiedByName', (SELECT vanguard.name_of($1, $3)),
               'conflicts', coalesce(s.conflicts, '[]'),
               'base', s.base,
               'delta', s.delta,
               'pending', s.pending,
               'sessionId', s.session_id,
               'changeReason', s.change_reason)::text AS row
      FROM shown AS s
      LEFT JOIN LATERAL (
               SELECT m.data, m.version
                 FROM pfa.mirror AS m
                WHERE m.organization_id = $1 AND m.row_key = s.row_key
                LIMIT 1
           ) AS m ON TRUE
     WHERE s.place <= $5
)
SELECT d.revision,
       coalesce((SELECT w.revision
                   FROM public.workspace AS w
                  WHERE w.organization_id = $1 AND w.dataset = $2 AND w.user_id = $3), 0) AS workspace_revision,
       (SELECT i.number FROM public.incarnation AS i) AS incarnation,
       (SELECT c.number FROM public.feed_counter AS c WHERE c.organization_id = $1) AS feed_number,
       (SELECT count(*) FROM pfa.modification AS x WHERE x.organization_id = $1 AND x.user_id = $3) AS total,
       convert_to(coalesce('[' || (SELECT string_agg(r.row, ',' ORDER BY r.place)
                                     FROM rendered AS r) || ']', '[]'), 'UTF8') AS body,
       CASE WHEN (SELECT count(*) FROM page) > $5 THEN (SELECT max(r.row_key) FROM rendered AS r) END AS last_key
  FROM pfa.dataset AS d
 WHERE d.organization_id = $1
   AND d.name = $2;
