-- Discard the caller's whole drafts: what has nothing pending goes, what has keeps it. The caller holds lock 2, and
-- lock 4 on the rows that keep something.
-- $1 organization, $2 user, $3 version (bigint: the workspace's new revision), $4 keys (text[]), $5 at (timestamptz
-- now), $6 dataset.
-- Returns row_key of the modifications that stay, to be imaged.
WITH gone AS (
    DELETE FROM pfa.modification AS x
     WHERE x.organization_id = $1
       AND x.user_id = $2
       AND x.row_key = ANY ($4::text[])
       AND x.pending_op IS NULL
    RETURNING pg_column_size(x.delta || '{}') AS bytes
),
weighed AS (
    -- The drafts of rows that stay are not taken off: the user is said to hold a little more.
    UPDATE public.workspace AS w
       SET held_rows = w.held_rows - n.rows, held_bytes = w.held_bytes - n.bytes
      FROM (SELECT count(*) AS rows, coalesce(sum(g.bytes), 0)::bigint AS bytes FROM gone AS g) AS n
     WHERE w.organization_id = $1
       AND w.dataset = $6
       AND w.user_id = $2
)
UPDATE pfa.modification AS x
   SET draft_op = NULL, delta = '{}', base = '{}', conflicts = NULL, session_id = NULL, change_reason = NULL,
       version = $3, modified_at = $5
 WHERE x.organization_id = $1
   AND x.user_id = $2
   AND x.row_key = ANY ($4::text[])
   AND x.pending_op IS NOT NULL
RETURNING x.row_key;
