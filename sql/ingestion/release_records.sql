-- Take out of quarantine what is a row by now, or was one before. $1 organization, $2 dataset, $3 ids (text[]).
-- Returns nothing.
DELETE FROM public.quarantine AS q
 WHERE q.organization_id = $1
   AND q.dataset = $2
   AND q.row_key = ANY ($3::text[]);
