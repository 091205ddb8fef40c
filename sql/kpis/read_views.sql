-- How far a dataset's view of KPIs has come. No parameters.
-- Returns organizations, how many it knows, and cells, how many figures it holds.
-- All organizations: a metric of a view that they share; two numbers, no rows.
SELECT count(*) FILTER (WHERE k.grain = -1) AS organizations,
       count(*) FILTER (WHERE k.grain <> -1) AS cells
  FROM pfa.kpi AS k;
