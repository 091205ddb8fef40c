-- A dataset's next minor version, in place. The caller holds lock 1 against everybody.
-- $1 organization, $2 dataset, $3 version. Returns revision.
UPDATE public.dataset AS d
   SET contract_version = $3, revision = d.revision + 1
 WHERE d.organization_id = $1
   AND d.name = $2
RETURNING d.revision;
