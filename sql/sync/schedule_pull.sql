-- After a pull that succeeded: where the dataset stands, and when the next is due, on the beat of the schedule.
-- $1 organization, $2 dataset, $3 uuid run, $4 timestamptz now. The watermark is upstream's latest modification, but never
-- later than the pull's beginning: a row from the future would hide all others.
UPDATE public.synchronization AS s
   SET watermark = coalesce(greatest(s.watermark, least(r.mark, r.started_at)), s.watermark),
       pulled_at = r.started_at,
       pulled_whole_at = CASE WHEN r.whole THEN r.started_at ELSE s.pulled_whole_at END,
       pull_failures = 0,
       next_pull_at = greatest(r.started_at + make_interval(secs => s.pull_every), $4)
  FROM public.sync_run AS r
 WHERE s.organization_id = $1
   AND s.dataset = $2
   AND r.organization_id = $1
   AND r.id = $3;
