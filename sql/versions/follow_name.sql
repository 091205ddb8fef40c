-- Runs, and records put aside, of a version that is about to take the plain name, go to that name.
-- $1 organization, $2 base (the plain name), $3 beside (the version's address). Returns runs, quarantined.
WITH moved_runs AS (
    UPDATE public.sync_run AS r
       SET dataset = $2
     WHERE r.organization_id = $1
       AND r.dataset = $3
    RETURNING r.id
), moved_records AS (
    UPDATE public.quarantine AS q
       SET dataset = $2
     WHERE q.organization_id = $1
       AND q.dataset = $3
    RETURNING q.row_key
)
SELECT (SELECT count(*) FROM moved_runs) AS runs, (SELECT count(*) FROM moved_records) AS quarantined;
