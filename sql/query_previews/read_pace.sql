-- How long the organization's last executions took for what they were estimated to cost.
-- $1 organization. Returns pace (double precision): the median of seconds for a unit of the planner's cost; NULL where
-- fewer than five ended. Plan: the first fifty of query_execution_all.
SELECT CASE WHEN count(*) >= 5 THEN percentile_cont(0.5) WITHIN GROUP (ORDER BY e.seconds / e.cost) END AS pace
  FROM (SELECT q.seconds, q.cost
          FROM public.query_execution AS q
         WHERE q.organization_id = $1 AND q.outcome = 'complete' AND q.cost > 0
         ORDER BY q.at DESC, q.id DESC
         LIMIT 50) AS e;
