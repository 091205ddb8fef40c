-- After a pull that succeeded: where the dataset stands, and when the next is due, on the beat of the schedule.
-- $1 organization, $2 dataset, $3 run_id (uuid), $4 at (timestamptz now).
-- The watermark is upstream's latest modification less as long as the pull took: what was modified meanwhile, behind
-- its back, is later, whatever upstream's clock says. Never later than the pull's beginning: a row from the future
-- would hide all others. It stays where rows were left alone: they have to come again. Where it moves, the row that has
-- that modification is one that the next pull of what was modified has to bring. A full pull that leaves it names the
-- latest row that it saw, or none: the one from before may be gone.
UPDATE public.synchronization AS s
   SET watermark = CASE WHEN r.left_alone > 0 OR r.mark IS NULL THEN s.watermark
                        ELSE greatest(s.watermark, least(r.mark - ($4::timestamptz - r.started_at), r.started_at)) END,
       marked = CASE WHEN r.left_alone = 0
                      AND least(r.mark - ($4 - r.started_at), r.started_at) > coalesce(s.watermark, '-infinity')
                     THEN r.marked
                     WHEN r.whole THEN CASE WHEN r.mark >= s.watermark THEN r.marked END
                     ELSE s.marked END,
       pulled_at = r.started_at,
       pulled_whole_at = CASE WHEN r.whole THEN r.started_at ELSE s.pulled_whole_at END,
       full_wanted = s.full_wanted AND NOT r.whole,
       pull_failures = 0,
       next_pull_at = greatest(r.started_at + make_interval(secs => s.pull_every), $4)
  FROM public.sync_run AS r
 WHERE s.organization_id = $1
   AND s.dataset = $2
   AND r.organization_id = $1
   AND r.id = $3;
