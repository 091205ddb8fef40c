-- How many rows a full pull did not see, of how many. Rows that came during it, and rows with a change on its way, are
-- not missing.
-- $1 organization, $2 start_revision (bigint: the dataset's when the pull began). Returns missing, present.
-- Plan: the mirror's keys from an index, each looked up in pulled_pkey; of the unseen ones the row by mirror_pkey and
-- its changes by change_unfinished. Subqueries of one row, as in sift_staged and leave_alone: a join that was planned
-- while there was little compares all with all. The row itself is the first from its key on: only mirror_pkey has that
-- order, where for an equal key other indexes that hold it seem as good.
SELECT count(*) FILTER (WHERE CASE
           WHEN (SELECT p.row_key
                   FROM pfa.pulled AS p
                  WHERE p.organization_id = $1 AND p.row_key = m.row_key
                  LIMIT 1) IS NULL
               THEN (SELECT r.revision
                       FROM pfa.mirror AS r
                      WHERE r.organization_id = $1 AND r.row_key >= m.row_key
                      ORDER BY r.row_key
                      LIMIT 1) <= $2
                AND (SELECT c.id
                       FROM (SELECT u.id, u.state,
                                    CASE WHEN u.change_request_id IS NULL THEN u.user_id END AS author
                               FROM pfa.change AS u
                              WHERE u.organization_id = $1
                                AND u.row_key = m.row_key
                                AND u.state = ANY (vanguard.unfinished())
                             OFFSET 0) AS c
                      WHERE c.state = ANY (vanguard.outbox())
                        AND NOT pfa.waits($1, m.row_key, c.author, c.id)
                      LIMIT 1) IS NULL
       END) AS missing,
       count(*) AS present
  FROM pfa.mirror AS m
 WHERE m.organization_id = $1;
