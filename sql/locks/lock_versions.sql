-- Lock 1 against everybody, of all versions of a dataset, in the order of their names: by whoever changes a contract, a
-- state, or which version is which.
-- $1 organization, $2 dataset (any version of it).
-- Returns name of each.
SELECT d.name
  FROM public.dataset AS d
 WHERE d.organization_id = $1
   AND d.base = split_part($2, '@', 1)
 ORDER BY d.name
   FOR UPDATE OF d;
