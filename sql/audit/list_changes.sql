-- A page of what became of one row's cells, the newest change first.
-- $1 organization, $2 key (of the row), $3 actor, $4 field, $5 request_id (uuid), $6 commit_id (uuid): each NULL where
-- all are wanted; $7 since, $8 until (timestamptz: from the one on, before the other; or NULL), $9 before,
-- $10 before_revision (timestamptz, bigint: only changes that stand behind this position; the time NULL for all),
-- $11 limit (bigint).
-- Returns position (timestamptz), revision, op, at (text), actor, actor_name, source, commit_id, request_id,
-- change_reason, cells (text, a JSON array; of the field alone where one is given).
-- Plan: history_row, all entries of the row, for times need not follow revisions; of each that is left
-- change_committed.
SELECT h.at AS position, h.revision, h.op, vanguard.utc(h.at) AS at, h.actor,
       vanguard.name_of($1, h.actor) AS actor_name, h.source, h.commit_id, c.change_request_id AS request_id,
       h.change_reason,
       vanguard.cells(CASE WHEN $4::text IS NULL THEN h.before ELSE jsonb_build_object($4, h.before -> $4) END,
                      CASE WHEN $4 IS NULL THEN h.after ELSE jsonb_build_object($4, h.after -> $4) END)::text AS cells
  FROM pfa.history AS h
  LEFT JOIN LATERAL (
           SELECT c.change_request_id
             FROM pfa.change AS c
            WHERE c.organization_id = $1 AND c.commit_id = h.commit_id AND c.row_key = $2
            LIMIT 1
       ) AS c ON TRUE
 WHERE h.organization_id = $1
   AND h.row_key = $2
   AND ($3::text IS NULL OR h.actor = $3)
   AND ($4 IS NULL OR coalesce(h.before -> $4, 'null') <> coalesce(h.after -> $4, 'null'))
   AND ($5::uuid IS NULL OR c.change_request_id = $5)
   AND ($6::uuid IS NULL OR h.commit_id = $6)
   AND h.at >= coalesce($7::timestamptz, '-infinity')
   AND h.at < coalesce($8::timestamptz, 'infinity')
   AND (h.at, h.revision) < (coalesce($9::timestamptz, 'infinity'), $10::bigint)
 ORDER BY h.at DESC, h.revision DESC
 LIMIT $11;
