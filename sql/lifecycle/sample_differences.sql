-- Some rows that two versions have otherwise, by their ids. $1 organization, $2 names (jsonb: {name in the other: name
-- here}), $3 limit (bigint).
-- Returns row_key, before (jsonb: the other's document, NULL where it has none), after. Plan: as in compare_rows.
SELECT coalesce(m.row_key, o.row_key) AS row_key, o.data AS before, m.data AS after
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
    ON m.row_key = o.row_key
 WHERE m.row_key IS NULL OR o.row_key IS NULL OR vanguard.differs(o.data, m.data, $2)
 ORDER BY 1
 LIMIT $3;
