-- Records as they were received, in the order in which they came: those of a run, or of a time, without those that
-- somebody has put away in any version of the dataset.
-- $1 organization, $2 base (the dataset's name without a version), $3 since (timestamptz), $4 until (timestamptz: not
-- itself), $5 run_id (uuid: of this run alone, or NULL), $6 after_at (timestamptz), $7 after_run (uuid), $8 after_line
-- (bigint): beyond these, $9 limit (bigint), $10 bytes (bigint: no further one once they have so many).
-- Returns received_at, run_id, line, textual, record (bytea).
-- Plan: a range of the primary key, up to the limit; of a time, each one's place in quarantine besides. The length of
-- a record is known without reading it.
SELECT s.received_at, s.run_id, s.line, s.textual, s.record
  FROM (SELECT f.received_at, f.run_id, f.line, f.textual, f.record,
               sum(octet_length(f.record)) OVER (ORDER BY f.received_at, f.run_id, f.line)
               - octet_length(f.record) AS before
          FROM (SELECT r.received_at, r.run_id, r.line, r.textual, r.record
                  FROM public.received AS r
                 WHERE r.organization_id = $1
                   AND r.dataset = $2
                   AND r.received_at >= $3
                   AND r.received_at < $4
                   AND ($5::uuid IS NULL OR r.run_id = $5)
                   AND (r.received_at, r.run_id, r.line) > ($6, $7, $8)
                   AND ($5::uuid IS NOT NULL
                        OR (SELECT max(q.discarded_at)
                              FROM public.quarantine AS q
                             WHERE q.organization_id = $1
                               AND q.dataset = ANY (ARRAY(SELECT d.name
                                                            FROM public.dataset AS d
                                                           WHERE d.organization_id = $1
                                                             AND d.base = $2))
                               AND q.row_key = r.run_id || ':'
                                               || lpad(r.line::text, greatest(9, length(r.line::text)), '0')) IS NULL)
                 ORDER BY r.received_at, r.run_id, r.line
                 LIMIT $9) AS f) AS s
 WHERE s.before < $10::bigint
 ORDER BY s.received_at, s.run_id, s.line;
