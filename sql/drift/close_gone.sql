-- A pull finds no drift any more, or another one: what nobody has decided is past. $1 organization, $2 base (the
-- dataset's name without a version), $3 at (timestamptz now), $4 but (uuid: the report of what it
-- finds, NULL for none).
-- Returns id, severity of each.
UPDATE public.drift_report AS r
   SET state = 'gone', decided_at = $3
 WHERE r.organization_id = $1
   AND r.dataset = $2
   AND r.source = 'pull'
   AND r.state = 'open'
   AND r.id IS DISTINCT FROM $4
RETURNING r.id, r.severity;
