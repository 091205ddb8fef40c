-- Forget previews of a user that nobody can run any more. $1 organization, $2 user, $3 before (timestamptz).
DELETE FROM public.query_preview AS p
 WHERE p.organization_id = $1
   AND p.user_id = $2
   AND p.expires_at < $3;
