-- The changes of a report, in their order. $1 organization, $2 id (uuid of the report).
-- Returns place, kind, path, field, was, now, old, new, severity, decision, mapped_to.
SELECT c.place, c.kind, c.path, c.field, c.was, c.now, c.old, c.new, c.severity, c.decision, c.mapped_to
  FROM public.drift_change AS c
 WHERE c.organization_id = $1
   AND c.report_id = $2
 ORDER BY c.place;
