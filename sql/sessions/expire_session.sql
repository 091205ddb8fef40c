-- A session whose time is over ends, unless it was extended or ended meanwhile. The caller holds lock 2 of its user.
-- $1 organization, $2 id (text), $3 at (timestamptz now). Returns id; no row where there is nothing to do.
UPDATE public.edit_session AS s
   SET state = 'expired', ended_at = $3, digest = NULL, run_id = NULL
 WHERE s.organization_id = $1
   AND s.id = $2
   AND s.state IN ('active', 'preview')
   AND s.expires_at <= $3
RETURNING s.id;
