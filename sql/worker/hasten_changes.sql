-- Somebody asked for a push: what waits for another attempt goes now. Not a new row without a key that was sent: it
-- waits until upstream cannot be at it any more. $1 organization, $2 at (timestamptz now).
UPDATE pfa.change AS c
   SET next_attempt_at = $2
 WHERE c.organization_id = $1
   AND c.state = 'committed'
   AND c.next_attempt_at > $2
   AND c.sent_at IS NULL;
