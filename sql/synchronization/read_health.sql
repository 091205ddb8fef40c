-- How synchronization does: what was settled lately, what waits, and what the worker knows.
-- $1 organization, $2 dataset, $3 at (timestamptz now), $4 since (timestamptz: when "lately" begins).
-- Returns rows_good, rows_quarantined (of pulls, lately), synced, conflict, sync_error (pushes, lately), lag (seconds
-- since the last successful pull began), depth, oldest (of the outbox, in seconds), failed, quarantined (now),
-- watermark, last_pull_at, last_full_pull_at, next_pull_at, open_until, paused_at (texts), paused_by, paused_by_name,
-- pulled (lately), circuit, failures, drift_id, drift_at (the report of drift that holds pulls, if any).
-- No row: no such dataset. Plan: change_settled, change_outbox, change_failed; all runs that are kept.
SELECT pulls.good AS rows_good, pulls.quarantined AS rows_quarantined,
       pushes.synced, pushes.conflict, pushes.sync_error,
       extract(epoch FROM $3 - s.pulled_at)::float8 AS lag,
       (SELECT count(*)
          FROM pfa.change AS c
         WHERE c.organization_id = $1 AND c.state = ANY (vanguard.outbox())) AS depth,
       (SELECT extract(epoch FROM $3 - c.created_at)::float8
          FROM pfa.change AS c
         WHERE c.organization_id = $1 AND c.state = ANY (vanguard.outbox())
         ORDER BY c.id
         LIMIT 1) AS oldest,
       (SELECT count(*)
          FROM pfa.change AS c
         WHERE c.organization_id = $1 AND c.state = ANY (vanguard.refused())) AS failed,
       (SELECT count(*) FROM public.quarantine AS q WHERE q.organization_id = $1 AND q.dataset = $2) AS quarantined,
       vanguard.utc(s.watermark) AS watermark,
       vanguard.utc(s.pulled_at) AS last_pull_at,
       vanguard.utc(s.pulled_whole_at) AS last_full_pull_at,
       vanguard.utc(s.next_pull_at) AS next_pull_at,
       vanguard.utc(s.open_until) AS open_until,
       vanguard.utc(s.paused_at) AS paused_at,
       s.paused_by, vanguard.name_of($1, s.paused_by) AS paused_by_name,
       coalesce(s.pulled_at >= $4, FALSE) AS pulled,
       CASE WHEN s.open_until > $3 THEN 'open'
            WHEN s.open_until IS NOT NULL THEN 'half_open'
            ELSE 'closed' END AS circuit,
       coalesce(s.failures, 0) AS failures,
       drift.id AS drift_id, vanguard.utc(drift.at) AS drift_at
  FROM public.dataset AS d
  LEFT JOIN public.synchronization AS s ON s.organization_id = $1 AND s.dataset = $2
 CROSS JOIN LATERAL (
           SELECT coalesce(sum(r.rows_read - r.quarantined), 0)::bigint AS good,
                  coalesce(sum(r.quarantined), 0)::bigint AS quarantined
             FROM public.sync_run AS r
            WHERE r.organization_id = $1
              AND r.dataset = $2
              AND r.kind = 'pull'
              AND greatest(r.progressed_at, r.finished_at) >= $4
       ) AS pulls
 CROSS JOIN LATERAL (
           SELECT count(*) FILTER (WHERE c.state = 'synced') AS synced,
                  count(*) FILTER (WHERE c.state = 'conflict') AS conflict,
                  count(*) FILTER (WHERE c.state = 'sync_error') AS sync_error
             FROM pfa.change AS c
            WHERE c.organization_id = $1
              AND c.state IN ('synced', 'conflict', 'sync_error')
              AND c.settled_at >= $4
       ) AS pushes
  LEFT JOIN LATERAL (
           SELECT h.id, h.at
             FROM public.drift_report AS h
            WHERE h.organization_id = $1
              AND h.dataset = $2
              AND h.source = 'pull'
              AND h.severity = 'BREAKING'
              AND h.state = 'open'
            ORDER BY h.at DESC, h.id DESC
            LIMIT 1
       ) AS drift ON TRUE
 WHERE d.organization_id = $1
   AND d.name = $2;
