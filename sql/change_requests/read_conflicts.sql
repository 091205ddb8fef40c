-- Where a request's changes under review and the rows as they are now differ three ways, row by row.
-- $1 organization, $2 request_id (uuid), $3 groups (jsonb atomic groups), $4 fields (text[]: those that the contract
-- has), $5 keys (text[]: only these rows, or NULL for all).
-- Returns row_key, op, conflicts (text: a JSON array of {field, base, theirs, mine}) of the rows that have some.
--
-- Theirs is the mirror with every committed change in flight: what is under review, by anybody, is not there yet.
-- Plan: the request's changes by change_of_request, for each the mirror's primary key and the row's unfinished changes.
SELECT c.row_key, c.op, j.conflicts::text AS conflicts
  FROM pfa.change AS c
  LEFT JOIN LATERAL (
           SELECT m.data FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = c.row_key LIMIT 1
       ) AS m ON TRUE
 CROSS JOIN LATERAL (
           SELECT CASE WHEN pfa.in_outbox($1, c.row_key) THEN pfa.theirs($1, '', c.row_key, m.data)
                       ELSE m.data END AS theirs
           OFFSET 0
       ) AS t
 CROSS JOIN LATERAL (
           SELECT CASE WHEN c.op = 'update' AND vanguard.unchanged(t.theirs, c.base) THEN '[]'
                       ELSE vanguard.judge(c.op, c.base, t.theirs, c.delta, $3) -> 'conflicts' END
                  || vanguard.removed_fields(c.base, c.delta, $4) AS conflicts
           OFFSET 0
       ) AS j
 WHERE c.organization_id = $1
   AND c.change_request_id = $2
   AND c.state = 'in_review'
   AND ($5::text[] IS NULL OR c.row_key = ANY ($5))
   AND j.conflicts <> '[]'
 ORDER BY c.row_key;
