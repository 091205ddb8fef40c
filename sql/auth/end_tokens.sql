-- End all tokens of a bearer that were issued before, everywhere or in one organization; and forget what is so old that
-- such tokens have expired anyway: by the database's clock, too, since one that is ahead may be put back.
-- $1 subject, $2 scope (an organization, or '' for everywhere), $3 at (timestamptz: tokens of before have ended),
-- $4 before (timestamptz: a logout of before that says nothing any more). Returns nothing.
WITH over AS (
    DELETE FROM public.logout AS l
     WHERE (l.subject, l.scope) IN (
               SELECT old.subject, old.scope
                 FROM public.logout AS old
                WHERE old.at < least($4::timestamptz, now() - ($3::timestamptz - $4::timestamptz))
                  AND (old.subject, old.scope) <> ($1::text, $2::text)
                ORDER BY old.at
                LIMIT 20
                  FOR UPDATE SKIP LOCKED
           )
)
INSERT INTO public.logout AS l (subject, scope, at)
VALUES ($1::text, $2::text, $3::timestamptz)
ON CONFLICT (subject, scope) DO UPDATE SET at = greatest(l.at, excluded.at);
