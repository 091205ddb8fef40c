-- Records as they were received, in the order in which they came: those of a run, or of a time.
-- $1 organization, $2 base (the dataset's name without a version), $3 since (timestamptz), $4 until (timestamptz: not
-- itself), $5 run_id (uuid: of this run alone, or NULL), $6 after_at (timestamptz), $7 after_run (uuid), $8 after_line
-- (bigint): beyond these, $9 limit (bigint).
-- Returns received_at, run_id, line, textual, record (bytea).
-- Plan: a range of the primary key.
SELECT r.received_at, r.run_id, r.line, r.textual, r.record
  FROM public.received AS r
 WHERE r.organization_id = $1
   AND r.dataset = $2
   AND r.received_at >= $3
   AND r.received_at < $4
   AND ($5::uuid IS NULL OR r.run_id = $5)
   AND (r.received_at, r.run_id, r.line) > ($6, $7, $8)
 ORDER BY r.received_at, r.run_id, r.line
 LIMIT $9;
