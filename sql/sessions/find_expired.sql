-- Sessions of a dataset whose time is over, and that nobody has ended yet.
-- $1 organization, $2 dataset, $3 at (timestamptz now), $4 limit (bigint). Returns id, user_id.
-- Plan: edit_session_expiring.
SELECT s.id, s.user_id
  FROM public.edit_session AS s
 WHERE s.organization_id = $1
   AND s.dataset = $2
   AND s.state IN ('active', 'preview')
   AND s.expires_at <= $3
 ORDER BY s.expires_at
 LIMIT $4;
