-- Claim changes for a push: committed (or syncing, with a lease that has run out) -> syncing. What another has claimed
-- meanwhile is passed over. The caller holds lock 2 of their users.
-- $1 organization, $2 ids (bigint[]: of the changes), $3 at (timestamptz now), $4 until (timestamptz: when their lease
-- ends), $5 claim (uuid).
-- Returns id, row_key, user_id, op, base, delta, attempts, sent_at, commit_id, change_reason, near (text[]: keys of the
-- rows that were shown as like it before it was tried again), written (boolean: it was sent before).
WITH free AS (
    SELECT c.id
      FROM pfa.change AS c
     WHERE c.organization_id = $1
       AND c.id = ANY ($2::bigint[])
       AND (c.state = 'committed' OR c.state = 'syncing' AND c.lease_until <= $3)
     ORDER BY c.id
       FOR UPDATE SKIP LOCKED
)
UPDATE pfa.change AS c
   SET state = 'syncing', claim_id = $5, lease_until = $4, next_attempt_at = NULL, attempts = c.attempts + 1
  FROM free AS f
 WHERE c.organization_id = $1
   AND c.id = f.id
RETURNING c.id, c.row_key, c.user_id, c.op, c.base, c.delta, c.attempts, c.sent_at, c.commit_id, c.change_reason,
          ARRAY(SELECT n ->> 'id' FROM jsonb_array_elements(c.near) AS n) AS near, c.written;
