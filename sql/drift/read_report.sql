-- A report with its changes. $1 organization, $2 base (the dataset's name without a version), $3 id (uuid).
-- Returns id, version, source, state, severity, backward, forward, backward_all, forward_all, health, rows, run_id, at,
-- seen_at, times, created_by, created_by_name, decided_by, decided_by_name, decided_at, reason, made_version,
-- columns, schema, changes (jsonb: its changes, as they are told).
SELECT r.id, r.version, r.source, r.state, r.severity, r.backward, r.forward, r.backward_all, r.forward_all, r.health,
       r.rows, r.run_id, vanguard.utc(r.at) AS at, vanguard.utc(r.seen_at) AS seen_at, r.times,
       r.created_by, vanguard.name_of($1, r.created_by) AS created_by_name,
       r.decided_by, vanguard.name_of($1, r.decided_by) AS decided_by_name,
       vanguard.utc(r.decided_at) AS decided_at, r.reason, r.made_version, r.columns, r.schema,
       coalesce(
           (SELECT jsonb_agg(
                       jsonb_build_object(
                           'kind', c.kind, 'path', c.path, 'field', c.field, 'from', c.was, 'to', c.now, 'old', c.old,
                           'new', c.new, 'severity', c.severity, 'backward', c.backward, 'forward', c.forward,
                           'rule', c.rule, 'remedy', c.remedy, 'confidence', c.confidence, 'evidence', c.evidence,
                           'uses', c.uses, 'violations', c.violations, 'decision', c.decision,
                           'mappedTo', c.mapped_to
                       )
                       ORDER BY c.place
                   )
              FROM public.drift_change AS c
             WHERE c.organization_id = $1 AND c.report_id = r.id),
           '[]'
       ) AS changes
  FROM public.drift_report AS r
 WHERE r.organization_id = $1
   AND r.dataset = $2
   AND r.id = $3;
