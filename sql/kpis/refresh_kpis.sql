-- Bring a dataset's view of KPIs up to its mirror, for all organizations; readers go on with the view as it was. Two at
-- once: the second waits. No parameters.
SELECT pfa.refresh_kpi();
