-- How far the first pulls of organizations are that a worker connects.
-- $1 organizations (text[]), $2 dataset, $3 since (timestamptz: what failed before does not count).
-- Returns organization_id, pulled (to the end, once), rows_read (by the newest pull), error (of the newest pull, or
-- NULL).
SELECT d.organization_id,
       s.pulled_at IS NOT NULL AS pulled,
       coalesce(r.rows_read, 0) AS rows_read,
       CASE WHEN r.finished_at >= $3 THEN r.error END AS error
  FROM public.dataset AS d
  LEFT JOIN public.synchronization AS s ON s.organization_id = d.organization_id AND s.dataset = d.name
  LEFT JOIN LATERAL (
           SELECT p.rows_read, p.finished_at, p.error
             FROM public.sync_run AS p
            WHERE p.organization_id = d.organization_id
              AND p.dataset = d.name
              AND p.kind = 'pull'
              AND p.state <> 'requested'
            ORDER BY p.requested_at DESC, p.id
            LIMIT 1
       ) AS r ON TRUE
 WHERE d.organization_id = ANY ($1::text[])
   AND d.name = $2
 ORDER BY d.organization_id;
