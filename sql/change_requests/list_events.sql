-- The timeline of a request, the newest first. $1 organization, $2 request_id (uuid), $3 kind (text: only these, or
-- NULL), $4 after (bigint: the last one of the page before, or NULL), $5 limit (bigint).
-- Returns id, kind, iteration, actor, actor_name, at, text, row_key, field, details.
-- Plan: the primary key, backwards.
SELECT e.id, e.kind, e.iteration, e.actor, vanguard.name_of($1, e.actor) AS actor_name, e.at, e.text, e.row_key,
       e.field, e.details
  FROM public.request_event AS e
 WHERE e.organization_id = $1
   AND e.request_id = $2
   AND ($3::text IS NULL OR e.kind = $3)
   AND ($4::bigint IS NULL OR e.id < $4)
 ORDER BY e.id DESC
 LIMIT $5;
