-- Add to what a run has counted, and note how far it is.
-- $1 organization, $2 run_id (uuid), $3 at (timestamptz now), $4 cursor (text, or NULL to keep it), $5 mark
-- (timestamptz or NULL), $6 total (bigint or NULL), $7 counts (jsonb: what to add, by the names of the columns),
-- $8 marked (text: the key of the row that has the mark), $9 doubt (text: why it is not certain that all rows come, or
-- NULL to keep what there is), $10 tally (jsonb, or NULL to keep it), $11 seen (text[]: keys of the rows that came).
-- Returns ends: whether somebody wants it to end here, since it was stopped or the dataset is paused, or takes no pulls
-- in its state.
UPDATE public.sync_run AS r
   SET progressed_at = $3, cursor = coalesce($4, r.cursor), mark = greatest(r.mark, $5), total = coalesce($6, r.total),
       marked = CASE WHEN $5 > r.mark OR r.mark IS NULL AND $5 IS NOT NULL THEN $8::text ELSE r.marked END,
       doubt = coalesce($9, r.doubt), tally = coalesce($10::jsonb, r.tally),
       witness = CASE WHEN r.witness = ANY ($11::text[]) THEN NULL ELSE r.witness END,
       rows_read = r.rows_read + coalesce(n.rows_read, 0),
       inserted = r.inserted + coalesce(n.inserted, 0),
       updated = r.updated + coalesce(n.updated, 0),
       unchanged = r.unchanged + coalesce(n.unchanged, 0),
       deleted = r.deleted + coalesce(n.deleted, 0),
       quarantined = r.quarantined + coalesce(n.quarantined, 0),
       conflicts = r.conflicts + coalesce(n.conflicts, 0),
       left_alone = r.left_alone + coalesce(n.left_alone, 0),
       dropped = r.dropped + coalesce(n.dropped, 0),
       synced = r.synced + coalesce(n.synced, 0),
       sync_errors = r.sync_errors + coalesce(n.sync_errors, 0),
       retried = r.retried + coalesce(n.retried, 0),
       normalized = r.normalized + coalesce(n.normalized, 0)
  FROM jsonb_to_record($7::jsonb) AS n (
           rows_read bigint, inserted bigint, updated bigint, unchanged bigint, deleted bigint, quarantined bigint,
           conflicts bigint, left_alone bigint, dropped bigint, synced bigint, sync_errors bigint, retried bigint,
           normalized bigint)
 WHERE r.organization_id = $1
   AND r.id = $2
RETURNING r.stop_at IS NOT NULL OR (
              SELECT s.paused_at IS NOT NULL OR NOT t.filled
                FROM public.dataset AS d
                JOIN public.dataset_state AS t ON t.state = d.state
                LEFT JOIN public.synchronization AS s ON s.organization_id = $1 AND s.dataset = d.name
               WHERE d.organization_id = $1 AND d.name = r.dataset
          ) AS ends;
