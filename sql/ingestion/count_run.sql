-- Add to a run's counts, and note how far it has come. $1 organization, $2 run_id (uuid), $3 at (timestamptz),
-- $4 cursor (text: the last record that is done, or NULL), $5 counts (jsonb: {column: how many more}), $6 report
-- (jsonb: fields that are proposed, or NULL). Returns nothing.
UPDATE public.sync_run AS r
   SET progressed_at = $3, cursor = coalesce($4, r.cursor), report = coalesce($6, r.report),
       rows_read = r.rows_read + coalesce(($5::jsonb ->> 'rows_read')::bigint, 0),
       inserted = r.inserted + coalesce(($5::jsonb ->> 'inserted')::bigint, 0),
       updated = r.updated + coalesce(($5::jsonb ->> 'updated')::bigint, 0),
       unchanged = r.unchanged + coalesce(($5::jsonb ->> 'unchanged')::bigint, 0),
       skipped = r.skipped + coalesce(($5::jsonb ->> 'skipped')::bigint, 0),
       quarantined = r.quarantined + coalesce(($5::jsonb ->> 'quarantined')::bigint, 0),
       conflicts = r.conflicts + coalesce(($5::jsonb ->> 'conflicts')::bigint, 0)
 WHERE r.organization_id = $1
   AND r.id = $2;
