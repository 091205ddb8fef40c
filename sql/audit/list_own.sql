-- An organization's own datasets, each version, with the schema that its rows are in: an export needs no more of them,
-- and does not stop at a contract that cannot be read.
-- $1 organization. Returns name (its address), schema_name; by dataset and version.
SELECT d.name, d.schema_name
  FROM public.dataset AS d
 WHERE d.organization_id = $1
   AND d.schema_name IS NOT NULL
 ORDER BY d.base, d.major;
