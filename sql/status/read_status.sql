-- How an organization's dataset stands, for operators.
-- $1 organization, $2 dataset, $3 at (timestamptz now).
-- Returns revision, rows (as the view of KPIs counted them, NULL before its first refresh), rows_at (the revision that
-- it stands at), stale (seconds since the first change that the view does not know; NULL where it knows all), drafts,
-- outbox, oldest (of the outbox, in seconds), failed, sessions (that are open), analyzed_at (text: when the mirror's
-- statistics were taken), circuit (NULL where no worker connects the dataset). No row: no such dataset.
--
-- Plan: the organization's own part of each relation; the mirror's rows are not counted again.
SELECT d.revision,
       (SELECT sum(k.row_count)::bigint FROM pfa.kpi AS k WHERE k.organization_id = $1 AND k.grain = 0) AS rows,
       v.revision AS rows_at,
       (SELECT extract(epoch FROM $3::timestamptz - h.at)::float8
          FROM pfa.history AS h
         WHERE h.organization_id = $1 AND h.revision > v.revision
         ORDER BY h.revision
         LIMIT 1) AS stale,
       (SELECT count(*) FROM pfa.modification AS x WHERE x.organization_id = $1 AND x.draft_op IS NOT NULL) AS drafts,
       (SELECT count(*)
          FROM pfa.change AS c
         WHERE c.organization_id = $1 AND c.state = ANY (vanguard.outbox())) AS outbox,
       (SELECT extract(epoch FROM $3 - c.created_at)::float8
          FROM pfa.change AS c
         WHERE c.organization_id = $1 AND c.state = ANY (vanguard.outbox())
         ORDER BY c.id
         LIMIT 1) AS oldest,
       (SELECT count(*)
          FROM pfa.change AS c
         WHERE c.organization_id = $1 AND c.state = ANY (vanguard.refused())) AS failed,
       (SELECT count(*)
          FROM public.edit_session AS e
         WHERE e.organization_id = $1 AND e.dataset = $2
           AND (e.state = 'submitted' OR e.state IN ('active', 'preview') AND e.expires_at > $3)) AS sessions,
       (SELECT vanguard.utc(greatest(t.last_analyze, t.last_autoanalyze))
          FROM pg_stat_user_tables AS t
         WHERE t.relid = 'pfa.mirror'::regclass) AS analyzed_at,
       CASE WHEN s.dataset IS NULL THEN NULL
            WHEN s.open_until > $3 THEN 'open'
            WHEN s.open_until IS NOT NULL THEN 'half_open'
            ELSE 'closed' END AS circuit
  FROM pfa.dataset AS d
  LEFT JOIN public.synchronization AS s ON s.organization_id = $1 AND s.dataset = $2
  LEFT JOIN LATERAL (
           SELECT k.revision FROM pfa.kpi AS k WHERE k.organization_id = $1 AND k.grain = -1 LIMIT 1
       ) AS v ON TRUE
 WHERE d.organization_id = $1
   AND d.name = $2;
