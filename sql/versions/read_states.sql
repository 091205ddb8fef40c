-- Where the versions of a dataset stand, the one in use first. The caller holds lock 1 of them against everybody.
-- $1 organization, $2 base (the dataset's name without a version).
-- Returns name, major, state, schema_name, contract_version, revision, supersedes, promoted_at,
-- deprecated_at.
SELECT d.name, d.major, d.state, d.schema_name, d.contract_version, d.revision, d.supersedes, d.promoted_at,
       d.deprecated_at
  FROM public.dataset AS d
 WHERE d.organization_id = $1
   AND d.base = $2
 ORDER BY d.name;
