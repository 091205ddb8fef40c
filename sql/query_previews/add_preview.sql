-- Keep a preview. $1 organization, $2 id (uuid), $3 user, $4 query (jsonb), $5 sentence (text, NULL where the question
-- was structured), $6 digest (bytea), $7 at, $8 expires_at (timestamptz), $9 most (bigint: previews that a user has).
-- Returns id; no row where the user has as many as may be. Plan: a range of query_preview_user.
INSERT INTO public.query_preview (organization_id, id, user_id, query, sentence, digest, at, expires_at)
SELECT $1, $2::uuid, $3, $4::jsonb, $5::text, $6::bytea, $7::timestamptz, $8::timestamptz
 WHERE (SELECT count(*)
          FROM public.query_preview AS p
         WHERE p.organization_id = $1 AND p.user_id = $3 AND p.expires_at > $7) < $9::bigint
RETURNING id;
