-- A report that somebody decides on: nobody else does until the transaction ends.
-- $1 organization, $2 base (the dataset's name without a version), $3 id (uuid).
-- Returns state, source, version, severity, columns, schema, made_version.
SELECT r.state, r.source, r.version, r.severity, r.columns, r.schema, r.made_version
  FROM public.drift_report AS r
 WHERE r.organization_id = $1
   AND r.dataset = $2
   AND r.id = $3
   FOR NO KEY UPDATE;
