-- What is to be done about organizations' own datasets, all in one statement: so that a worker that has nothing to do
-- pays nothing for their number.
-- $1 at (timestamptz now).
-- Returns organization_id, base, major, schema_name, work: ingest (a run waits, or was left unfinished), kpis (the view
-- is behind), sessions (one's time is over).
-- All organizations: a worker finds what is due; what it does then is of one organization.
-- Plan: partial indexes of runs and sessions that are not over; one pass over the own datasets by dataset_own.
SELECT DISTINCT d.organization_id, d.base, d.major, d.schema_name, w.work
  FROM (SELECT r.organization_id, r.dataset, 'ingest' AS work
          FROM public.sync_run AS r
         WHERE r.kind IN ('ingest', 'replay', 'backfill') AND r.state IN ('requested', 'running')
         UNION ALL
        SELECT s.organization_id, s.dataset, 'sessions'
          FROM public.edit_session AS s
         WHERE s.state IN ('active', 'preview') AND s.expires_at <= $1) AS w
  JOIN public.dataset AS d
    ON d.organization_id = w.organization_id AND d.name = w.dataset AND d.schema_name IS NOT NULL
 UNION ALL
SELECT d.organization_id, d.base, d.major, d.schema_name, 'kpis'
  FROM public.dataset AS d
 WHERE d.schema_name IS NOT NULL
   AND d.revision > d.kpi_revision;
