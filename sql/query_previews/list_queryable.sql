-- The datasets of an organization that can be queried by their plain names. $1 organization.
-- Returns name, major, state, schema_name (NULL for a built-in one), contract_version, supersedes (int).
SELECT d.name, d.major, d.state, d.schema_name, d.contract_version, d.supersedes
  FROM public.dataset AS d
 WHERE d.organization_id = $1
   AND d.name = d.base
   AND d.state IN ('ACTIVE', 'READ_ONLY')
 ORDER BY d.name;
