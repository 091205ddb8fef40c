-- How many values of a child are found in a parent. $1 organization, $2 most (rows of the child at most), $3 one_in
-- (one of so many of the rows, by a digest of their ids; 1 for all), then of random pages their share in percent. The
-- child's values are composed, each with a slot; so are where its rows come from, and where a value is looked for.
-- Returns slot, rows (of the child), filled (those with a value), different (values), found (those that the parent
-- has), repeated (those that it has more than once), matched (rows with a partner), greatest (rows of one value that is
-- found). Nothing where there are no rows.
-- Plan: rows as in profile_values; then for each different value one probe of the parent's index, or of one hash of all
-- its values where it has few.
WITH value AS (
    SELECT c.slot, c.value, count(*) AS rows
      FROM (SELECT unnest(/*{slots}*/ARRAY[0]/*{}*/) AS slot,
                   unnest(/*{values}*/ARRAY[m.row_key COLLATE "C"]/*{}*/) AS value
              FROM (SELECT m.*
                      FROM /*{pages}*/pfa.mirror AS m/*{}*/
                     WHERE m.organization_id = $1
                       AND ($3::integer = 1 OR (hashtext(m.row_key) & 2147483647) % $3::integer = 0)
                     LIMIT $2) AS m) AS c
     GROUP BY c.slot, c.value
),
probed AS MATERIALIZED (
    SELECT v.slot, v.rows, v.value,
           /*{found}*/(SELECT count(*)
              FROM (SELECT FROM pfa.mirror AS p
                     WHERE p.organization_id = $1 AND p.row_key = v.value LIMIT 2) AS two)/*{}*/ AS found
      FROM value AS v
)
SELECT p.slot, sum(p.rows)::bigint AS rows,
       coalesce(sum(p.rows) FILTER (WHERE p.value IS NOT NULL), 0)::bigint AS filled,
       count(p.value) AS different,
       count(*) FILTER (WHERE p.found > 0) AS found,
       count(*) FILTER (WHERE p.found > 1) AS repeated,
       coalesce(sum(p.rows) FILTER (WHERE p.found > 0), 0)::bigint AS matched,
       coalesce(max(p.rows) FILTER (WHERE p.found > 0), 0) AS greatest
  FROM probed AS p
 GROUP BY p.slot;
