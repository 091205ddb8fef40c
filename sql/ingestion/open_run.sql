-- Begin the oldest run that waits, or go on with one that a worker left unfinished; the caller alone does this for the
-- dataset (an advisory lock). $1 organization, $2 dataset, $3 at (timestamptz now). Returns id, kind, parameters
-- (jsonb), cursor, requested_at, quarantined; no row where there is none.
UPDATE public.sync_run AS r
   SET state = 'running', started_at = coalesce(r.started_at, $3), progressed_at = $3
 WHERE r.organization_id = $1
   AND r.id = (SELECT o.id
                 FROM public.sync_run AS o
                WHERE o.organization_id = $1
                  AND o.dataset = $2
                  AND o.kind IN ('ingest', 'replay', 'backfill')
                  AND o.state IN ('requested', 'running')
                ORDER BY o.started_at, o.requested_at, o.id
                LIMIT 1)
   AND r.state IN ('requested', 'running')
RETURNING r.id, r.kind, r.parameters, r.cursor, r.requested_at, r.quarantined;
