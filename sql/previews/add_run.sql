-- A session's next validation run, in place of the one before: a session has one at a time. Under lock 2 of its user.
-- $1 organization, $2 dataset, $3 session_id (text), $4 id (uuid), $5 contract_version (text). Returns id.
WITH superseded AS (
    DELETE FROM public.validation_run AS r WHERE r.organization_id = $1 AND r.session_id = $3
)
INSERT INTO public.validation_run (organization_id, id, dataset, session_id, contract_version)
VALUES ($1, $4, $2, $3, $5)
RETURNING id;
