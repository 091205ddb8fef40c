-- A session's rows are free: their drafts stay, as drafts without a session. The caller holds locks 2 and 4.
-- $1 organization, $2 user, $3 id (text: of the session), $4 keys (text[]). Returns nothing.
UPDATE pfa.modification AS x
   SET session_id = NULL
 WHERE x.organization_id = $1
   AND x.user_id = $2
   AND x.row_key = ANY ($4::text[])
   AND x.session_id = $3;
