-- Forget records that were received before a time, as they came, of all organizations: retention is administration.
-- What a run still has to take stays, however long it waits.
-- $1 before (timestamptz), $2 limit (bigint: at most so many). Returns forgotten.
-- All organizations: the worker's retention is one for all of them.
-- Plan: each dataset's oldest records by the primary key, and those again by their place: nobody changes a record that
-- was received, and a join by keys would read all of them.
WITH whose AS (
    SELECT DISTINCT c.organization_id, c.dataset FROM public.contract AS c
), awaited AS (
    SELECT s.organization_id, split_part(s.dataset, '@', 1) AS dataset,
           min((s.parameters ->> 'since')::timestamptz) AS since
      FROM public.sync_run AS s
     WHERE s.kind IN ('ingest', 'replay', 'backfill')
       AND s.state IN ('requested', 'running')
     GROUP BY s.organization_id, split_part(s.dataset, '@', 1)
), old AS (
    SELECT o.place
      FROM whose AS w
      LEFT JOIN awaited AS a ON a.organization_id = w.organization_id AND a.dataset = w.dataset
     CROSS JOIN LATERAL (
               SELECT r.ctid AS place
                 FROM public.received AS r
                WHERE r.organization_id = w.organization_id AND r.dataset = w.dataset
                  AND r.received_at < least($1, a.since)
                ORDER BY r.received_at, r.run_id, r.line
                LIMIT $2
           ) AS o
     LIMIT $2
), gone AS (
    DELETE FROM public.received AS r
     WHERE r.ctid = ANY (ARRAY(SELECT o.place FROM old AS o))
    RETURNING 1
)
SELECT count(*) AS forgotten FROM gone;
