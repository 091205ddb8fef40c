-- Entries of an organization's audit of a period, some at a time, the oldest first.
-- $1 organization, $2 since, $3 until (timestamptz: from the one on, before the other), $4 after, $5 after_id
-- (timestamptz, bigint: only entries beyond this position), $6 limit (bigint).
-- Returns id, position (timestamptz), at (text), actor, actor_name, action, dataset, request_id, commit_id, row_key,
-- field, reason, details, address.
-- Plan: audit_newest from the position on.
SELECT a.id, a.at AS position, vanguard.utc(a.at) AS at, a.actor,
       vanguard.name_of($1, a.actor) AS actor_name, a.action, a.dataset, a.request_id, a.commit_id,
       a.row_key, a.field, a.reason, a.details, a.address
  FROM public.audit AS a
 WHERE a.organization_id = $1
   AND a.at >= $2
   AND a.at < $3
   AND (a.at, a.id) > ($4::timestamptz, $5::bigint)
 ORDER BY a.at, a.id
 LIMIT $6;
