-- A new organization with its row for each built-in dataset.
-- $1 organization (its id), $2 name, $3 datasets (text[] names), $4 versions (text[]: of their contracts, in the same
-- order).
-- Returns name: the datasets made; no row where the organization exists already.
WITH added AS (
    INSERT INTO public.organization (id, name)
    VALUES ($1, $2)
    ON CONFLICT (id) DO NOTHING
    RETURNING id
)
INSERT INTO public.dataset (organization_id, name, contract_version, revision)
SELECT added.id, built_in.name, built_in.version, (SELECT i.number FROM public.incarnation AS i)
  FROM added
 CROSS JOIN unnest($3::text[], $4::text[]) AS built_in (name, version)
RETURNING name;
