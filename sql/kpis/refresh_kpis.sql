-- Bring a dataset's view of KPIs up to its mirror; readers go on with the view as it was. Two at once: the second
-- waits. No parameters.
-- All organizations: a view that they share is refreshed as a whole.
SELECT pfa.refresh_kpi();
