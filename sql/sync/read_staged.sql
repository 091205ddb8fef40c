-- The staged rows that are left, in the order of their keys. $1 organization.
-- Returns row_key, absent: the mirror has no such row.
SELECT s.row_key,
       NOT EXISTS (SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1 AND m.row_key = s.row_key) AS absent
  FROM staged AS s
 ORDER BY s.row_key;
