-- A registered contract. $1 organization, $2 base (the dataset's name without a version), $3 major (int), $4 minor
-- (int), $5 schema, $6 document (text), $7 fields (int: how many), $8 changes (jsonb: from the version before),
-- $9 storage (text: digest of the DDL), $10 user, $11 at (timestamptz).
-- Returns nothing.
INSERT INTO public.contract
       (organization_id, dataset, major, minor, schema_name, document, fields, changes, storage, registered_by,
        registered_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);
