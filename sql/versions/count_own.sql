-- How much an organization has registered. $1 organization.
-- Returns datasets (each version that has a schema of its own counts), fields (of the newest contract of each).
SELECT count(*) AS datasets,
       coalesce(sum((SELECT c.fields
                       FROM public.contract AS c
                      WHERE c.organization_id = $1 AND c.dataset = d.base AND c.major = d.major
                      ORDER BY c.minor DESC
                      LIMIT 1)), 0)::bigint AS fields
  FROM public.dataset AS d
 WHERE d.organization_id = $1
   AND d.schema_name IS NOT NULL;
