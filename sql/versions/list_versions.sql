-- All that was registered under a dataset's name, with where each major version is now, the newest first.
-- $1 organization, $2 base (the dataset's name without a version).
-- Returns name (the address; NULL of one that is gone), major, minor, state, current (whether it is the newest of its
-- major version), schema_name, document, changes (jsonb), owner, supersedes, registered_by, registered_at.
SELECT d.name, c.major, c.minor, d.state,
       d.contract_version = c.major || '.' || c.minor AS current,
       c.schema_name, c.document, c.changes, d.owner, d.supersedes, c.registered_by,
       vanguard.utc(c.registered_at) AS registered_at
  FROM public.contract AS c
  LEFT JOIN public.dataset AS d ON d.organization_id = $1 AND d.schema_name = c.schema_name
 WHERE c.organization_id = $1
   AND c.dataset = $2
 ORDER BY c.major DESC, c.minor DESC;
