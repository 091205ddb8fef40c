-- Save a batch of drafts: merge each delta into what the caller drafted before, keep base as it was when a field was
-- first touched, and write the index image of the merged row; note what was changed as a step, for undo, and close what
-- was undone before. The caller holds locks 2, 3 and 4 on these rows.
--
-- $1 organization, $2 user, $3 version (bigint: the workspace's new revision), $4 drafts (jsonb, each id once:
-- [{id, op: update|insert|delete, delta, unset[], expectedVersion, expectedMirrorVersion, base: what the caller saw of
-- fields, changeReason, touched: what vanguard.touched makes of delta without unset; where it is left out, that is
-- asked}]), $5 groups (jsonb atomic groups), $6 at
-- (timestamptz now), $7 session_id (text or NULL: a word of the client's, or a session's id), $8 initial (jsonb: what a
-- new row starts with), $9 session (text or NULL: the open session that it names), $10 undo_group (text or NULL),
-- $11 drop_equal (boolean: cells that equal what lies beneath are taken out), $12 dataset.
-- Returns id, problem (NULL where saved), modification_id, version, mirror_version, sync_state, empty (to be swept: the
-- row is at version 0 then) for each draft; and beside each that was saved what the user holds then, with what is to be
-- swept (held_rows, held_bytes, held_known), and by how much this made it more (more_rows, more_bytes).
--
-- Plan: one pass over the request, primary keys by nested loops (LATERAL ... LIMIT 1: the planner knows nothing of the
-- request's size), no join between the results of steps.
WITH request AS (
    SELECT r.id, r.op, coalesce(r.delta, '{}') AS delta, coalesce(r.unset, '{}') AS unset,
           r."expectedVersion" AS expected_version, r."expectedMirrorVersion" AS expected_mirror_version,
           r.base AS given, r."changeReason" AS change_reason, r.touched
      FROM jsonb_to_recordset($4::jsonb)
        AS r (id text, op text, delta jsonb, unset text[], "expectedVersion" bigint, "expectedMirrorVersion" bigint,
              base jsonb, "changeReason" text, touched text[])
),
present AS (
    -- What there is of each row: the mirror's, the caller's own layer, and theirs.
    SELECT r.id, r.op, r.delta AS wanted_delta, r.expected_version, r.expected_mirror_version,
           CASE WHEN $11::boolean AND r.op = 'update' AND m.data IS NOT NULL
                THEN r.unset || ARRAY(SELECT field.key
                                        FROM jsonb_each(r.delta) AS field
                                       WHERE field.value
                                             = coalesce(x.pending -> field.key, m.data -> field.key, 'null'))
                ELSE r.unset END AS unset,
           r.unset AS given_unset, r.change_reason, r.touched, m.data, m.version AS mirror_version,
           x.id AS modification_id, x.session_id AS was_session_id,
           x.pending_op, coalesce(x.pending, '{}') AS pending, x.pending_state,
           x.draft_op, coalesce(x.delta, '{}') AS delta, coalesce(x.base, '{}') AS base, x.conflicts,
           coalesce(x.version, 0) AS version,
           t.theirs, CASE WHEN t.theirs IS NOT NULL THEN r.given END AS given,
           /*{before_columns}*/m.b_search, m.b_source, m.b_forecast_start, m.b_monthly_rental/*{}*/
      FROM request AS r
      LEFT JOIN LATERAL (
               SELECT m.data, m.version,
                      /*{before_image}*/m.search AS b_search, m.f_source AS b_source,
                      m.f_forecast_start AS b_forecast_start, m.f_monthly_rental AS b_monthly_rental/*{}*/
                 FROM pfa.mirror AS m
                WHERE m.organization_id = $1 AND m.row_key = r.id
                LIMIT 1
           ) AS m ON TRUE
      LEFT JOIN LATERAL (
               SELECT x.id, x.pending_op, x.pending, x.pending_state, x.draft_op, x.delta, x.base, x.conflicts,
                      x.version, x.session_id
                 FROM pfa.modification AS x
                WHERE x.organization_id = $1 AND x.user_id = $2 AND x.row_key = r.id
                LIMIT 1
           ) AS x ON TRUE
     CROSS JOIN LATERAL (
               -- pfa.in_flight, but for the call of a function for each row.
               SELECT CASE WHEN EXISTS (SELECT FROM pfa.change AS c
                                         WHERE c.organization_id = $1 AND c.row_key = r.id
                                           AND c.state = ANY (vanguard.unfinished()))
                           THEN pfa.theirs($1, $2, r.id, m.data) ELSE m.data END AS theirs
               OFFSET 0
           ) AS t
),
wanted AS (
    -- What the draft becomes, or why it cannot. A row that was deleted under a draft can only be inserted again.
    SELECT p.*,
           CASE
               WHEN p.was_session_id IS NOT NULL
                    AND p.was_session_id IS DISTINCT FROM $9
                    AND p.was_session_id = ANY ((SELECT vanguard.open_sessions($1, $12, $2, $6))::text[])
                   THEN 'ROW_IN_OTHER_SESSION'
               WHEN p.expected_version <> p.version OR p.expected_mirror_version <> coalesce(p.mirror_version, 0)
                   THEN 'VERSION_CONFLICT'
               WHEN p.op = 'insert' AND p.draft_op IS DISTINCT FROM 'insert' AND p.theirs IS NOT NULL THEN 'ROW_EXISTS'
               WHEN p.op = 'insert' AND p.pending_op = 'delete' THEN 'ROW_DELETED'
               -- Somebody's deletion is on its way: until it arrives, what is beneath would show through the new row.
               WHEN p.op = 'insert' AND coalesce(p.draft_op, 'delete') = 'delete' AND p.theirs IS NULL
                    AND p.data IS NOT NULL
                   THEN 'ROW_DELETED'
               -- Whoever deletes a row that was deleted under a draft agrees, and the draft ends.
               WHEN p.op <> 'insert' AND p.draft_op IS DISTINCT FROM 'insert' AND p.theirs IS NULL
                    AND NOT (p.op = 'delete' AND p.draft_op IS NOT NULL)
                   THEN CASE WHEN p.modification_id IS NULL THEN 'ROW_NOT_FOUND' ELSE 'ROW_DELETED' END
           END AS problem,
           CASE
               WHEN p.op = 'delete' THEN '{}'
               WHEN p.op = 'insert' AND coalesce(p.draft_op, 'delete') = 'delete'
                   THEN $8::jsonb || p.wanted_delta - p.unset
               WHEN p.op = 'insert' AND p.draft_op = 'update'
                   THEN (pfa.beneath($1, p.id, p.data, p.pending) || p.base || p.delta || p.wanted_delta) - p.unset
               ELSE (p.delta || p.wanted_delta) - p.unset
           END AS new_delta,
           CASE
               WHEN p.op = 'delete' AND (p.draft_op = 'insert' OR p.theirs IS NULL) THEN NULL
               WHEN p.op = 'delete' THEN 'delete'
               WHEN p.op = 'insert' OR p.draft_op = 'insert' THEN 'insert'
               WHEN (p.delta || p.wanted_delta) - p.unset <> '{}' THEN 'update'
           END AS new_op,
           -- What the caller has seen of the row: theirs, or its view alone where it says which mirror's row it saw;
           -- whatever others have on its way there is not in that. What this request itself has touched was seen then.
           CASE WHEN p.expected_mirror_version IS NULL THEN p.theirs
                ELSE coalesce(p.data, '{}') || p.pending END
               || CASE WHEN p.version = $3 THEN p.base ELSE '{}' END AS seen,
           p.given IS NOT NULL OR p.expected_mirror_version IS NOT NULL AS said,
           cardinality(p.unset) > cardinality(p.given_unset) AS dropped,
           -- Whoever writes over a conflict has seen it, unless this request has just brought it about.
           p.conflicts IS NOT NULL AND p.version <> $3 AS settles
      FROM present AS p
),
based AS (
    -- base of a field: what the caller says that it saw, but for its own draft; else theirs when it was first touched,
    -- or as the conflict showed it that the user has seen in it and writes over: it may have moved again since.
    SELECT w.*,
           CASE
               WHEN w.new_op = 'delete'
                   THEN CASE WHEN w.draft_op = 'delete' AND NOT w.settles AND NOT w.said THEN w.base
                             WHEN w.given IS NULL AND w.settles THEN w.theirs || w.shown
                             WHEN w.given IS NULL THEN w.seen
                             -- A field that was not there stands for null.
                             ELSE w.seen || (SELECT coalesce(jsonb_object_agg(field.key, field.value), '{}')
                                               FROM jsonb_each(w.given) AS field
                                              WHERE field.value
                                                    <> coalesce(w.delta -> field.key, w.seen -> field.key, 'null'))
                        END
               WHEN w.new_op IS NULL OR w.new_op = 'insert' AND w.draft_op IS DISTINCT FROM 'insert' THEN '{}'
               WHEN w.draft_op IS NULL AND w.touched IS NOT NULL AND NOT w.dropped
                   THEN (SELECT coalesce(jsonb_object_agg(
                                             field, coalesce(w.given -> field, w.seen -> field, 'null')), '{}')
                           FROM unnest(w.touched) AS field)
               ELSE (SELECT coalesce(jsonb_object_agg(field, CASE
                                WHEN w.given ? field AND w.given -> field IS DISTINCT FROM w.delta -> field
                                    THEN w.given -> field
                                WHEN w.written_again ? field
                                    THEN coalesce(w.shown -> field, w.theirs -> field, 'null')
                                WHEN w.touched_before ? field THEN coalesce(w.base -> field, 'null')
                                ELSE coalesce(w.seen -> field, 'null')
                            END), '{}')
                       -- As in vanguard.touched; here it is much cheaper than a call for each row.
                       FROM jsonb_object_keys(w.new_delta) AS name
                      CROSS JOIN LATERAL jsonb_array_elements_text(
                                     coalesce($5::jsonb -> name -> 'fields', jsonb_build_array(name))) AS field)
           END AS new_base,
           -- What has no draft is of no session.
           CASE WHEN w.new_op IS NOT NULL THEN coalesce($7, w.was_session_id) END AS new_session_id
      FROM (
          SELECT w.*,
                 -- A field that was not there when it was touched has no entry in base, and stands for null.
                 CASE WHEN w.draft_op = 'delete' THEN vanguard.touched(w.new_delta, $5)
                      WHEN w.draft_op IS NULL THEN '[]'
                      ELSE vanguard.touched(w.delta, $5) END AS touched_before,
                 CASE WHEN w.settles THEN vanguard.written_again(w.conflicts, w.wanted_delta, $5)
                      ELSE '[]' END AS written_again,
                 CASE WHEN w.settles THEN vanguard.shown(w.conflicts) END AS shown
            FROM wanted AS w
           WHERE w.problem IS NULL
      ) AS w
),
merged AS (
    -- The merged row, and the layer that makes it of the mirror's; OFFSET 0 keeps the merge from being repeated for
    -- every column of its image.
    SELECT b.*, d.doc, l.layer,
           CASE
               WHEN b.new_op IS NULL OR b.conflicts IS NULL AND NOT b.said THEN NULL
               WHEN b.new_op = 'delete'
                   THEN CASE WHEN NOT vanguard.same_row(b.theirs, b.new_base)
                             THEN jsonb_build_array(jsonb_build_object(
                                      'id', b.id, 'field', NULL, 'base', b.new_base, 'theirs', b.theirs, 'mine', NULL))
                        END
               ELSE nullif(vanguard.conflicts(b.id, b.new_base, b.theirs, b.new_delta, $5), '[]')
           END AS new_conflicts
      FROM based AS b
     CROSS JOIN LATERAL (
               SELECT CASE
                          WHEN b.new_op = 'delete' OR b.pending_op = 'delete' THEN NULL
                          WHEN b.data IS NULL AND 'insert' NOT IN (coalesce(b.pending_op, ''), coalesce(b.new_op, ''))
                              THEN NULL
                          ELSE coalesce(b.data, '{}') || b.pending || b.new_delta
                      END AS doc
               OFFSET 0
           ) AS d
     CROSS JOIN LATERAL (
               SELECT CASE WHEN b.data IS NOT NULL AND d.doc IS NOT NULL THEN b.pending || b.new_delta END AS layer
               OFFSET 0
           ) AS l
),
image AS (
    SELECT merged.*,
           /*{image}*/
           CASE WHEN NOT layer ? 'pfaId' THEN b_search
                ELSE vanguard.fold(coalesce(doc ->> 'pfaId', '')) END AS a_search,
           CASE WHEN NOT layer ? 'source' THEN b_source
                ELSE vanguard.as_text(doc, 'source') END AS a_source,
           CASE WHEN NOT layer ? 'forecastStart' THEN b_forecast_start
                ELSE vanguard.as_date(doc, 'forecastStart') END AS a_forecast_start
           /*{}*/
      FROM merged
    OFFSET 0
),
completed AS (
    SELECT image.*
           /*{computed_image}*/,
           CASE WHEN NOT layer ?| ARRAY['source', 'monthlyRate'] THEN b_monthly_rental
                ELSE pfa.monthly_rental(a_source, vanguard.as_number(doc, 'monthlyRate')) END AS a_monthly_rental
           /*{}*/
      FROM image
    OFFSET 0
),
imaged AS (
    SELECT completed.*,
           /*{differs}*/(b_source, b_forecast_start, b_monthly_rental)
           IS DISTINCT FROM (a_source, a_forecast_start, a_monthly_rental)/*{}*/ AS differs
      FROM completed
),
saved AS (
    INSERT INTO pfa.modification AS x (
        organization_id, user_id, row_key, pending_op, pending, pending_state, draft_op, delta, base, conflicts,
        mirror_version, version, leaves, lands, reworded, session_id, change_reason, modified_at,
        /*{image_columns}*/b_source, b_forecast_start, b_monthly_rental,
        a_search, a_source, a_forecast_start, a_monthly_rental/*{}*/
    )
    SELECT $1, $2, imaged.id, imaged.pending_op, imaged.pending, imaged.pending_state, imaged.new_op, imaged.new_delta,
           imaged.new_base, imaged.new_conflicts, imaged.mirror_version, $3,
           imaged.data IS NOT NULL AND (imaged.doc IS NULL OR imaged.differs),
           imaged.doc IS NOT NULL AND (imaged.data IS NULL OR imaged.differs),
           imaged.data IS NOT NULL AND imaged.doc IS NOT NULL AND NOT imaged.differs
           AND imaged.b_search <> imaged.a_search,
           imaged.new_session_id, imaged.change_reason, $6,
           /*{image_columns}*/b_source, b_forecast_start, b_monthly_rental,
           a_search, a_source, a_forecast_start, a_monthly_rental/*{}*/
      FROM imaged
        ON CONFLICT (organization_id, user_id, row_key) DO UPDATE SET
           draft_op = excluded.draft_op, delta = excluded.delta, base = excluded.base, conflicts = excluded.conflicts,
           mirror_version = excluded.mirror_version, version = excluded.version, leaves = excluded.leaves,
           lands = excluded.lands, reworded = excluded.reworded,
           session_id = excluded.session_id,
           change_reason = coalesce(excluded.change_reason, x.change_reason), modified_at = excluded.modified_at,
           /*{take_image}*/b_source = excluded.b_source, b_forecast_start = excluded.b_forecast_start,
           b_monthly_rental = excluded.b_monthly_rental, a_search = excluded.a_search, a_source = excluded.a_source,
           a_forecast_start = excluded.a_forecast_start, a_monthly_rental = excluded.a_monthly_rental/*{}*/
    RETURNING x.row_key, x.id, x.version, x.mirror_version, x.sync_state,
              x.draft_op IS NULL AND x.pending_op IS NULL AS empty
),
stepped AS (
    SELECT ROW(b.id, b.draft_op, b.delta, b.base, b.was_session_id, b.new_op, b.new_delta, b.new_base,
               b.new_session_id)::vanguard.stepped_row AS row
      FROM based AS b
     WHERE b.draft_op IS NOT NULL
        OR b.new_op IS NOT NULL
),
weighed AS (
    -- What the user holds now: docs/decisions.md says why it is counted here.
    UPDATE public.workspace AS w
       SET held_rows = w.held_rows + n.more_rows, held_bytes = w.held_bytes + n.more_bytes
      FROM (SELECT count(*) FILTER (WHERE b.modification_id IS NULL) AS more_rows,
                   coalesce(sum(pg_column_size(b.new_delta || '{}')
                                - CASE WHEN b.modification_id IS NULL THEN 0
                                       ELSE pg_column_size(b.delta || '{}') END), 0)::bigint AS more_bytes
              FROM based AS b) AS n
     WHERE w.organization_id = $1
       AND w.dataset = $12
       AND w.user_id = $2
    RETURNING w.held_rows, w.held_bytes, w.held_known, n.more_rows, n.more_bytes
),
closed AS (
    UPDATE pfa.step AS s
       SET state = 'closed'
     WHERE s.organization_id = $1
       AND s.user_id = $2
       AND s.session_id = coalesce($9, '')
       AND s.state = 'undone'
       AND s.number < $3
),
forgotten AS (
    -- Outside of sessions a hundred are kept: this one, whichever of its statements this is, and those before.
    DELETE FROM pfa.step AS s
     WHERE $9 IS NULL
       AND s.organization_id = $1
       AND s.user_id = $2
       AND s.session_id = ''
       AND s.number <= (SELECT f.number
                          FROM pfa.step AS f
                         WHERE f.organization_id = $1 AND f.user_id = $2 AND f.session_id = '' AND f.number < $3
                         ORDER BY f.number DESC
                        OFFSET 99
                         LIMIT 1)
),
noted AS (
    -- The drafts of one row in one request come one after the other, and are one step.
    INSERT INTO pfa.step AS s (organization_id, user_id, number, session_id, undo_group, rows, at)
    SELECT $1, $2, $3, coalesce($9, ''), $10, n.rows, $6
      FROM (SELECT array_agg(t.row) AS rows FROM stepped AS t) AS n
     WHERE n.rows IS NOT NULL
        ON CONFLICT (organization_id, user_id, session_id, number) DO UPDATE SET rows = s.rows || excluded.rows
)
SELECT s.row_key AS id, NULL AS problem, s.id::text AS modification_id,
       CASE WHEN s.empty THEN 0 ELSE s.version END AS version, coalesce(s.mirror_version, 0) AS mirror_version,
       CASE WHEN s.empty THEN 'pristine' ELSE s.sync_state END AS sync_state, s.empty,
       h.held_rows, h.held_bytes, h.held_known, h.more_rows, h.more_bytes
  FROM saved AS s
 CROSS JOIN weighed AS h
UNION ALL
SELECT w.id, w.problem, NULL, w.version, coalesce(w.mirror_version, 0), NULL, FALSE, NULL, NULL, NULL, NULL, NULL
  FROM wanted AS w
 WHERE w.problem IS NOT NULL;
