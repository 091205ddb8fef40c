-- The change requests that a person may read, the newest first.
-- $1 organization, $2 dataset, $3 user, $4 all (boolean: an ADMIN reads each), $5 status (text: only these, or NULL),
-- $6 after (timestamptz: the last one of the page before, or NULL), $7 after_id (uuid: the same), $8 limit (bigint).
-- Returns id, dataset, session_id, author, title, description, approvers, state, iteration, content, conflicts,
-- validation, summary, base_revision, merged_revision, commit_id, result, reason, reverts, reverts_commit, left_out,
-- created_at, updated_at, merged_at, merged_by, closed_at, author_name, approver_names, merged_by_name,
-- decided_by_name (of the validation).
-- Plan: change_request_newest, in its order.
SELECT r.id, r.dataset, r.session_id, r.author, r.title, r.description, r.approvers, r.state, r.iteration, r.content,
       r.conflicts, r.validation, r.summary, r.base_revision, r.merged_revision, r.commit_id, r.result, r.reason,
       r.reverts, r.reverts_commit, r.left_out, r.created_at, r.updated_at, r.merged_at, r.merged_by, r.closed_at,
       vanguard.name_of($1, r.author) AS author_name, vanguard.names_of($1, r.approvers) AS approver_names,
       vanguard.name_of($1, r.merged_by) AS merged_by_name,
       vanguard.name_of($1, r.validation ->> 'decidedBy') AS decided_by_name
  FROM public.change_request AS r
 WHERE r.organization_id = $1
   AND r.dataset = $2
   AND ($4::boolean OR r.author = $3 OR $3 = ANY (r.approvers))
   AND ($5::text IS NULL OR r.state = $5)
   AND ($6::timestamptz IS NULL OR r.created_at < $6 OR r.created_at = $6 AND r.id > $7::uuid)
 ORDER BY r.created_at DESC, r.id
 LIMIT $8;
