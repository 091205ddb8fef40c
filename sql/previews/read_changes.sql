-- What a session's drafts change, row by row in the order of their keys: the cells that differ from theirs, conflicts,
-- what others have on their way in the same cells, and what rules have to look at. It is read in batches: all of one
-- snapshot, and no more in memory than a batch.
--
-- $1 organization, $2 user, $3 session_id (text), $4 from_key (text: only rows from this one on, '' for all), $5 groups
-- (jsonb atomic groups), $6 ruled_fields (text[]: the fields that rules look at), $7 unruled_fields (text[]: all the
-- others), $8 upstream_only (text[]: the fields that a new row cannot bring), $9 initial (jsonb: what upstream will
-- derive of a new row), $10 most (bigint: rows, or NULL for all).
-- Returns row_key, drafted (the draft's op), op (what it comes to: an insert of a row that is there updates it), gone
-- (it is an update of a row that is not there), cells (text: a JSON array of [field, old, new], NULL where no cell
-- differs), theirs (text: the row that is to be deleted), before (text: theirs without the unruled fields, where a rule
-- has to look), conflicts (text: a JSON array of {field, base, theirs, mine}, or NULL), overlaps (text: a JSON array of
-- {field, state, requestId, userId, value}, or NULL).
--
-- Sides, and which of them conflict, are as in freeze_drafts. A cell that others have changed, and that the draft
-- leaves as it was when it was first touched, is no difference: a commit takes theirs. A deletion of what is gone is
-- none.
--
-- Plan: the user's modifications by their primary key, for each the mirror's primary key and the row's unfinished
-- changes; no sort, and no step that has to be complete before the next, so that the first rows come at once: a LIMIT
-- that it does not know makes the planner think of them. OFFSET 0 keeps a step from being computed again for every use
-- of it, ORDER BY tells the next one that its rows are in order.
WITH present AS (
    SELECT x.row_key, x.draft_op, x.delta, x.base, x.pending, m.data,
           -- pfa.in_flight, but for the call of a function for each row; OFFSET 0, lest all changes be read for a hash.
           EXISTS (SELECT FROM pfa.change AS c
                    WHERE c.organization_id = $1 AND c.row_key = x.row_key
                      AND c.state = ANY (vanguard.unfinished())
                   OFFSET 0) AS busy
      FROM pfa.modification AS x
      LEFT JOIN LATERAL (
               SELECT m.data FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = x.row_key LIMIT 1
           ) AS m ON TRUE
     WHERE x.organization_id = $1
       AND x.user_id = $2
       AND x.row_key >= $4
       AND x.session_id = $3
       AND x.draft_op IS NOT NULL
     ORDER BY x.row_key
     LIMIT $10::bigint
),
sided AS (
    SELECT p.*, CASE WHEN p.busy THEN pfa.theirs($1, $2, p.row_key, p.data) ELSE p.data END AS theirs
      FROM present AS p
     ORDER BY p.row_key
    OFFSET 0
),
judged AS (
    SELECT s.*,
           CASE WHEN s.draft_op = 'insert' AND s.theirs IS NOT NULL THEN 'update' ELSE s.draft_op END AS op,
           CASE WHEN s.draft_op <> 'insert' THEN s.delta
                WHEN s.theirs IS NULL THEN (s.delta - $8::text[]) || $9::jsonb
                ELSE s.delta - $8::text[] - ARRAY(SELECT jsonb_object_keys($9::jsonb)) END AS mine,
           -- As vanguard.unchanged tells, and in less time: no cell is an array or an object.
           s.draft_op = 'update' AND s.theirs @> s.base AS clear
      FROM sided AS s
     WHERE s.draft_op <> 'delete'
        OR s.theirs IS NOT NULL
     ORDER BY s.row_key
    OFFSET 0
),
merged AS (
    -- Most drafts are of rows that nobody else has changed: their cells are not merged one by one.
    SELECT j.*,
           CASE WHEN j.op = 'update' AND j.theirs IS NOT NULL AND NOT j.clear
                THEN vanguard.three_way(j.base, j.theirs, j.mine, $5) END AS three_way
      FROM judged AS j
     ORDER BY j.row_key
    OFFSET 0
)
SELECT m.row_key, m.draft_op AS drafted, m.op, m.op = 'update' AND m.theirs IS NULL AS gone,
       (
           SELECT json_agg(json_build_array(field.key, coalesce(m.theirs -> field.key, 'null'), field.value)
                           ORDER BY field.key COLLATE "C")
             FROM jsonb_each(m.mine) AS field
            WHERE field.value <> coalesce(m.theirs -> field.key, 'null')
              AND (m.three_way IS NULL
                   OR m.three_way -> 'apply' ? field.key
                   OR EXISTS (SELECT FROM jsonb_array_elements(m.three_way -> 'conflicts') AS conflict
                               WHERE conflict ->> 'field' = coalesce($5::jsonb -> field.key ->> 'cell', field.key)))
       )::text AS cells,
       CASE WHEN m.op = 'delete' THEN m.theirs END::text AS theirs,
       CASE WHEN m.op = 'delete' OR m.mine ?| $6::text[] THEN m.theirs - $7::text[] END::text AS before,
       CASE
           WHEN m.op = 'update' AND m.theirs IS NULL
               THEN jsonb_build_array(jsonb_build_object(
                        'field', NULL, 'base', pfa.beneath($1, m.row_key, m.data, m.pending) || m.base,
                        'theirs', NULL, 'mine', pfa.beneath($1, m.row_key, m.data, m.pending) || m.base || m.delta))
           WHEN m.op = 'delete' AND NOT vanguard.same_row(m.theirs, m.base)
               THEN jsonb_build_array(jsonb_build_object(
                        'field', NULL, 'base', m.base, 'theirs', m.theirs, 'mine', NULL))
           ELSE nullif(m.three_way -> 'conflicts', '[]')
       END::text AS conflicts,
       CASE WHEN m.busy THEN (
           SELECT json_agg(json_build_object(
                      'field', cell.name, 'state', c.state, 'userId', c.user_id,
                      'requestId', CASE WHEN c.state = 'in_review' THEN c.change_request_id END,
                      'value', CASE WHEN cell.fields IS NULL THEN c.delta -> cell.name
                                    ELSE vanguard.pick(c.base || c.delta, cell.fields) END)
                      ORDER BY c.id, cell.name COLLATE "C")
             FROM pfa.change AS c
            CROSS JOIN LATERAL (
                      SELECT NULL AS name, NULL::jsonb AS fields WHERE c.op = 'delete'
                      UNION
                      SELECT coalesce($5::jsonb -> name ->> 'cell', name), $5::jsonb -> name -> 'fields'
                        FROM jsonb_object_keys(c.delta) AS name
                       WHERE m.op = 'delete'
                          OR EXISTS (SELECT FROM jsonb_array_elements_text(
                                                     coalesce($5::jsonb -> name -> 'fields', jsonb_build_array(name)))
                                                 AS field
                                      WHERE m.delta ? field)
                  ) AS cell
            WHERE c.organization_id = $1
              AND c.row_key = m.row_key
              AND c.state = ANY (vanguard.unfinished())
              AND c.user_id <> $2
       ) END::text AS overlaps
  FROM merged AS m
 ORDER BY m.row_key;
