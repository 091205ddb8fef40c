-- Drop the staged rows that this pull has to leave alone: a change of theirs is on its way, or was settled after the pull
-- had asked for them, so that what it brings may be older. A change that waits behind another is not on its way: it may wait
-- for days for a person. The caller holds locks 1, 3 and 4.
-- $1 organization, $2 bigint the dataset's revision before upstream was asked. Returns left_alone, their number.
-- Plan: change_unfinished and history_row for each staged row; subqueries of one row, as in sift_staged. Behind OFFSET 0 the
-- planner does not see that the outbox would do: planned while it is empty, it would be read whole for each row.
WITH alone AS (
    DELETE FROM staged AS s
     WHERE (SELECT c.id
              FROM (SELECT u.id, u.user_id, u.state
                      FROM pfa.change AS u
                     WHERE u.organization_id = $1
                       AND u.row_key = s.row_key
                       AND u.state IN ('in_review', 'committed', 'syncing', 'conflict', 'sync_error')
                    OFFSET 0) AS c
             WHERE c.state IN ('committed', 'syncing')
               AND NOT pfa.waits($1, s.row_key, c.user_id, c.id)
             LIMIT 1) IS NOT NULL
        OR (SELECT h.revision
              FROM pfa.history AS h
             WHERE h.organization_id = $1 AND h.row_key = s.row_key AND h.revision > $2 AND h.source <> 'pull'
             LIMIT 1) IS NOT NULL
    RETURNING s.row_key
)
SELECT count(*) AS left_alone FROM alone;
