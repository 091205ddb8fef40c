-- A preview of the user's. $1 organization, $2 user, $3 id (uuid). Returns query (jsonb), sentence, digest, expires_at
-- (timestamptz); no row where it is none of theirs.
SELECT p.query, p.sentence, p.digest, p.expires_at
  FROM public.query_preview AS p
 WHERE p.organization_id = $1
   AND p.id = $3::uuid
   AND p.user_id = $2;
