-- A new row without a key is about to be sent: from here on it may be there. The lease begins anew, for it says how long
-- upstream may still be at it. $1 organization, $2 bigint change, $3 uuid claim, $4 timestamptz now, $5 timestamptz until when
-- the change is the caller's. Returns id; no row where it is not any more.
UPDATE pfa.change AS c
   SET sent_at = coalesce(c.sent_at, $4), lease_until = $5
 WHERE c.organization_id = $1
   AND c.id = $2
   AND c.claim_id = $3
   AND c.state = 'syncing'
RETURNING c.id;
