-- Ask for a run; one that waits already, and that no worker has started meanwhile, is joined: it is made whole if this
-- one shall be, and may do what any of them may. Under lock_synchronization.
-- $1 organization, $2 dataset, $3 kind, $4 full (boolean), $5 user (text), $6 at (timestamptz now), $7 run_id (uuid: of
-- a new one), $8 allow (text[]). Returns id of the run that waits.
WITH waiting AS (
    UPDATE public.sync_run AS r
       SET whole = r.whole OR $4,
           allow = ARRAY(SELECT DISTINCT each FROM unnest(r.allow || $8) AS each ORDER BY each)
     WHERE r.organization_id = $1
       AND r.state = 'requested'
       AND r.id = (SELECT w.id
                     FROM public.sync_run AS w
                    WHERE w.organization_id = $1 AND w.dataset = $2 AND w.kind = $3 AND w.state = 'requested'
                    ORDER BY w.requested_at
                    LIMIT 1)
    RETURNING r.id
),
added AS (
    INSERT INTO public.sync_run (organization_id, id, dataset, kind, whole, state, requested_by, requested_at, allow)
    SELECT $1, $7, $2, $3, $4, 'requested', $5, $6,
           ARRAY(SELECT DISTINCT each FROM unnest($8::text[]) AS each ORDER BY each)
     WHERE NOT EXISTS (SELECT FROM waiting)
    RETURNING id
)
SELECT w.id FROM waiting AS w
UNION ALL
SELECT a.id FROM added AS a;
