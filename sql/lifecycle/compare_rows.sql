-- The rows of two versions side by side, by their ids; values by the names that the fields have in this one.
-- $1 organization, $2 names (jsonb: {name in the other: name here}, of the fields that both have). Returns rows_before
-- (of the other), rows_after, only_before, only_after, differing (rows of both with another value in a field that both
-- have). Plan: one pass over each mirror in the order of its primary key, merged: a hash of many rows goes to disk.
SELECT count(o.row_key) AS rows_before, count(m.row_key) AS rows_after,
       count(*) FILTER (WHERE m.row_key IS NULL) AS only_before,
       count(*) FILTER (WHERE o.row_key IS NULL) AS only_after,
       count(*) FILTER (WHERE m.row_key IS NOT NULL AND o.row_key IS NOT NULL
                          AND vanguard.differs(o.data, m.data, $2)) AS differing
  FROM (SELECT o.row_key, o.data
          FROM /*{other}*/pfa/*{}*/.mirror AS o
         WHERE o.organization_id = $1
         ORDER BY o.row_key
        OFFSET 0) AS o
  FULL JOIN (SELECT m.row_key, m.data
               FROM pfa.mirror AS m
              WHERE m.organization_id = $1
              ORDER BY m.row_key
             OFFSET 0) AS m
    ON m.row_key = o.row_key;
