-- Datasets of organizations' own whose schema was made by another release, or folds text otherwise. Run by the owner.
-- $1 digest (text: of what makes them now). Returns name (the address), schema_name, document (of the newest contract).
-- All organizations: a migration makes anew what another release made.
SELECT d.name, c.schema_name, c.document
  FROM public.dataset AS d
  JOIN public.contract AS c
    ON c.schema_name = d.schema_name AND d.contract_version = c.major || '.' || c.minor
 WHERE c.storage <> $1
 ORDER BY c.schema_name;
