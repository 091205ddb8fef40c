-- What became of a dataset's cells in a period, some rows at a time, in the order of revisions.
-- $1 organization, $2 since, $3 until (timestamptz: from the one on, before the other), $4 after, $5 after_key (bigint,
-- text: only changes beyond this revision and row), $6 limit (bigint).
-- Returns revision, row_key, op, at (text), actor, actor_name, source, commit_id, request_id, change_reason, cells
-- (text, a JSON array).
-- Plan: the history's primary key from the position on, for times need not follow revisions; of each change
-- change_committed.
SELECT h.revision, h.row_key, h.op, vanguard.utc(h.at) AS at, h.actor,
       vanguard.name_of($1, h.actor) AS actor_name, h.source, h.commit_id, c.change_request_id AS request_id,
       h.change_reason, vanguard.cells(h.before, h.after)::text AS cells
  FROM pfa.history AS h
  LEFT JOIN LATERAL (
           SELECT c.change_request_id
             FROM pfa.change AS c
            WHERE c.organization_id = $1 AND c.commit_id = h.commit_id AND c.row_key = h.row_key
            LIMIT 1
       ) AS c ON TRUE
 WHERE h.organization_id = $1
   AND h.at >= $2
   AND h.at < $3
   AND (h.revision, h.row_key) > ($4::bigint, $5::text COLLATE "C")
 ORDER BY h.revision, h.row_key
 LIMIT $6;
