-- The changes of the outbox that can go now, in order: committed and not waiting for another attempt, or claimed by somebody
-- whose lease has run out; each the first unfinished one of its row. Without any lock.
-- $1 organization, $2 timestamptz now, $3 bigint how many, $4 uuid the caller's claim, whose changes are
-- under way however old their lease. Returns id, user_id.
-- Plan: change_outbox in order; the earlier changes of a row by change_unfinished.
SELECT c.id, c.user_id
  FROM pfa.change AS c
 WHERE c.organization_id = $1
   AND c.state IN ('committed', 'syncing')
   AND CASE c.state WHEN 'syncing' THEN c.lease_until <= $2 ELSE coalesce(c.next_attempt_at, '-infinity') <= $2 END
   AND c.claim_id IS DISTINCT FROM $4::uuid
   AND NOT pfa.waits(c.organization_id, c.row_key, c.user_id, c.id)
 ORDER BY c.id
 LIMIT $3;
