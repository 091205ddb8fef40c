-- Forget reports that are decided, or hold nothing, and were seen last before a time; their changes go with them.
-- Mappings stay.
-- $1 organization, $2 base (the dataset's name without a version), $3 before (timestamptz). Returns forgotten, their
-- number.
WITH gone AS (
    DELETE FROM public.drift_report AS r
     WHERE r.organization_id = $1
       AND r.dataset = $2
       AND (r.state <> 'open' OR r.source IN ('sample', 'schema'))
       AND r.seen_at < $3
    RETURNING r.id
)
SELECT count(*) AS forgotten FROM gone;
