-- All rows of the caller's view in their order, each as one text: mirror || pending || delta, filtered and sorted on
-- merged values.
--
-- $1 organization, $2 dataset, $3 user, then what the markers need (app/engine/export.py places them).
-- Returns line (text), as the format writes a row: here a composite value of its cells. No row: no such dataset, or
-- nothing passes the filters.
--
-- Arm one is the mirror without the rows that a modification of the caller is laid over; arm two is those that are
-- there with it. Unlike a page, which looks for a few keys and then for their documents, both bring the document along.
-- Read through a cursor, in a transaction that begin.sql has prepared: one snapshot, however long it takes.
-- Plan: a Merge Append of the arms. In the order of an index (the id, a hot sort) nothing is sorted but the caller's
-- own modifications, before their rows are looked up; any other order is sorted as a whole, as lines.
SELECT /*{line}*/ROW(v.c0, v.c1)::text/*{}*/ AS line
  FROM (
    /*{arms}*/
    (SELECT m.f_forecast_start AS s_forecast_start, m.row_key, m.data AS doc
       FROM pfa.mirror AS m
      WHERE m.organization_id = $1
        AND NOT EXISTS (SELECT FROM pfa.modification AS x
                         WHERE x.organization_id = $1 AND x.user_id = $3 AND x.row_key = m.row_key)
      ORDER BY s_forecast_start, row_key)
    UNION ALL
    (SELECT x.a_forecast_start AS s_forecast_start, x.row_key, d.doc
       FROM (SELECT x.*
               FROM pfa.modification AS x
              WHERE x.organization_id = $1 AND x.user_id = $3
              ORDER BY x.a_forecast_start, x.row_key
             OFFSET 0) AS x
       LEFT JOIN LATERAL (
                SELECT m.row_key, m.data
                  FROM pfa.mirror AS m
                 WHERE m.organization_id = $1 AND m.row_key = x.row_key
                 LIMIT 1
            ) AS m ON TRUE
      CROSS JOIN LATERAL (SELECT coalesce(m.data, '{}') || x.pending || x.delta AS doc OFFSET 0) AS d
      WHERE x.lands OR NOT x.leaves AND m.row_key IS NOT NULL
      ORDER BY s_forecast_start, row_key)
    /*{}*/
       ) AS r
 CROSS JOIN LATERAL (SELECT /*{cells}*/r.row_key AS c0, r.doc ->> 'category' AS c1/*{}*/ OFFSET 0) AS v
 WHERE EXISTS (SELECT FROM pfa.dataset AS d WHERE d.organization_id = $1 AND d.name = $2)
 ORDER BY /*{order}*/s_forecast_start, row_key/*{}*/;
