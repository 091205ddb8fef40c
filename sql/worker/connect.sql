-- A worker knows an upstream for the dataset: its schedule. The first pull is due at once, unless it begins paused.
-- $1 organization, $2 dataset, $3 pull_every (integer seconds), $4 full_every (integer seconds between full pulls),
-- $5 at (timestamptz now), $6 paused (boolean: whether a dataset that is connected for the first time begins so).
-- Returns organization_id; no row where there is no such dataset.
INSERT INTO public.synchronization AS s (organization_id, dataset, pull_every, full_every, next_pull_at, paused_at)
SELECT d.organization_id, d.name, $3, $4, $5, CASE WHEN $6 THEN $5::timestamptz END
  FROM public.dataset AS d
 WHERE d.organization_id = $1
   AND d.name = $2
    ON CONFLICT (organization_id, dataset) DO UPDATE
   SET pull_every = excluded.pull_every, full_every = excluded.full_every,
       next_pull_at = least(s.next_pull_at, excluded.next_pull_at + make_interval(secs => excluded.pull_every))
RETURNING s.organization_id;
