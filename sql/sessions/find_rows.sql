-- The keys of a session's rows. $1 organization, $2 user, $3 id (text: of the session). Returns row_key.
-- Plan: the user's modifications.
SELECT x.row_key
  FROM pfa.modification AS x
 WHERE x.organization_id = $1
   AND x.user_id = $2
   AND x.session_id = $3;
