-- What was written for these users nobody has counted: it is measured before it matters. Their lock 2 is held.
-- $1 organization, $2 dataset, $3 users (text[]). Returns nothing.
UPDATE public.workspace AS w
   SET held_known = FALSE
 WHERE w.organization_id = $1
   AND w.dataset = $2
   AND w.user_id = ANY ($3::text[])
   AND w.held_known;
