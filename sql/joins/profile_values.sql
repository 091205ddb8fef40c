-- What values fields have, in a sample of rows. $1 organization, $2 most (rows at most), $3 one_in (one of so many of
-- the rows, by a digest of their ids; 1 for all), $4 numbers (integer[]: slots of fields with numbers), then of random
-- pages their share in percent. The fields are composed, each with its slot; so is where the rows come from.
-- Returns slot, rows, filled (those with a value), different (values), greatest (rows of one value), smallest, largest
-- (number, of fields with numbers). Nothing where there are no rows.
-- Plan: the organization's rows by the index of ids, or a share of the table's pages; then one hash of the values.
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
)
SELECT v.slot, sum(v.rows)::bigint AS rows,
       coalesce(sum(v.rows) FILTER (WHERE v.value IS NOT NULL), 0)::bigint AS filled,
       count(v.value) AS different,
       coalesce(max(v.rows) FILTER (WHERE v.value IS NOT NULL), 0) AS greatest,
       min(CASE WHEN v.slot = ANY ($4::integer[]) THEN v.value::numeric END) AS smallest,
       max(CASE WHEN v.slot = ANY ($4::integer[]) THEN v.value::numeric END) AS largest
  FROM value AS v
 GROUP BY v.slot;
