-- A run of ingestion: one that waits for a worker, or one that is done in the request itself.
-- $1 organization, $2 dataset, $3 run_id (uuid), $4 kind, $5 user, $6 at (timestamptz), $7 parameters (jsonb), $8 total
-- (bigint: records, or NULL), $9 done (boolean). Returns nothing.
INSERT INTO public.sync_run
       (organization_id, id, dataset, kind, state, requested_by, requested_at, started_at, progressed_at, finished_at,
        parameters, total)
VALUES ($1, $3, $2, $4, CASE WHEN $9 THEN 'succeeded' ELSE 'requested' END, $5, $6::timestamptz,
        CASE WHEN $9 THEN $6::timestamptz END, CASE WHEN $9 THEN $6::timestamptz END,
        CASE WHEN $9 THEN $6::timestamptz END, $7, $8);
