-- The view of a dataset's KPIs stands at a revision now. $1 organization, $2 dataset, $3 schema. Returns nothing.
UPDATE public.dataset AS d
   SET kpi_revision = coalesce((SELECT k.revision FROM pfa.kpi AS k WHERE k.organization_id = $1 AND k.grain = -1),
                               d.kpi_revision)
 WHERE d.organization_id = $1
   AND d.schema_name = $3
   AND d.name = $2;
