-- A report is decided. $1 organization, $2 id (uuid), $3 state, $4 user (text, NULL for the service),
-- $5 at (timestamptz now), $6 reason (text), $7 made_version (text). Returns id; nothing where it is open no more.
UPDATE public.drift_report AS r
   SET state = $3, decided_by = $4, decided_at = $5, reason = $6, made_version = $7
 WHERE r.organization_id = $1
   AND r.id = $2
   AND r.state = 'open'
RETURNING r.id;
