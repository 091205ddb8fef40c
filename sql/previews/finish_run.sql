-- A validation run ends.
-- $1 organization, $2 id (uuid), $3 state (text: passed, partial_pass or failed), $4 counts (jsonb: findings by
-- severity), $5 messages (jsonb: the worst of them), $6 at (timestamptz now).
-- Returns id; no row where it is in another state.
UPDATE public.validation_run AS r
   SET state = $3, counts = $4, messages = $5, finished_at = $6
 WHERE r.organization_id = $1
   AND r.id = $2
   AND r.state = 'in_progress'
RETURNING r.id;
