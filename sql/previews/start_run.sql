-- A validation run begins, or begins again after it failed, with nothing of what it said before.
-- $1 organization, $2 id (uuid), $3 was (text: the state that is expected), $4 contract_version (text: what judges),
-- $5 at (timestamptz now).
-- Returns id; no row where it is in another state.
UPDATE public.validation_run AS r
   SET state = 'in_progress', contract_version = $4, started_at = $5, finished_at = NULL, counts = NULL,
       messages = NULL, reason = NULL, decided_by = NULL
 WHERE r.organization_id = $1
   AND r.id = $2
   AND r.state = $3
RETURNING r.id;
