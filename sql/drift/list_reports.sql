-- Reports, the newest first. $1 organization, $2 base (the dataset's name without a version), $3 state (text, NULL for
-- all), $4 severity (text, NULL for all), $5 after (timestamptz), $6 after_id (uuid): those beyond, NULL from the
-- beginning, $7 limit, $8 shadow (boolean: those of versions in SHADOW, too).
-- Returns id, version, source, state, severity, backward, forward, backward_all, forward_all, health, rows, run_id, at,
-- seen_at, times, created_by, created_by_name, decided_by, decided_by_name, decided_at, reason, made_version,
-- position (timestamptz), changes (their number).
-- Plan: an index scan by drift_report_at, which has the order.
SELECT r.id, r.version, r.source, r.state, r.severity, r.backward, r.forward, r.backward_all, r.forward_all, r.health,
       r.rows, r.run_id, vanguard.utc(r.at) AS at, vanguard.utc(r.seen_at) AS seen_at, r.times,
       r.created_by, vanguard.name_of($1, r.created_by) AS created_by_name,
       r.decided_by, vanguard.name_of($1, r.decided_by) AS decided_by_name,
       vanguard.utc(r.decided_at) AS decided_at, r.reason, r.made_version, r.at AS position,
       (SELECT count(*) FROM public.drift_change AS c WHERE c.organization_id = $1 AND c.report_id = r.id) AS changes
  FROM public.drift_report AS r
 WHERE r.organization_id = $1
   AND r.dataset = $2
   AND ($3::text IS NULL OR r.state = $3)
   AND ($4::text IS NULL OR r.severity = $4)
   AND ($5::timestamptz IS NULL OR (r.at, r.id) < ($5, $6::uuid))
   AND ($8 OR NOT EXISTS (SELECT FROM public.dataset AS d
                           WHERE d.organization_id = $1 AND d.base = $2 AND d.state = 'SHADOW'
                             AND d.contract_version = r.version))
 ORDER BY r.at DESC, r.id DESC
 LIMIT $7;
