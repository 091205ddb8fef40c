-- The changes of the outbox that can go now, in order: committed and not waiting for another attempt, or claimed by
-- somebody whose lease has run out; each the first unfinished one of its row. Without any lock.
-- $1 organization, $2 at (timestamptz now), $3 limit (bigint), $4 claim (uuid: the caller's, whose changes are under
-- way however old their lease). Returns id, user_id.
-- Plan: change_outbox in order; the earlier changes of a row by change_unfinished, asked for in order and only until
-- there are enough: the subquery keeps that question out of a plan that sorts, as one that knows no statistics yet may
-- do.
SELECT c.id, c.user_id
  FROM (SELECT d.id, d.row_key, d.user_id,
               CASE WHEN d.change_request_id IS NULL THEN d.user_id END AS author
          FROM pfa.change AS d
         WHERE d.organization_id = $1
           AND d.state = ANY (vanguard.outbox())
           AND CASE d.state WHEN 'syncing' THEN d.lease_until <= $2
                            ELSE coalesce(d.next_attempt_at, '-infinity') <= $2 END
           AND d.claim_id IS DISTINCT FROM $4::uuid
         ORDER BY d.id
        OFFSET 0) AS c
 WHERE NOT pfa.waits($1, c.row_key, c.author, c.id)
 ORDER BY c.id
 LIMIT $3;
