-- Discard the caller's changes that upstream refused, of these rows. Locks as for discard_drafts; fold_pending follows.
-- $1 organization, $2 user, $3 keys (text[]).
UPDATE pfa.change AS c
   SET state = 'discarded'
 WHERE c.organization_id = $1
   AND c.user_id = $2
   AND c.row_key = ANY ($3::text[])
   AND c.state = ANY (vanguard.refused());
