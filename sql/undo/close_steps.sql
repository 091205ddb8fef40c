-- A session's steps are neither undone nor redone any more: what they made has been committed.
-- $1 organization, $2 user, $3 session (text). Returns nothing.
UPDATE pfa.step AS s
   SET state = 'closed'
 WHERE s.organization_id = $1
   AND s.user_id = $2
   AND s.session_id = $3
   AND s.state <> 'closed';
