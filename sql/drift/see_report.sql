-- The same drift as before, seen again: no new report. $1 organization, $2 base (the dataset's name without a version),
-- $3 source, $4 version, $5 digest (bytea), $6 at (timestamptz now), $7 rows (bigint), $8 run_id (uuid).
-- Returns id, state, severity, reason, decided_by_name, made_version; nothing where nobody has seen it, or it is past.
-- What was accepted of records is still to be promoted; what was accepted of a pull does not come again.
UPDATE public.drift_report AS r
   SET seen_at = $6, times = r.times + 1, rows = $7, run_id = $8
 WHERE r.organization_id = $1
   AND r.dataset = $2
   AND r.source = $3
   AND r.version = $4
   AND r.digest = $5
   AND r.source IN ('pull', 'ingest')
   AND (r.state IN ('open', 'rejected', 'applied') OR (r.source = 'ingest' AND r.state = 'accepted'))
RETURNING r.id, r.state, r.severity, r.reason, vanguard.name_of($1, r.decided_by) AS decided_by_name, r.made_version;
