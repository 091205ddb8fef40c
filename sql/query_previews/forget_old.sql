-- Forget executions and corrections from before a time, and previews that nobody can run any more, some at a time.
-- $1 organization, $2 before (timestamptz), $3 at (timestamptz), $4 limit (bigint: of each). Returns forgotten, their
-- number: less than limit where none is left.
WITH executions AS (
    DELETE FROM public.query_execution AS e
     WHERE e.organization_id = $1
       AND e.id IN (SELECT o.id
                      FROM public.query_execution AS o
                     WHERE o.organization_id = $1 AND o.at < $2
                     ORDER BY o.at
                     LIMIT $4)
    RETURNING e.id
),
corrections AS (
    DELETE FROM public.query_correction AS c
     WHERE c.organization_id = $1
       AND c.id IN (SELECT o.id
                      FROM public.query_correction AS o
                     WHERE o.organization_id = $1 AND o.at < $2
                     ORDER BY o.at
                     LIMIT $4)
    RETURNING c.id
),
previews AS (
    DELETE FROM public.query_preview AS p
     WHERE p.organization_id = $1
       AND p.id IN (SELECT o.id
                      FROM public.query_preview AS o
                     WHERE o.organization_id = $1 AND o.expires_at < $3
                     LIMIT $4)
    RETURNING p.id
)
SELECT (SELECT count(*) FROM executions) + (SELECT count(*) FROM corrections) + (SELECT count(*) FROM previews)
       AS forgotten;
