-- Somebody lets a run's warnings pass, with a reason.
-- $1 organization, $2 id (uuid), $3 reason (text), $4 user.
-- Returns id; no row where it is in another state.
UPDATE public.validation_run AS r
   SET state = 'passed', reason = $3, decided_by = $4
 WHERE r.organization_id = $1
   AND r.id = $2
   AND r.state = 'partial_pass'
RETURNING r.id;
