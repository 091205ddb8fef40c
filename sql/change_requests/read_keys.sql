-- The rows of a request's changes under review. $1 organization, $2 request_id (uuid). Returns row_key, in order, and
-- absent: the mirror has no such row.
-- Plan: change_of_request, the mirror's primary key for each.
SELECT c.row_key,
       NOT EXISTS (SELECT FROM pfa.mirror AS m
                    WHERE m.organization_id = $1 AND m.row_key = c.row_key
                   OFFSET 0) AS absent
  FROM pfa.change AS c
 WHERE c.organization_id = $1
   AND c.change_request_id = $2
   AND c.state = 'in_review'
 ORDER BY c.row_key;
