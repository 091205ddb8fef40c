-- Forget records that were received before a time, as they came, of all organizations: retention is administration.
-- $1 before (timestamptz), $2 limit (bigint: at most so many). Returns forgotten.
-- Plan: each dataset's oldest records by the primary key.
WITH whose AS (
    SELECT DISTINCT c.organization_id, c.dataset FROM public.contract AS c
), old AS (
    SELECT o.organization_id, o.dataset, o.received_at, o.run_id, o.line
      FROM whose AS w
     CROSS JOIN LATERAL (
               SELECT r.organization_id, r.dataset, r.received_at, r.run_id, r.line
                 FROM public.received AS r
                WHERE r.organization_id = w.organization_id AND r.dataset = w.dataset AND r.received_at < $1
                ORDER BY r.received_at, r.run_id, r.line
                LIMIT $2
           ) AS o
     LIMIT $2
), gone AS (
    DELETE FROM public.received AS r
     USING old AS o
     WHERE r.organization_id = o.organization_id
       AND r.dataset = o.dataset
       AND r.received_at = o.received_at
       AND r.run_id = o.run_id
       AND r.line = o.line
    RETURNING 1
)
SELECT count(*) AS forgotten FROM gone;
