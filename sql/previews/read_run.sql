-- The validation run of a session.
-- $1 organization, $2 session_id (text).
-- Returns id, state, contract_version, counts, messages, started_at, finished_at, reason, decided_by,
-- decided_by_name; no row before the first preview.
-- Plan: validation_run_session.
SELECT r.id, r.state, r.contract_version, r.counts, r.messages, r.started_at, r.finished_at, r.reason, r.decided_by,
       vanguard.name_of($1, r.decided_by) AS decided_by_name
  FROM public.validation_run AS r
 WHERE r.organization_id = $1
   AND r.session_id = $2;
