-- What hangs on a version in SHADOW: nobody edits one, so these are rows, runs under way and records put aside.
-- $1 organization, $2 dataset. Returns rows (boolean: whether there is any), runs, quarantined.
SELECT EXISTS (SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1) AS rows,
       (SELECT count(*)
          FROM public.sync_run AS r
         WHERE r.organization_id = $1 AND r.dataset = $2 AND r.state IN ('requested', 'running')) AS runs,
       (SELECT count(*) FROM public.quarantine AS q WHERE q.organization_id = $1 AND q.dataset = $2) AS quarantined;
