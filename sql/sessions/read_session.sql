-- One session of a user, as it is at a time: one whose time is over counts as expired, whether or not a worker came by.
-- $1 organization, $2 dataset, $3 user, $4 id (text), $5 at (timestamptz now).
-- Returns id, mode, rows, row_count, title, state, created_at, expires_at, edits, staged, run_id, digest; no row where
-- it is none.
SELECT s.id, s.mode, s.rows, coalesce(cardinality(s.rows), 0) AS row_count, s.title,
       CASE WHEN s.state IN ('active', 'preview') AND s.expires_at <= $5 THEN 'expired' ELSE s.state END AS state,
       s.created_at, s.expires_at, s.edits, s.staged, s.run_id, s.digest
  FROM public.edit_session AS s
 WHERE s.organization_id = $1
   AND s.id = $4
   AND s.dataset = $2
   AND s.user_id = $3;
