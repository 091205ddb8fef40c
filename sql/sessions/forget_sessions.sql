-- Sessions that ended before a time are forgotten, some at a time, with their logs and steps.
-- $1 organization, $2 dataset, $3 before (timestamptz), $4 limit (bigint). Returns forgotten, their number.
-- Plan: edit_session_ended, the log's primary key and step_pkey for each of them.
WITH old AS MATERIALIZED (
    SELECT s.id, s.user_id
      FROM public.edit_session AS s
     WHERE s.organization_id = $1
       AND s.dataset = $2
       AND s.ended_at IS NOT NULL
       AND s.ended_at < $3
     ORDER BY s.ended_at
     LIMIT $4
),
edits AS (
    DELETE FROM pfa.edit AS e
     USING old AS o
     WHERE e.organization_id = $1
       AND e.session_id = o.id
),
steps AS (
    DELETE FROM pfa.step AS s
     USING old AS o
     WHERE s.organization_id = $1
       AND s.user_id = o.user_id
       AND s.session_id = o.id
),
gone AS (
    DELETE FROM public.edit_session AS s
     USING old AS o
     WHERE s.organization_id = $1
       AND s.id = o.id
    RETURNING s.id
)
SELECT count(*) AS forgotten FROM gone;
