-- Merged requests whose changes are all done with upstream are closed, some at a time.
-- $1 organization, $2 dataset, $3 at (timestamptz now), $4 limit (bigint).
-- Returns id, commit_id, iteration of each.
--
-- The revision is the one at which the last of its changes reached the mirror; none did where all were given up.
-- Plan: change_request_merged, the changes of each by change_committed, the history of their rows by history_row;
-- locked by id, and passed over while somebody holds one.
WITH due AS MATERIALIZED (
    SELECT r.id, r.commit_id
      FROM public.change_request AS r
     WHERE r.organization_id = $1
       AND r.dataset = $2
       AND r.state = 'merged'
       AND NOT EXISTS (SELECT FROM pfa.change AS c
                        WHERE c.organization_id = $1 AND c.commit_id = r.commit_id
                          AND c.state = ANY (vanguard.unfinished())
                       OFFSET 0)
     ORDER BY r.id
     LIMIT $4
       FOR NO KEY UPDATE SKIP LOCKED
),
reached AS MATERIALIZED (
    SELECT d.id,
           (SELECT max(h.revision)
              FROM pfa.change AS c
             CROSS JOIN LATERAL (
                       SELECT h.revision
                         FROM pfa.history AS h
                        WHERE h.organization_id = $1 AND h.row_key = c.row_key AND h.commit_id = d.commit_id
                        ORDER BY h.revision DESC
                        LIMIT 1
                   ) AS h
             WHERE c.organization_id = $1
               AND c.commit_id = d.commit_id
               AND c.state = 'synced') AS revision
      FROM due AS d
)
UPDATE public.change_request AS r
   SET state = 'closed', closed_at = $3, updated_at = $3, merged_revision = n.revision,
       result = r.result || jsonb_build_object(
           'status', 'closed', 'mergedRevision', n.revision,
           'diff', (r.result -> 'diff') || jsonb_build_object('revisionAfter', n.revision))
  FROM reached AS n
 WHERE r.organization_id = $1
   AND r.id = n.id
RETURNING r.id, r.commit_id, r.iteration;
