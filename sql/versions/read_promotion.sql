-- The last promotion of a version. $1 organization, $2 base (the dataset's name without a version), $3 major (int).
-- Returns revision, at; no row where it was never promoted.
SELECT t.revision, t.at
  FROM public.dataset_transition AS t
 WHERE t.organization_id = $1
   AND t.dataset = $2
   AND t.major = $3
   AND t.action = 'promote'
   AND t.undone_at IS NULL
 ORDER BY t.id DESC
 LIMIT 1;
