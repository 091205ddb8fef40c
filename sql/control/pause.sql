-- Pause a dataset's synchronization; one that is paused stays so since then, by whoever did it.
-- $1 organization, $2 dataset, $3 user (text), $4 at (timestamptz now).
-- Returns paused, moved (whether it was not before: the row is locked first, so that of two at once one has moved it);
-- no row where nothing is connected.
WITH was AS MATERIALIZED (
    SELECT s.paused_at
      FROM public.synchronization AS s
     WHERE s.organization_id = $1
       AND s.dataset = $2
       FOR NO KEY UPDATE
)
UPDATE public.synchronization AS s
   SET paused_at = coalesce(s.paused_at, $4),
       paused_by = CASE WHEN s.paused_at IS NULL THEN $3 ELSE s.paused_by END
  FROM was
 WHERE s.organization_id = $1
   AND s.dataset = $2
RETURNING s.paused_at IS NOT NULL AS paused, was.paused_at IS NULL AS moved;
