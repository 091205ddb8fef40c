-- How many rows a full pull did not see, of how many. Rows that came during it, and rows with a change on its way, are not
-- missing. $1 organization, $2 bigint the dataset's revision when the pull began. Returns missing, present.
-- Plan: two primary keys side by side; the mirror's rows are fetched for the missing keys only.
WITH unseen AS MATERIALIZED (
    SELECT m.row_key
      FROM pfa.mirror AS m
     WHERE m.organization_id = $1
       AND NOT EXISTS (SELECT FROM pfa.pulled AS p WHERE p.organization_id = $1 AND p.row_key = m.row_key)
)
SELECT (SELECT count(*)
          FROM unseen AS u
         CROSS JOIN LATERAL (
                   SELECT m.revision
                     FROM pfa.mirror AS m
                    WHERE m.organization_id = $1 AND m.row_key = u.row_key
                    LIMIT 1
               ) AS m
         WHERE m.revision <= $2
           AND NOT EXISTS (SELECT FROM pfa.change AS c
                            WHERE c.organization_id = $1 AND c.row_key = u.row_key
                              AND c.state IN ('committed', 'syncing')
                              AND NOT pfa.waits(c.organization_id, c.row_key, c.user_id, c.id))) AS missing,
       (SELECT count(*) FROM pfa.mirror AS m WHERE m.organization_id = $1) AS present;
