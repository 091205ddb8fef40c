-- Change requests that ended before a time are forgotten, some at a time, with their changes, and with the sessions
-- that were submitted for good. What they did is in the history and in the audit.
-- $1 organization, $2 dataset, $3 before (timestamptz), $4 limit (bigint). Returns forgotten, their number.
--
-- One that was sent back is forgotten once its session is over: until then it can be submitted again.
-- Plan: change_request_ended, the changes of each by change_of_request, its session by its key.
WITH old AS MATERIALIZED (
    SELECT r.id, r.session_id, r.author
      FROM public.change_request AS r
     WHERE r.organization_id = $1
       AND r.dataset = $2
       AND r.state IN ('rejected', 'withdrawn', 'closed')
       AND r.updated_at < $3
       AND (r.state = 'closed'
            OR NOT EXISTS (SELECT FROM public.edit_session AS s
                            WHERE s.organization_id = $1 AND s.id = r.session_id
                              AND s.state NOT IN ('aborted', 'expired')))
     ORDER BY r.updated_at
     LIMIT $4
       FOR UPDATE SKIP LOCKED
),
changes AS (
    DELETE FROM pfa.change AS c
     USING old AS o
     WHERE c.organization_id = $1
       AND c.change_request_id = o.id
       AND c.state = ANY (vanguard.ended())
),
edits AS (
    DELETE FROM pfa.edit AS e
     USING old AS o
     WHERE e.organization_id = $1
       AND e.session_id = o.session_id
),
steps AS (
    DELETE FROM pfa.step AS s
     USING old AS o
     WHERE s.organization_id = $1
       AND s.user_id = o.author
       AND s.session_id = o.session_id
),
sessions AS (
    DELETE FROM public.edit_session AS s
     USING old AS o
     WHERE s.organization_id = $1
       AND s.id = o.session_id
),
gone AS (
    DELETE FROM public.change_request AS r
     USING old AS o
     WHERE r.organization_id = $1
       AND r.id = o.id
    RETURNING r.id
)
SELECT count(*) AS forgotten FROM gone;
