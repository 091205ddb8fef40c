-- Records in quarantine that came by ingestion and were not put away: these, or those of a run. Those that were looked
-- at least lately come first, so that what fits is found behind what never will. $1 organization, $2 dataset,
-- $3 ids (text[], or NULL), $4 run_id (uuid, or NULL), $5 limit (bigint), $6 bytes (bigint: no further one once they
-- have so many). Returns run_id, first_seen_at, line, textual, raw (bytea), total (of all there are). Plan: the
-- dataset's records by the primary key; the length of a record is known without reading it.
SELECT s.run_id, s.first_seen_at, s.line, s.textual, s.raw, s.total
  FROM (SELECT f.run_id, f.first_seen_at, f.last_seen_at, f.line, f.textual, f.raw, f.total,
               sum(octet_length(f.raw)) OVER (ORDER BY f.last_seen_at, f.run_id, f.line) - octet_length(f.raw) AS before
          FROM (SELECT q.run_id, q.first_seen_at, q.last_seen_at, q.line, q.textual, q.raw, count(*) OVER () AS total
                  FROM public.quarantine AS q
                 WHERE q.organization_id = $1
                   AND q.dataset = $2
                   AND q.raw IS NOT NULL
                   AND q.discarded_at IS NULL
                   AND ($3::text[] IS NULL OR q.row_key = ANY ($3))
                   AND ($4::uuid IS NULL OR q.run_id = $4)
                 ORDER BY q.last_seen_at, q.run_id, q.line
                 LIMIT $5) AS f) AS s
 WHERE s.before < $6::bigint
 ORDER BY s.last_seen_at, s.run_id, s.line;
