-- What was run, the newest first. $1 organization, $2 user (whose: NULL for everybody's), $3 after (timestamptz),
-- $4 after_id (uuid): those beyond, NULL from the beginning, $5 limit, $6 id (uuid: this one alone, NULL for all),
-- $7 lost_before (timestamptz: what began before and has not ended runs no more). Returns id, user_id, user_name,
-- preview_id, query (jsonb), sentence, digest, format, joins (uuid[]), cost, estimated_rows, override_reason, at,
-- outcome (NULL while it runs), seconds, rows, truncated, position (timestamptz).
-- Plan: an index scan by query_execution_at, of everybody's by query_execution_all, which have the order.
SELECT e.id, e.user_id, vanguard.name_of($1, e.user_id) AS user_name, e.preview_id, e.query, e.sentence, e.digest,
       e.format, e.joins, e.cost, e.estimated_rows, e.override_reason, vanguard.utc(e.at) AS at,
       CASE WHEN e.outcome IS NULL AND e.at < $7::timestamptz THEN 'lost' ELSE e.outcome END AS outcome, e.seconds,
       e.rows, e.truncated, e.at AS position
  FROM public.query_execution AS e
 WHERE e.organization_id = $1
   AND ($2::text IS NULL OR e.user_id = $2)
   AND ($3::timestamptz IS NULL OR (e.at, e.id) < ($3, $4::uuid))
   AND ($6::uuid IS NULL OR e.id = $6)
 ORDER BY e.at DESC, e.id DESC
 LIMIT $5;
