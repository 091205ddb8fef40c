-- The caller's drafts that a commit or a discard is about, read after lock 2 is held.
-- $1 organization, $2 user, $3 value (what the selection compares: text[] row keys, text session id, or true for all),
-- $4 dataset, $5 session (text or NULL: the open session that is named), $6 at (timestamptz now).
-- Returns row_key, version, draft_op, pending_state, absent (the mirror has no such row), elsewhere (the row belongs to
-- another open session).
--
-- Plan: the caller's modifications, and the mirror's primary key for each. LIMIT keeps the planner from a hash of all
-- the organization's rows, which it takes for cheaper where it expects many drafts.
SELECT x.row_key, x.version, x.draft_op, x.pending_state,
       (SELECT m.row_key
          FROM pfa.mirror AS m
         WHERE m.organization_id = $1 AND m.row_key = x.row_key
         LIMIT 1) IS NULL AS absent,
       coalesce(x.session_id = ANY ((SELECT vanguard.open_sessions($1, $4, $2, $6))::text[])
                AND x.session_id IS DISTINCT FROM $5, FALSE) AS elsewhere
  FROM pfa.modification AS x
 WHERE x.organization_id = $1
   AND x.user_id = $2
   AND (x.draft_op IS NOT NULL OR x.pending_state = ANY (vanguard.refused()))
   AND /*{selection}*/x.row_key = ANY ($3::text[])/*{}*/
 ORDER BY x.row_key;
