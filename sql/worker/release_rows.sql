-- Rows that came as they should: out of quarantine with them. $1 organization, $2 dataset, $3 keys (text[]).
DELETE FROM public.quarantine AS q
 WHERE q.organization_id = $1
   AND q.dataset = $2
   AND q.row_key = ANY ($3::text[]);
