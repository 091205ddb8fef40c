-- Drop the staged rows that this pull has to leave alone: a change of theirs is on its way, or was settled after the
-- pull had asked for them, so that what it brings may be older. A change that waits behind another is not on its way:
-- it may wait for days for a person. And new rows that may be one that was sent without a key, and of which no answer
-- came: if somebody edited it before its push has found it, it could not be told from others, and would be sent again.
-- The caller holds locks 1, 3 and 4.
-- $1 organization, $2 asked_revision (bigint: the dataset's before upstream was asked). Returns left_alone, their
-- number.
-- Plan: change_sent once; change_unfinished and history_row for each staged row; subqueries of one row, as in
-- sift_staged. Behind OFFSET 0 the planner does not see that the outbox would do: planned while it is empty, it would
-- be read whole for each row.
WITH sent AS MATERIALIZED (
    SELECT jsonb_strip_nulls(c.delta) AS fields
      FROM pfa.change AS c
     WHERE c.organization_id = $1
       AND c.state = ANY (vanguard.outbox())
       AND c.sent_at IS NOT NULL
),
alone AS (
    DELETE FROM staged AS s
     WHERE (SELECT c.id
              FROM (SELECT u.id, u.state,
                           CASE WHEN u.change_request_id IS NULL THEN u.user_id END AS author
                      FROM pfa.change AS u
                     WHERE u.organization_id = $1
                       AND u.row_key = s.row_key
                       AND u.state = ANY (vanguard.unfinished())
                    OFFSET 0) AS c
             WHERE c.state = ANY (vanguard.outbox())
               AND NOT pfa.waits($1, s.row_key, c.author, c.id)
             LIMIT 1) IS NOT NULL
        OR (SELECT h.revision
              FROM pfa.history AS h
             WHERE h.organization_id = $1 AND h.row_key = s.row_key AND h.revision > $2 AND h.source <> 'pull'
             LIMIT 1) IS NOT NULL
        OR CASE WHEN (SELECT TRUE FROM sent AS n WHERE s.data @> n.fields LIMIT 1)
                THEN (SELECT m.row_key
                        FROM pfa.mirror AS m
                       WHERE m.organization_id = $1 AND m.row_key = s.row_key
                       LIMIT 1) IS NULL
                ELSE FALSE END
    RETURNING s.row_key
)
SELECT count(*) AS left_alone FROM alone;
