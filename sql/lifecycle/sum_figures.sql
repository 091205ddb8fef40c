-- Figures over all rows of a version. $1 organization. Returns a column for each (app/lifecycle/differences.py composes
-- them of what KPIs are made of; here sum_plan_cost).
-- Plan: one pass over the mirror.
SELECT /*{figures}*/sum(m.f_plan_cost) AS sum_plan_cost/*{}*/
  FROM pfa.mirror AS m
 WHERE m.organization_id = $1;
