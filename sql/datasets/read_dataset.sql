-- A dataset and how many rows its mirror has at that revision: as the view of KPIs counted them, and what the history
-- tells since. They are counted where the view is not there yet, or older than a load that the history does not tell.
-- $1 organization, $2 dataset, $3 user. Returns revision, require_approval, state, owner, owner_name, supersedes
-- (int), deprecated_at, row_count, and where the feed stands for the user: incarnation, feed_number,
-- workspace_revision; no row where there is no such dataset. Plan: the view's cells of all rows, and the history beyond
-- the revision that it stands at; else an index of the mirror.
SELECT d.revision, d.require_approval, d.state, d.owner, vanguard.name_of($1, d.owner) AS owner_name, d.supersedes,
       vanguard.utc(d.deprecated_at) AS deprecated_at,
       (SELECT i.number FROM public.incarnation AS i) AS incarnation,
       (SELECT c.number FROM public.feed_counter AS c WHERE c.organization_id = $1) AS feed_number,
       (SELECT w.revision
          FROM public.workspace AS w
         WHERE w.organization_id = $1 AND w.dataset = $2 AND w.user_id = $3) AS workspace_revision,
       CASE
           WHEN v.revision >= d.unrecorded
               THEN coalesce((SELECT sum(k.row_count)::bigint
                                FROM pfa.kpi AS k
                               WHERE k.organization_id = $1 AND k.grain = 0), 0)
                    + (SELECT count(*) FILTER (WHERE h.op = 'insert') - count(*) FILTER (WHERE h.op = 'delete')
                         FROM pfa.history AS h
                        WHERE h.organization_id = $1 AND h.revision > v.revision)
           ELSE (SELECT count(*) FROM pfa.mirror AS m WHERE m.organization_id = $1)
       END AS row_count
  FROM pfa.dataset AS d
  LEFT JOIN LATERAL (
           SELECT k.revision FROM pfa.kpi AS k WHERE k.organization_id = $1 AND k.grain = -1 LIMIT 1
       ) AS v ON TRUE
 WHERE d.organization_id = $1
   AND d.name = $2;
