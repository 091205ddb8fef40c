-- Undo steps, or redo them: each row's draft as they found it, or made it. What has changed since stays, and is named.
-- The caller holds locks 2, 3 and 4 on these rows; the modifications are imaged and swept afterwards.
--
-- $1 organization, $2 user, $3 version (bigint: the workspace's new revision), $4 numbers (bigint[]: of the steps),
-- $5 back (boolean: undo), $6 groups (jsonb atomic groups), $7 at (timestamptz now), $8 session (text: '' outside of
-- any), $9 dataset, $10 fields (text[]: those that can be edited).
-- Returns row_key, changed, skipped (jsonb array of fields, null for the whole row, or NULL), code (why); and beside
-- each what the user holds then (held_rows, held_bytes, held_known), and by how much this made it more (more_rows,
-- more_bytes).
--
-- Plan: the steps by their numbers, the modification of each row by its primary key, the modifications again by their
-- place: nobody else writes them meanwhile.
WITH entry AS MATERIALIZED (
    SELECT s.number, s.at, r.place, r.row_key, r.from_op, r.from_delta, r.from_base, r.from_session,
           r.to_op, r.to_delta, r.to_base, r.to_session
      FROM pfa.step AS s
     CROSS JOIN LATERAL unnest(s.rows) WITH ORDINALITY
           AS r (row_key, from_op, from_delta, from_base, from_session, to_op, to_delta, to_base, to_session, place)
     WHERE s.organization_id = $1
       AND s.user_id = $2
       AND s.session_id = $8
       AND s.number = ANY ($4::bigint[])
),
retired AS MATERIALIZED (
    -- Fields of these drafts that the contract no longer has, or lets nobody edit.
    SELECT ARRAY(SELECT DISTINCT name
                   FROM entry AS e
                  CROSS JOIN LATERAL jsonb_object_keys(
                                 coalesce(e.from_delta, '{}') || coalesce(e.to_delta, '{}')) AS name
                  WHERE name <> ALL ($10::text[])) AS names
),
dropped AS MATERIALIZED (
    -- Those of each row.
    SELECT e.row_key, jsonb_agg(DISTINCT name ORDER BY name) AS names
      FROM retired AS r
     CROSS JOIN LATERAL unnest(r.names) AS name
      JOIN entry AS e ON coalesce(CASE WHEN $5 THEN e.to_delta ELSE e.from_delta END, '{}') ? name
     GROUP BY e.row_key
),
touched AS (
    SELECT e.row_key, min(e.at) AS at,
           CASE WHEN $5 THEN (array_agg(e.from_session ORDER BY e.number, e.place))[1]
                ELSE (array_agg(e.to_session ORDER BY e.number DESC, e.place DESC))[1] END AS session
      FROM entry AS e
     GROUP BY e.row_key
),
present AS MATERIALIZED (
    SELECT t.row_key, t.at,
           -- The rows of a session that is over belong to none.
           CASE WHEN NOT EXISTS (SELECT FROM public.edit_session AS s
                                  WHERE s.organization_id = $1 AND s.id = t.session
                                    AND s.dataset = $9 AND s.user_id = $2
                                    AND s.id <> ALL (
                                        (SELECT vanguard.open_sessions($1, $9, $2, $7))::text[]))
                THEN t.session END AS session,
           x.ctid AS place, x.session_id, x.pending_op, x.pending_state,
           -- No row, and no draft of one; what is on its way out is in the mirror still, or the caller's pending.
           x.draft_op IS NULL
           AND CASE WHEN pfa.in_flight($1, t.row_key) THEN pfa.theirs($1, $2, t.row_key, m.data)
                    ELSE m.data END IS NULL AS nothing,
           m.data IS NOT NULL OR x.pending_op IS NOT NULL AS leaving,
           coalesce(x.session_id <> $8
                    AND x.session_id = ANY ((SELECT vanguard.open_sessions($1, $9, $2, $7))::text[]),
                    FALSE) AS elsewhere,
           jsonb_build_object('op', x.draft_op, 'delta', coalesce(x.delta, '{}'), 'base', coalesce(x.base, '{}'),
                              'gone', coalesce(x.conflicts @> '[{"field": null}]', FALSE),
                              'skipped', coalesce(d.names, '[]')) AS draft
      FROM touched AS t
      LEFT JOIN dropped AS d ON d.row_key = t.row_key
      LEFT JOIN LATERAL (
               SELECT x.ctid, x.session_id, x.pending_op, x.pending_state, x.draft_op, x.delta, x.base, x.conflicts
                 FROM pfa.modification AS x
                WHERE x.organization_id = $1 AND x.user_id = $2 AND x.row_key = t.row_key
                LIMIT 1
           ) AS x ON TRUE
      LEFT JOIN LATERAL (
               SELECT m.data FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = t.row_key LIMIT 1
           ) AS m ON TRUE
),
turned AS MATERIALIZED (
    SELECT p.row_key, p.at, p.session, p.place, p.session_id, p.pending_op, p.pending_state, p.nothing, p.leaving,
           p.elsewhere, p.draft,
           CASE WHEN p.elsewhere THEN p.draft || '{"skipped": [null]}'
                ELSE vanguard.turn_all(
                         p.draft,
                         CASE WHEN $5 THEN e.to_op ELSE e.from_op END,
                         CASE WHEN $5 THEN e.to_delta ELSE e.from_delta END - r.names,
                         CASE WHEN $5 THEN e.to_base ELSE e.from_base END,
                         CASE WHEN $5 THEN e.from_op ELSE e.to_op END,
                         CASE WHEN $5 THEN e.from_delta ELSE e.to_delta END - r.names,
                         CASE WHEN $5 THEN e.from_base ELSE e.to_base END,
                         $6::jsonb
                         ORDER BY CASE WHEN $5 THEN -e.number ELSE e.number END,
                                  CASE WHEN $5 THEN -e.place ELSE e.place END)
           END AS made
      FROM present AS p
      JOIN entry AS e ON e.row_key = p.row_key
     CROSS JOIN retired AS r
     GROUP BY p.row_key, p.at, p.session, p.place, p.session_id, p.pending_op, p.pending_state, p.nothing, p.leaving,
              p.elsewhere, p.draft
),
held AS MATERIALIZED (
    -- Nobody begins a draft of a row that is gone, nor a new row where one is on its way out.
    SELECT t.*, t.nothing AND CASE t.made ->> 'op' WHEN 'insert' THEN t.leaving ELSE t.made ->> 'op' IS NOT NULL END
           AS gone
      FROM turned AS t
),
judged AS MATERIALIZED (
    SELECT h.row_key, h.at, h.session, h.place, h.pending_op, h.pending_state, h.elsewhere, h.gone, h.draft AS was,
           m.made,
           NOT h.elsewhere AND m.made - 'skipped' IS DISTINCT FROM h.draft - 'skipped' AS changed,
           -- Whose the row is goes back and forth with what is drafted, also where that was the same before and after.
           m.made -> 'skipped' = '[]' AND m.made ->> 'op' IS NOT NULL AND h.session_id IS DISTINCT FROM h.session
               AS goes
      FROM held AS h
     CROSS JOIN LATERAL (
               SELECT CASE WHEN h.gone THEN h.draft || '{"skipped": [null]}' ELSE h.made END AS made
           ) AS m
),
moved AS (
    UPDATE pfa.modification AS x
       SET draft_op = j.made ->> 'op', delta = j.made -> 'delta', base = j.made -> 'base',
           version = CASE WHEN j.changed THEN $3 ELSE x.version END,
           modified_at = CASE WHEN j.changed THEN $7 ELSE x.modified_at END,
           session_id = CASE WHEN j.made ->> 'op' IS NOT NULL THEN j.session END
      FROM judged AS j
     WHERE x.ctid = j.place
       AND (j.changed OR j.goes)
),
made AS (
    INSERT INTO pfa.modification (organization_id, user_id, row_key, draft_op, delta, base, version, leaves, lands,
                                  session_id, modified_at)
    SELECT $1, $2, j.row_key, j.made ->> 'op', j.made -> 'delta', j.made -> 'base', $3, FALSE, FALSE,
           j.session, $7
      FROM judged AS j
     WHERE j.place IS NULL
       AND j.changed
),
weighed AS (
    UPDATE public.workspace AS w
       SET held_rows = w.held_rows + n.more_rows, held_bytes = w.held_bytes + n.more_bytes
      FROM (SELECT count(*) FILTER (WHERE j.place IS NULL) AS more_rows,
                   coalesce(sum(pg_column_size(j.made -> 'delta')
                                - CASE WHEN j.place IS NULL THEN 0
                                       ELSE pg_column_size(j.was -> 'delta') END), 0)::bigint AS more_bytes
              FROM judged AS j
             WHERE j.changed) AS n
     WHERE w.organization_id = $1
       AND w.dataset = $9
       AND w.user_id = $2
    RETURNING w.held_rows, w.held_bytes, w.held_known, n.more_rows, n.more_bytes
),
told AS (
    UPDATE pfa.step AS s
       SET state = CASE WHEN $5 THEN 'undone' ELSE 'done' END
     WHERE s.organization_id = $1
       AND s.user_id = $2
       AND s.session_id = $8
       AND s.number = ANY ($4)
)
SELECT j.row_key, j.changed, nullif(j.made -> 'skipped', '[]') AS skipped,
       CASE WHEN j.made -> 'skipped' = '[]' THEN NULL
            WHEN j.elsewhere THEN 'ROW_IN_OTHER_SESSION'
            WHEN j.gone THEN 'ROW_DELETED'
            WHEN EXISTS (SELECT FROM pfa.change AS c
                          WHERE c.organization_id = $1 AND c.row_key = j.row_key AND c.user_id = $2
                            AND c.state = ANY (vanguard.unfinished()) AND c.created_at >= j.at)
                THEN CASE WHEN j.pending_state = 'in_review' THEN 'IN_REVIEW' ELSE 'COMMITTED' END
            WHEN EXISTS (SELECT FROM pfa.history AS h
                          WHERE h.organization_id = $1 AND h.row_key = j.row_key AND h.actor = $2 AND h.at >= j.at)
                THEN 'COMMITTED'
            ELSE 'CHANGED_SINCE' END AS code,
       w.held_rows, w.held_bytes, w.held_known, w.more_rows, w.more_bytes
  FROM judged AS j
 CROSS JOIN weighed AS w
 ORDER BY j.row_key;
