-- The migration that the database stands at. No parameters. One row, one column: text, or NULL.
SELECT version_num FROM public.alembic_version;
