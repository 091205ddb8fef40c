-- One change request. $1 organization, $2 dataset, $3 id (uuid).
-- Returns id, dataset, session_id, author, title, description, approvers, state, iteration, content, conflicts,
-- validation, summary, base_revision, merged_revision, commit_id, result, reason, reverts, reverts_commit, left_out,
-- created_at, updated_at, merged_at, merged_by, closed_at, author_name, approver_names, merged_by_name,
-- decided_by_name (of the validation); no row where it is none.
SELECT r.id, r.dataset, r.session_id, r.author, r.title, r.description, r.approvers, r.state, r.iteration, r.content,
       r.conflicts, r.validation, r.summary, r.base_revision, r.merged_revision, r.commit_id, r.result, r.reason,
       r.reverts, r.reverts_commit, r.left_out, r.created_at, r.updated_at, r.merged_at, r.merged_by, r.closed_at,
       vanguard.name_of($1, r.author) AS author_name, vanguard.names_of($1, r.approvers) AS approver_names,
       vanguard.name_of($1, r.merged_by) AS merged_by_name,
       vanguard.name_of($1, r.validation ->> 'decidedBy') AS decided_by_name
  FROM public.change_request AS r
 WHERE r.organization_id = $1
   AND r.dataset = $2
   AND r.id = $3;
