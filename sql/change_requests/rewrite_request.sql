-- The cells of a request in review are other ones now: its next iteration. The caller holds its lock.
-- $1 organization, $2 id (uuid), $3 content (text), $4 summary (jsonb), $5 conflicts (jsonb: what the last merge met),
-- $6 validation (jsonb), $7 at (timestamptz now). Returns iteration.
UPDATE public.change_request AS r
   SET iteration = r.iteration + 1, content = $3, summary = $4, conflicts = $5, validation = $6, updated_at = $7
 WHERE r.organization_id = $1
   AND r.id = $2
RETURNING r.iteration;
