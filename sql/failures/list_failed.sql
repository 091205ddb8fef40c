-- A page of everybody's changes that wait for a person, in their order.
-- $1 organization, $2 dataset, $3 after (text: only changes beyond this one, '0' for the first page), $4 limit
-- (bigint).
-- Returns one row: incarnation, total, body (bytea, JSON array), last_key (text, NULL on the last page).
-- No row: no such dataset.
-- Plan: change_failed.
WITH page AS MATERIALIZED (
    SELECT c.id, c.row_key, c.user_id, c.op, c.base, c.delta, c.state, c.commit_id, c.change_reason, c.created_at,
           c.attempts, c.last_error, c.error_code, c.near, c.settled_at, row_number() OVER (ORDER BY c.id) AS place
      FROM pfa.change AS c
     WHERE c.organization_id = $1
       AND c.state = ANY (vanguard.refused())
       AND c.id > $3::text::bigint
     ORDER BY c.id
     LIMIT $4::bigint + 1
),
rendered AS (
    SELECT p.place, p.id,
           json_build_object(
               'id', p.id::text,
               'rowId', p.row_key,
               'op', p.op,
               'state', p.state,
               'user', p.user_id,
               'userName', vanguard.name_of($1, p.user_id),
               'delta', p.delta,
               'base', p.base,
               'error', p.last_error,
               'code', p.error_code,
               'near', CASE p.error_code WHEN 'NEAR_MATCH' THEN coalesce(p.near, '[]') ELSE '[]' END,
               'attempts', p.attempts,
               'commitId', p.commit_id,
               'changeReason', p.change_reason,
               'createdAt', vanguard.utc(p.created_at),
               'failedAt', vanguard.utc(p.settled_at))::text AS row
      FROM page AS p
     WHERE p.place <= $4
)
SELECT (SELECT i.number FROM public.incarnation AS i) AS incarnation,
       (SELECT count(*)
          FROM pfa.change AS c
         WHERE c.organization_id = $1 AND c.state = ANY (vanguard.refused())) AS total,
       convert_to('[' || coalesce((SELECT string_agg(r.row, ',' ORDER BY r.place)
                                     FROM rendered AS r), '') || ']', 'UTF8') AS body,
       CASE WHEN (SELECT count(*) FROM page) > $4 THEN (SELECT max(r.id)::text FROM rendered AS r) END AS last_key
  FROM pfa.dataset AS d
 WHERE d.organization_id = $1
   AND d.name = $2;
