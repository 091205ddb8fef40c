-- Some of the rows that a full pull did not see, from anywhere among them: always the same ones.
-- $1 organization, $2 start_revision (bigint: the dataset's when the pull began), $3 limit (bigint). Returns row_key.
-- Plan: as in count_missing, and a sort of the few hundred that are kept.
SELECT m.row_key
  FROM pfa.mirror AS m
 WHERE m.organization_id = $1
   AND CASE
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
       END
 ORDER BY hashtext(m.row_key), m.row_key
 LIMIT $3;
