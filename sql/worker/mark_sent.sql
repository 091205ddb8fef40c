-- A new row without a key is about to be sent: from here on it may be there. The lease begins anew, for it says how
-- long upstream may still be at it.
-- $1 organization, $2 change_id (bigint), $3 claim (uuid: the caller's), $4 at (timestamptz now), $5 until
-- (timestamptz: when the lease ends). Returns id; no row where the change is not the caller's any more.
UPDATE pfa.change AS c
   SET sent_at = coalesce(c.sent_at, $4), lease_until = $5
 WHERE c.organization_id = $1
   AND c.id = $2
   AND c.claim_id = $3
   AND c.state = 'syncing'
RETURNING c.id;
