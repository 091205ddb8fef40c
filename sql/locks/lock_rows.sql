-- Lock 4: the mirror rows that are read to decide, in the order of their keys.
-- $1 organization, $2 keys (text[]). Returns row_key of each row that is there.
-- Plan: primary key, no rows of anybody else.
SELECT m.row_key
  FROM pfa.mirror AS m
 WHERE m.organization_id = $1
   AND m.row_key = ANY ($2::text[])
 ORDER BY m.row_key
   FOR NO KEY UPDATE;
