-- A join. $1 organization, $2 id (uuid). Returns id, version, state, child, child_fields, parent, parent_fields,
-- confidence, statistics, rationale, accepted_by, accepted_by_name, accepted_at, deprecated_by, deprecated_by_name,
-- deprecated_at, reason, uses, last_used_at.
SELECT j.id, j.version, j.state, j.child, j.child_fields, j.parent, j.parent_fields, j.confidence, j.statistics,
       j.rationale, j.accepted_by, vanguard.name_of($1, j.accepted_by) AS accepted_by_name,
       vanguard.utc(j.accepted_at) AS accepted_at, j.deprecated_by,
       vanguard.name_of($1, j.deprecated_by) AS deprecated_by_name, vanguard.utc(j.deprecated_at) AS deprecated_at,
       j.reason, j.uses, vanguard.utc(j.last_used_at) AS last_used_at
  FROM public.dataset_join AS j
 WHERE j.organization_id = $1
   AND j.id = $2;
