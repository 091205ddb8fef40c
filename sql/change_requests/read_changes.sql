-- A request's changes under review of some rows. $1 organization, $2 request_id (uuid), $3 keys (text[]).
-- Returns row_key, op, base, delta.
-- Plan: change_of_request, an entry for each.
SELECT c.row_key, c.op, c.base, c.delta
  FROM pfa.change AS c
 WHERE c.organization_id = $1
   AND c.change_request_id = $2
   AND c.row_key = ANY ($3::text[])
   AND c.state = 'in_review';
