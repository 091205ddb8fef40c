-- Changes of a version, in the order in which they came. $1 organization, $2 after (bigint: only those beyond this id),
-- $3 limit (bigint).
-- Returns id, row_key, user_id, op, base, delta, state, change_request_id.
SELECT c.id, c.row_key, c.user_id, c.op, c.base, c.delta, c.state, c.change_request_id
  FROM pfa.change AS c
 WHERE c.organization_id = $1
   AND c.id > $2
 ORDER BY c.id
 LIMIT $3;
