-- All versions of all datasets that organizations registered themselves.
-- No parameters. Returns organization_id, base, major; in the order of these.
-- All organizations: a process learns which datasets there are, none of their rows.
SELECT d.organization_id, d.base, d.major
  FROM public.dataset AS d
 WHERE d.schema_name IS NOT NULL
 ORDER BY d.organization_id, d.base, d.major;
