-- Delete the modifications that came out empty; named by their keys, so that nobody else's work in progress is read.
-- $1 organization, $2 user (or NULL for everybody's), $3 keys (text[]). Returns nothing.
DELETE FROM pfa.modification AS x
 WHERE x.organization_id = $1
   AND ($2::text IS NULL OR x.user_id = $2)
   AND x.row_key = ANY ($3::text[])
   AND x.draft_op IS NULL
   AND x.pending_op IS NULL;
