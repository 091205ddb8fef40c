-- The schemas of organizations' own datasets. Run by the owner. No parameters. Returns schema_name.
-- All organizations: a migration is of every schema.
SELECT d.schema_name FROM public.dataset AS d WHERE d.schema_name IS NOT NULL ORDER BY d.schema_name;
