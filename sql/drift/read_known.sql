-- Rows that are there, to compare with those that came. $1 organization, $2 keys (text[]), $3 limit (of others).
-- Returns row_key, data: the rows of these keys, and the first others of the dataset, row_key NULL.
-- Plan: two index scans by the primary key.
SELECT m.row_key, m.data
  FROM pfa.mirror AS m
 WHERE m.organization_id = $1
   AND m.row_key = ANY ($2)
UNION ALL
(SELECT NULL, o.data
   FROM pfa.mirror AS o
  WHERE o.organization_id = $1
  ORDER BY o.row_key
  LIMIT $3);
