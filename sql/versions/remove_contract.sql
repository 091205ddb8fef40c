-- A version in SHADOW with all that hangs on it, but for its schema and for the records that were received.
-- $1 organization, $2 dataset (its address), $3 schema. Returns name; no row where it is no longer in SHADOW.
WITH removed AS (
    DELETE FROM public.dataset AS d
     WHERE d.organization_id = $1
       AND d.name = $2
       AND d.schema_name = $3
       AND d.state = 'SHADOW'
    RETURNING d.name
), forgotten AS (
    DELETE FROM public.contract AS c
     WHERE c.organization_id = $1
       AND c.schema_name = $3
       AND EXISTS (SELECT FROM removed)
)
SELECT r.name FROM removed AS r;
