-- A page of what happened to a row of the mirror, the newest first; a deleted row's, too.
-- $1 organization, $2 user (the caller), $3 key (of the row), $4 reads_requests (boolean: whether the caller may read
-- all of the dataset's change requests, and not only their own and those that they approve), $5 before (bigint: only
-- revisions below this one, or NULL), $6 limit (bigint).
-- Returns revision, op, at (text), actor, actor_name, source, commit_id, request_id (the change request's, where the
-- caller may read it), change_reason, cells (text, a JSON array).
-- Plan: history_row backwards from the position on; change_committed and the request's primary key for each entry.
SELECT h.revision, h.op, vanguard.utc(h.at) AS at, h.actor, vanguard.name_of($1, h.actor) AS actor_name, h.source,
       h.commit_id, r.id AS request_id, h.change_reason, vanguard.cells(h.before, h.after)::text AS cells
  FROM pfa.history AS h
  LEFT JOIN LATERAL (
           SELECT c.change_request_id
             FROM pfa.change AS c
            WHERE c.organization_id = $1 AND c.commit_id = h.commit_id AND c.row_key = $3
            LIMIT 1
       ) AS c ON TRUE
  LEFT JOIN LATERAL (
           SELECT r.id
             FROM public.change_request AS r
            WHERE r.organization_id = $1 AND r.id = c.change_request_id
              AND ($4 OR r.author = $2 OR $2 = ANY (r.approvers))
            LIMIT 1
       ) AS r ON TRUE
 WHERE h.organization_id = $1
   AND h.row_key = $3
   AND h.revision < coalesce($5, 9223372036854775807)
 ORDER BY h.revision DESC
 LIMIT $6;
