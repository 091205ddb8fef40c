-- A version of a dataset with a schema of its own. Its revisions count from the incarnation's number.
-- $1 organization, $2 dataset (its address), $3 version, $4 major (int), $5 schema, $6 state, $7 owner (an account).
-- Returns name.
INSERT INTO public.dataset
       (organization_id, name, contract_version, major, schema_name, state, owner, revision)
VALUES ($1, $2, $3, $4, $5, $6, $7, (SELECT i.number FROM public.incarnation AS i))
RETURNING name;
