-- The staged rows that are left, in the order of their keys. $1 organization.
-- Returns row_key, absent: the mirror has no such row.
-- Plan: as in sift_staged.
SELECT s.row_key,
       (SELECT m.row_key
          FROM pfa.mirror AS m
         WHERE m.organization_id = $1 AND m.row_key = s.row_key
         LIMIT 1) IS NULL AS absent
  FROM staged AS s
 ORDER BY s.row_key;
