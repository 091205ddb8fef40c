-- A page of the runs of a dataset, the newest first.
-- $1 organization, $2 dataset, $3 kind (or NULL), $4 state (or NULL), $5 after (timestamptz), $6 after_id (uuid),
-- $7 limit (bigint): only runs behind the one that was requested then, NULL both for the first page.
-- Returns id, kind, whole, state, requested_by, requested_by_name, position (requested_at itself), requested_at,
-- started_at, progressed_at, finished_at (texts), seconds (how long it has been running), total, rows_read, inserted,
-- updated, unchanged, deleted, quarantined, conflicts, left_alone, dropped, synced, sync_errors, retried, normalized,
-- doubt, error_code, error, allow, report, skipped.
-- Plan: sync_run_newest from the position on.
SELECT r.id, r.kind, r.whole, r.state, r.requested_by,
       vanguard.name_of($1, r.requested_by) AS requested_by_name, r.requested_at AS position,
       vanguard.utc(r.requested_at) AS requested_at, vanguard.utc(r.started_at) AS started_at,
       vanguard.utc(r.progressed_at) AS progressed_at, vanguard.utc(r.finished_at) AS finished_at,
       extract(epoch FROM coalesce(r.finished_at, r.progressed_at) - r.started_at)::float8 AS seconds,
       r.total, r.rows_read, r.inserted, r.updated, r.unchanged, r.deleted, r.quarantined, r.conflicts, r.left_alone,
       r.dropped, r.synced, r.sync_errors, r.retried, r.normalized, r.doubt, r.error_code, r.error, r.allow, r.report,
       r.skipped
  FROM public.sync_run AS r
 WHERE r.organization_id = $1
   AND r.dataset = $2
   AND ($3::text IS NULL OR r.kind = $3)
   AND ($4::text IS NULL OR r.state = $4)
   AND r.requested_at <= coalesce($5::timestamptz, 'infinity')
   AND ($5 IS NULL OR r.requested_at < $5 OR r.id > $6::uuid)
 ORDER BY r.requested_at DESC, r.id
 LIMIT $7;
