-- Mark a promotion as undone. $1 organization, $2 base (the dataset's name without a version), $3 major (int), $4 at
-- (timestamptz). Returns nothing.
UPDATE public.dataset_transition AS t
   SET undone_at = $4
 WHERE t.organization_id = $1
   AND t.dataset = $2
   AND t.major = $3
   AND t.action = 'promote'
   AND t.undone_at IS NULL;
