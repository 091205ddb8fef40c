-- What a schema is made by now. Run by the owner. $1 schema, $2 digest (text). Returns nothing.
-- All organizations: a migration is of every schema, and each is of one organization.
UPDATE public.contract AS c SET storage = $2 WHERE c.schema_name = $1;
