-- One row of the caller's view with its layers, a row drafted for deletion too.
-- $1 organization, $2 user, $3 key (of the row), $4 computed (boolean: whether computed columns are wanted).
-- Returns body (text, a JSON object), doc (jsonb, the merged row), version, op, computed (text, a JSON object of the
-- columns that are computed of doc, NULL where they are not wanted); no row where there is neither a mirror row nor a
-- modification of the caller's.
SELECT json_build_object(
           'id', $3::text,
           'data', d.doc,
           'syncState', coalesce(x.sync_state, 'pristine'),
           'version', coalesce(x.version, 0),
           'mirrorVersion', coalesce(m.version, 0),
           'modifiedFields', (SELECT coalesce(json_agg(name ORDER BY name COLLATE "C"), '[]')
                                FROM jsonb_object_keys(coalesce(x.pending || x.delta, '{}')) AS name),
           'modifiedAt', vanguard.utc(x.modified_at),
           'modifiedBy', CASE WHEN x.row_key IS NOT NULL THEN $2::text END,
           'modifiedByName', CASE WHEN x.row_key IS NOT NULL THEN vanguard.name_of($1, $2) END,
           'conflicts', coalesce(x.conflicts, '[]'),
           'op', coalesce(x.draft_op, x.pending_op),
           'base', coalesce(x.base, '{}'),
           'delta', coalesce(x.delta, '{}'),
           'pending', coalesce(x.pending, '{}'),
           'history', (
               SELECT coalesce(json_agg(h.entry ORDER BY h.place DESC), '[]')
                 FROM (
                     SELECT row_number() OVER (ORDER BY past.finished, past.number) AS place,
                            json_build_object(
                                'revision', past.revision, 'state', past.state, 'op', past.op, 'before', past.before,
                                'after', past.after, 'source', past.source, 'commitId', past.commit_id,
                                'actor', past.actor, 'actorName', vanguard.name_of($1, past.actor),
                                'changeReason', past.change_reason, 'at', vanguard.utc(past.at),
                                'error', past.error, 'kept', past.kept) AS entry
                       FROM (
                           (SELECT 0 AS finished, h.revision AS number, h.revision, 'synced' AS state, h.op, h.before,
                                   h.after, h.source, h.commit_id, h.actor, h.change_reason, h.at, NULL AS error,
                                   (SELECT c.kept
                                      FROM pfa.change AS c
                                     WHERE c.organization_id = $1
                                       AND c.commit_id = h.commit_id
                                       AND c.row_key = $3
                                     LIMIT 1) AS kept
                              FROM pfa.history AS h
                             WHERE h.organization_id = $1 AND h.row_key = $3
                             ORDER BY h.revision DESC
                             LIMIT 100)
                           UNION ALL
                           (SELECT 1, c.id, NULL, c.state, c.op,
                                   CASE c.op WHEN 'update' THEN vanguard.pick(c.base, vanguard.touched(c.delta, '{}'))
                                             WHEN 'delete' THEN c.base END,
                                   CASE WHEN c.op <> 'delete' THEN c.delta END, 'commit', c.commit_id, c.user_id,
                                   c.change_reason, c.created_at, c.last_error, NULL
                              FROM pfa.change AS c
                             WHERE c.organization_id = $1 AND c.row_key = $3
                               AND c.state = ANY (vanguard.unfinished())
                               AND (c.state = ANY (vanguard.outbox()) OR c.user_id = $2)
                             ORDER BY c.id DESC
                             LIMIT 100)
                           UNION ALL
                           -- What upstream keeps just as it was before has made no history.
                           (SELECT 1, c.id, NULL, c.state, c.op,
                                   vanguard.pick(c.base, vanguard.touched(c.delta, '{}')), c.delta, 'push', c.commit_id,
                                   c.user_id, c.change_reason, c.settled_at, NULL, c.kept
                              FROM pfa.change AS c
                             WHERE c.organization_id = $1 AND c.row_key = $3 AND c.kept IS NOT NULL
                               AND NOT EXISTS (SELECT FROM pfa.history AS h
                                                WHERE h.organization_id = $1 AND h.row_key = $3
                                                  AND h.commit_id = c.commit_id)
                             ORDER BY c.id DESC
                             LIMIT 100)
                       ) AS past
                 ) AS h
           )
       )::text AS body,
       d.doc, coalesce(x.version, 0) AS version, coalesce(x.draft_op, x.pending_op) AS op,
       CASE WHEN $4 THEN
           /*{computed_shown}*/concat('{', '"monthlyRental":',
                  coalesce(trim_scale(pfa.monthly_rental(vanguard.as_text(d.doc, 'source'),
                                                         vanguard.as_number(d.doc, 'monthlyRate')))::text, 'null'),
                  '}')/*{}*/
       END AS computed
  FROM (SELECT) AS one
  LEFT JOIN pfa.mirror AS m ON m.organization_id = $1 AND m.row_key = $3
  LEFT JOIN pfa.modification AS x ON x.organization_id = $1 AND x.user_id = $2 AND x.row_key = $3
 CROSS JOIN LATERAL (
           -- A row that was deleted under the draft is shown as it was; a new one lies on nothing.
           SELECT coalesce(m.data, CASE WHEN x.conflicts IS NOT NULL AND x.draft_op <> 'insert' THEN x.base END, '{}')
                  || coalesce(x.pending, '{}') || coalesce(x.delta, '{}') AS doc
           OFFSET 0
       ) AS d
 WHERE m.row_key IS NOT NULL
    OR x.row_key IS NOT NULL;
