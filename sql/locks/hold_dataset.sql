-- Lock 1, shared: by whoever writes to a dataset without changing the mirror, so that its state stays, and no version
-- takes the place of this one, until the transaction ends. Nobody else who holds lock 1 waits for it.
-- $1 organization, $2 dataset.
-- Returns revision, require_approval, state, schema_name, contract_version, incarnation; no row where there is no such
-- dataset.
SELECT d.revision, d.require_approval, d.state, d.schema_name, d.contract_version,
       (SELECT i.number FROM public.incarnation AS i) AS incarnation
  FROM public.dataset AS d
 WHERE d.organization_id = $1
   AND d.name = $2
   FOR KEY SHARE OF d;
