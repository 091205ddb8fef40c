-- A new row without a key is about to be sent: from here on it may be there. $1 organization, $2 bigint change, $3 uuid claim,
-- $4 timestamptz now. Returns id; no row where the change is not the caller's any more.
UPDATE pfa.change AS c
   SET sent_at = $4
 WHERE c.organization_id = $1
   AND c.id = $2
   AND c.claim_id = $3
   AND c.state = 'syncing'
RETURNING c.id;
