-- The contracts of an organization's own datasets, by dataset and version, the newest first.
-- $1 organization.
-- Returns dataset, version, name (the address), state, current, title, fields, registered_by,
-- registered_by_name, registered_at.
SELECT c.dataset, c.major || '.' || c.minor AS version, d.name, d.state,
       d.contract_version = c.major || '.' || c.minor AS current, c.document::json ->> 'title' AS title, c.fields,
       c.registered_by, vanguard.name_of($1, c.registered_by) AS registered_by_name,
       vanguard.utc(c.registered_at) AS registered_at
  FROM public.contract AS c
  JOIN public.dataset AS d ON d.organization_id = $1 AND d.schema_name = c.schema_name
 WHERE c.organization_id = $1
 ORDER BY c.dataset, c.major DESC, c.minor DESC;
