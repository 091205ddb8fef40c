-- A name for a schema that nobody has had, and that says nothing of whose it is. No parameters. Returns name.
SELECT 'own_' || nextval('public.dataset_schema') AS name;
