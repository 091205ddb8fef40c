-- Records in quarantine that came by ingestion and were not put away: these, or those of a run.
-- $1 organization, $2 dataset, $3 ids (text[], or NULL), $4 run_id (uuid, or NULL), $5 limit (bigint).
-- Returns run_id, first_seen_at, line, textual, raw (bytea), total (of all there are).
-- Plan: the dataset's records by the primary key.
SELECT q.run_id, q.first_seen_at, q.line, q.textual, q.raw, count(*) OVER () AS total
  FROM public.quarantine AS q
 WHERE q.organization_id = $1
   AND q.dataset = $2
   AND q.raw IS NOT NULL
   AND q.discarded_at IS NULL
   AND ($3::text[] IS NULL OR q.row_key = ANY ($3))
   AND ($4::uuid IS NULL OR q.run_id = $4)
 ORDER BY q.run_id, q.line
 LIMIT $5;
