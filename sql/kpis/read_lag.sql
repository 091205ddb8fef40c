-- How many organizations' KPIs stand behind their data. $1 dataset. Returns behind.
-- All organizations: a worker finds out whether a view that they share is behind; a number, no rows.
SELECT count(*) AS behind
  FROM public.dataset AS d
  LEFT JOIN pfa.kpi AS k ON k.organization_id = d.organization_id AND k.grain = -1
 WHERE d.name = $1
   AND k.revision IS DISTINCT FROM d.revision;
