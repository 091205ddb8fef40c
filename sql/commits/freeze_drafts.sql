-- Freeze drafts into changes: three-way check of every cell, a change for each row that has something to do, and the
-- delta moved to pending. The caller holds locks 2, 3 and 4 on these rows, and rolls back when a conflict comes out, or
-- wants it skipped: then the cells in conflict stay drafted, with their base, and a row in conflict as it is.
--
-- $1 organization, $2 user, $3 version (bigint: the workspace's new revision), $4 keys (text[]), $5 groups (jsonb
-- atomic groups), $6 commit_id (uuid), $7 reason (text, or NULL: then each draft's own), $8 at (timestamptz now),
-- $9 unruled_fields (text[]: the fields that no rule looks at), $10 upstream_only (text[]: the fields that a new row
-- cannot bring), $11 initial (jsonb: what upstream will derive of a new row), $12 skip (boolean), $13 dataset.
-- Returns row_key, op (NULL: nothing to do), before, after (theirs and the result without the unruled fields, NULL for
-- no row), conflicts (jsonb array or NULL), imaged (the merged row is what it was, and so is its image), left_out
-- (text[] or NULL: the fields that had a value and that upstream cannot write, of a row that is inserted again).
--
-- Most drafts are of rows that nobody else has changed: they are clear, and their cells are not merged one by one.
--
-- | base | theirs | mine | op, or conflict |
-- | theirs = base, cell by cell | | | update with the cells of mine that differ |
-- | draft | row deleted | edited | conflict of the whole row |
-- | row | edited | deleted | conflict of the whole row |
-- | row | deleted | deleted | nothing to do |
-- | - | inserted | inserted | cells that differ: conflict; none: nothing to do |
--
-- Plan: the drafts by keys, the mirror's primary key for each, the drafts again by their place: nobody else writes
-- them, and a join by keys is quadratic where the planner expects few.
WITH present AS MATERIALIZED (
    SELECT x.ctid AS place, x.row_key, x.draft_op, x.delta, x.base, x.change_reason, m.data,
           x.pending_op, x.pending, x.pending_state,
           t.theirs, x.draft_op = 'update' AND vanguard.unchanged(t.theirs, x.base) AS clear,
           -- A new row that is there by now: what it cannot bring is as upstream has it.
           CASE WHEN x.draft_op = 'insert' AND t.theirs IS NOT NULL
                THEN x.delta - $10::text[] - ARRAY(SELECT jsonb_object_keys($11::jsonb)) ELSE x.delta END AS mine
      FROM pfa.modification AS x
      LEFT JOIN LATERAL (
               SELECT m.data FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = x.row_key LIMIT 1
           ) AS m ON TRUE
     CROSS JOIN LATERAL (
               SELECT CASE WHEN pfa.in_flight($1, x.row_key) THEN pfa.theirs($1, $2, x.row_key, m.data)
                           ELSE m.data END AS theirs
               OFFSET 0
           ) AS t
     WHERE x.organization_id = $1
       AND x.user_id = $2
       AND x.row_key = ANY ($4::text[])
       AND x.draft_op IS NOT NULL
),
judged AS MATERIALIZED (
    SELECT p.*,
           CASE WHEN p.draft_op = 'delete' OR p.theirs IS NULL THEN NULL
                WHEN p.clear THEN jsonb_build_object('apply', (
                         SELECT coalesce(jsonb_object_agg(field.key, field.value), '{}')
                           FROM jsonb_each(p.delta) AS field
                          WHERE field.value IS DISTINCT FROM coalesce(p.theirs -> field.key, 'null')))
                ELSE vanguard.three_way(p.base, p.theirs, p.mine, $5) END AS cells
      FROM present AS p
),
decided AS MATERIALIZED (
    SELECT j.place, j.row_key, j.pending_op, j.pending, j.pending_state, j.theirs, j.change_reason,
           CASE
               WHEN j.draft_op = 'delete' THEN CASE WHEN vanguard.same_row(j.theirs, j.base) THEN 'delete' END
               WHEN j.draft_op = 'insert' AND j.theirs IS NULL THEN 'insert'
               WHEN j.cells -> 'apply' <> '{}' THEN 'update'
           END AS op,
           CASE
               WHEN j.draft_op = 'delete' THEN '{}'
               WHEN j.draft_op = 'insert' AND j.theirs IS NULL THEN (j.delta - $10::text[]) || $11::jsonb
               ELSE coalesce(j.cells -> 'apply', '{}')
           END AS delta,
           CASE
               WHEN j.draft_op = 'delete' AND j.theirs IS NOT NULL AND NOT vanguard.same_row(j.theirs, j.base)
                   THEN jsonb_build_array(jsonb_build_object(
                            'id', j.row_key, 'field', NULL, 'base', j.base, 'theirs', j.theirs, 'mine', NULL))
               WHEN j.draft_op = 'update' AND j.theirs IS NULL
                   THEN jsonb_build_array(jsonb_build_object(
                            'id', j.row_key, 'field', NULL,
                            'base', pfa.beneath($1, j.row_key, j.data, j.pending) || j.base, 'theirs', NULL,
                            'mine', pfa.beneath($1, j.row_key, j.data, j.pending) || j.base || j.delta))
               WHEN j.cells -> 'conflicts' <> '[]'
                   THEN vanguard.conflicts(j.row_key, j.base, j.theirs, j.mine, $5)
           END AS conflicts,
           -- What stays drafted of a row whose cells conflict; of a new row that is there by now, an edit of it.
           CASE WHEN j.cells -> 'conflicts' <> '[]'
                THEN (SELECT jsonb_object_agg(field.key, field.value)
                        FROM jsonb_each(j.mine) AS field
                       WHERE EXISTS (SELECT FROM jsonb_array_elements(j.cells -> 'conflicts') AS conflict
                                      WHERE conflict ->> 'field' = coalesce($5 -> field.key ->> 'cell', field.key)))
           END AS kept,
           -- All of the draft, as it was drafted: a change needs no other base, and the merged row stays what it was.
           coalesce(j.clear AND j.cells -> 'apply' = j.delta, FALSE) AS whole, j.base,
           pg_column_size(j.delta || '{}') AS bytes,
           CASE WHEN j.draft_op = 'insert' AND j.theirs IS NULL AND j.delta ?| $10
                THEN (SELECT array_agg(name ORDER BY name COLLATE "C")
                        FROM unnest($10) AS name
                       WHERE j.delta -> name <> 'null') END AS left_out
      FROM judged AS j
),
frozen AS (
    INSERT INTO pfa.change (organization_id, row_key, user_id, op, base, delta, state, commit_id, change_reason,
                            created_at)
    SELECT $1, d.row_key, $2, d.op,
           CASE WHEN d.whole THEN d.base
                WHEN d.op = 'update' THEN vanguard.pick(d.theirs, vanguard.touched(d.delta, $5))
                WHEN d.op = 'delete' THEN d.theirs
                ELSE '{}' END,
           d.delta, 'committed', $6, coalesce($7, d.change_reason), $8
      FROM decided AS d
     WHERE d.op IS NOT NULL
       AND (d.conflicts IS NULL OR $12::boolean)
     ORDER BY d.row_key
    RETURNING row_key
),
moved AS (
    UPDATE pfa.modification AS x
       SET draft_op = CASE WHEN d.kept IS NOT NULL THEN 'update' END,
           delta = coalesce(d.kept, '{}'),
           -- What is committed of the row was drafted with the cell, and is no change of somebody else's.
           base = CASE WHEN d.kept IS NULL THEN '{}'
                       ELSE vanguard.pick('{}', vanguard.written(d.kept, $5))
                            || vanguard.present(d.base || d.delta, vanguard.touched(d.kept, $5)) END,
           session_id = CASE WHEN d.kept IS NOT NULL THEN x.session_id END,
           change_reason = CASE WHEN d.kept IS NOT NULL THEN x.change_reason END,
           conflicts = NULL, version = $3, modified_at = $8,
           pending_op = CASE WHEN d.op IS NULL THEN d.pending_op
                             WHEN d.pending_op IS NULL THEN d.op
                             ELSE layer.folded ->> 'op' END,
           pending = CASE WHEN d.op IS NULL THEN d.pending
                          WHEN d.pending_op IS NULL THEN d.delta
                          ELSE layer.folded -> 'delta' END,
           pending_state = CASE
               WHEN d.op IS NULL OR d.pending_state IN ('conflict', 'sync_error', 'syncing') THEN d.pending_state
               ELSE 'committed'
           END
      FROM decided AS d
     CROSS JOIN LATERAL (
               SELECT CASE WHEN d.op IS NOT NULL AND d.pending_op IS NOT NULL
                           THEN vanguard.fold_layer(jsonb_build_object('op', d.pending_op, 'delta', d.pending),
                                                    d.op, d.delta) END AS folded
               OFFSET 0
           ) AS layer
     WHERE x.ctid = d.place
       AND (d.conflicts IS NULL OR d.kept IS NOT NULL)
),
weighed AS (
    -- The rows stay, with what is pending.
    UPDATE public.workspace AS w
       SET held_bytes = w.held_bytes - n.bytes
      FROM (SELECT coalesce(sum(d.bytes - pg_column_size(coalesce(d.kept, '{}'))), 0)::bigint AS bytes
              FROM decided AS d
             WHERE d.conflicts IS NULL OR d.kept IS NOT NULL) AS n
     WHERE w.organization_id = $1
       AND w.dataset = $13
       AND w.user_id = $2
)
SELECT d.row_key, d.op, d.conflicts,
       d.theirs - $9::text[] AS before,
       CASE WHEN d.op = 'delete' THEN NULL ELSE (coalesce(d.theirs, '{}') || d.delta) - $9::text[] END AS after,
       d.whole AND coalesce(d.pending_op, 'update') = 'update'
       AND coalesce(d.pending_state <> ALL (vanguard.refused()), TRUE) AS imaged, d.left_out
  FROM decided AS d
 ORDER BY d.row_key;
