-- Steps outside of sessions from before a time are forgotten.
-- $1 organization, $2 before (timestamptz). Returns nothing.
DELETE FROM pfa.step AS s
 WHERE s.organization_id = $1
   AND s.session_id = ''
   AND s.at < $2;
