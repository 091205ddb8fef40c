-- Somebody asked for a push: what waits for another attempt goes now. $1 organization, $2 timestamptz now.
UPDATE pfa.change AS c
   SET next_attempt_at = $2
 WHERE c.organization_id = $1
   AND c.state = 'committed'
   AND c.next_attempt_at > $2;
