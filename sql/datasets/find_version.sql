-- A version of a dataset: by its major number, or the one that the plain name stands for.
-- $1 organization, $2 base (the name without a version), $3 major (int, or NULL).
-- Returns name (its address), major, state, schema_name, contract_version, supersedes (int: the major version whose
-- place it took); no row where there is none.
SELECT d.name, d.major, d.state, d.schema_name, d.contract_version, d.supersedes
  FROM public.dataset AS d
 WHERE d.organization_id = $1
   AND d.base = $2
   AND CASE WHEN $3::int IS NULL THEN d.name = $2 ELSE d.major = $3 END;
