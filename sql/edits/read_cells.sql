-- The rows that cells are about to be edited of, as their user has them, without the fields that nobody asks for. The
-- caller holds locks 2, 3 and 4 on them.
-- $1 organization, $2 dataset, $3 user, $4 keys (text[]), $5 unasked (text[]: fields), $6 session (text: where the
-- edits belong), $7 at (timestamptz now).
-- Returns row_key, op (of what is drafted, or pending), before (the row without the draft, NULL where that is the same
-- or where there is none), doc (with it), new (nothing lies beneath the draft), elsewhere (the row belongs to another
-- open session); no row for a key that is none.
--
-- Plan: primary keys by nested loops.
SELECT k.key AS row_key, coalesce(x.draft_op, x.pending_op) AS op,
       CASE WHEN x.draft_op IS NOT NULL AND m.data IS NOT NULL THEN m.data || x.pending - $5::text[] END AS before,
       coalesce(m.data || x.pending || x.delta, m.data, coalesce(x.pending, '{}') || coalesce(x.delta, '{}'))
           - $5 AS doc,
       m.data IS NULL AND x.pending_op IS NULL AS new,
       coalesce(x.session_id <> $6
                AND x.session_id = ANY ((SELECT vanguard.open_sessions($1, $2, $3, $7))::text[]), FALSE) AS elsewhere
  FROM unnest($4::text[]) AS k (key)
  LEFT JOIN LATERAL (
           SELECT m.data FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = k.key LIMIT 1
       ) AS m ON TRUE
  LEFT JOIN LATERAL (
           SELECT x.row_key, x.draft_op, x.delta, x.pending_op, x.pending, x.session_id
             FROM pfa.modification AS x
            WHERE x.organization_id = $1 AND x.user_id = $3 AND x.row_key = k.key
            LIMIT 1
       ) AS x ON TRUE
 WHERE m.data IS NOT NULL
    OR x.row_key IS NOT NULL;
