-- Joins that were accepted, the newest first. $1 organization, $2 state (text, NULL for all), $3 dataset (its name
-- without a version, on either side; NULL for all), $4 after (timestamptz), $5 after_id (uuid): those beyond, NULL from
-- the beginning, $6 limit.
-- Returns id, version, state, child, child_fields, parent, parent_fields, confidence, statistics, rationale,
-- accepted_by, accepted_by_name, accepted_at, deprecated_by, deprecated_by_name, deprecated_at, reason, uses,
-- last_used_at, position (timestamptz).
-- Plan: an index scan by dataset_join_at, which has the order.
SELECT j.id, j.version, j.state, j.child, j.child_fields, j.parent, j.parent_fields, j.confidence, j.statistics,
       j.rationale, j.accepted_by, vanguard.name_of($1, j.accepted_by) AS accepted_by_name,
       vanguard.utc(j.accepted_at) AS accepted_at, j.deprecated_by,
       vanguard.name_of($1, j.deprecated_by) AS deprecated_by_name, vanguard.utc(j.deprecated_at) AS deprecated_at,
       j.reason, j.uses, vanguard.utc(j.last_used_at) AS last_used_at, j.accepted_at AS position
  FROM public.dataset_join AS j
 WHERE j.organization_id = $1
   AND ($2::text IS NULL OR j.state = $2)
   AND ($3::text IS NULL OR j.child = $3 OR j.parent = $3)
   AND ($4::timestamptz IS NULL OR (j.accepted_at, j.id) < ($4, $5::uuid))
 ORDER BY j.accepted_at DESC, j.id DESC
 LIMIT $6;
