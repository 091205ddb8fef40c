-- Stage the deletion of rows that a full pull did not see: the next ones beyond a key. Those that count_missing leaves out
-- are left out here, too. $1 organization, $2 bigint the dataset's revision when the pull began, $3 text the key,
-- $4 bigint how many. Returns row_key of each.
WITH unseen AS MATERIALIZED (
    SELECT m.row_key
      FROM pfa.mirror AS m
     WHERE m.organization_id = $1
       AND m.row_key > $3
       AND m.revision <= $2
       AND NOT EXISTS (SELECT FROM pfa.pulled AS p WHERE p.organization_id = $1 AND p.row_key = m.row_key)
       AND NOT EXISTS (SELECT FROM pfa.change AS c
                        WHERE c.organization_id = $1 AND c.row_key = m.row_key AND c.state IN ('committed', 'syncing')
                          AND NOT pfa.waits(c.organization_id, c.row_key, c.user_id, c.id))
     ORDER BY m.row_key
     LIMIT $4
)
INSERT INTO staged (row_key)
SELECT u.row_key FROM unseen AS u
RETURNING row_key;
