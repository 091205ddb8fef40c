-- Discard the caller's whole drafts: what has nothing pending goes, what has keeps it. The caller holds lock 2, and
-- lock 4 on the rows that keep something.
-- $1 organization, $2 user, $3 version (bigint: the workspace's new revision), $4 keys (text[]), $5 at (timestamptz
-- now).
-- Returns row_key of the modifications that stay, to be imaged.
WITH gone AS (
    DELETE FROM pfa.modification AS x
     WHERE x.organization_id = $1
       AND x.user_id = $2
       AND x.row_key = ANY ($4::text[])
       AND x.pending_op IS NULL
)
UPDATE pfa.modification AS x
   SET draft_op = NULL, delta = '{}', base = '{}', conflicts = NULL, session_id = NULL, change_reason = NULL,
       version = $3, modified_at = $5
 WHERE x.organization_id = $1
   AND x.user_id = $2
   AND x.row_key = ANY ($4::text[])
   AND x.pending_op IS NOT NULL
RETURNING x.row_key;
