-- A page of a user's sessions, the newest first, as they are at a time: one whose time is over counts as expired.
-- $1 organization, $2 dataset, $3 user, $4 at (timestamptz now), $5 status (text, or NULL), $6 after (timestamptz),
-- $7 after_id (text): only sessions behind the one that was begun then, NULL both for the first page; $8 limit
-- (bigint).
-- Returns id, mode, rows (the first 20), row_count, title, state, created_at, expires_at, edits, staged, run_id,
-- digest.
-- Plan: edit_session_newest from the position on.
SELECT s.id, s.mode, s.rows, s.row_count, s.title, s.state, s.created_at, s.expires_at, s.edits, s.staged, s.run_id,
       s.digest
  FROM (
      SELECT s.id, s.mode, s.rows[1:20] AS rows, coalesce(cardinality(s.rows), 0) AS row_count, s.title,
             CASE WHEN s.state IN ('active', 'preview') AND s.expires_at <= $4 THEN 'expired' ELSE s.state END AS state,
             s.created_at, s.expires_at, s.edits, s.staged, s.run_id, s.digest
        FROM public.edit_session AS s
       WHERE s.organization_id = $1
         AND s.dataset = $2
         AND s.user_id = $3
         AND s.created_at <= coalesce($6::timestamptz, 'infinity')
         AND ($6 IS NULL OR s.created_at < $6 OR s.id > $7::text)
  ) AS s
 WHERE $5::text IS NULL
    OR s.state = $5
 ORDER BY s.created_at DESC, s.id
 LIMIT $8;
