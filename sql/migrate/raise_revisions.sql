-- Raise the revision of a dataset for everybody: what its rows are found by is another now.
-- $1 name (of a built-in dataset), $2 schema (of an organization's own, else NULL). Returns nothing.
-- All organizations: a migration changes how the rows of all of them are found.
UPDATE public.dataset
   SET revision = revision + 1
 WHERE CASE WHEN $2::text IS NULL THEN schema_name IS NULL AND name = $1 ELSE schema_name = $2 END;
