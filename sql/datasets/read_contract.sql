-- The contract of an organization's own dataset, as it registers again.
-- $1 organization, $2 base (the dataset's name without a version), $3 major (int), $4 minor (int).
-- Returns schema_name, document (text), registered_by, registered_at; no row where there is none.
SELECT c.schema_name, c.document, c.registered_by, vanguard.utc(c.registered_at) AS registered_at
  FROM public.contract AS c
 WHERE c.organization_id = $1
   AND c.dataset = $2
   AND c.major = $3
   AND c.minor = $4;
