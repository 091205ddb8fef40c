-- What is stored about bearers of tokens in one organization, many at once: auth/read_stored for those who hold a
-- stream.
-- $1 organization, $2 users (text[]), $3 token_ids (text[]: of the same bearers, in the same order), $4 session_ids
-- (text[]: of the tokens that these renew, or NULL), $5 subjects (text[]).
-- Returns place (from 1), revoked, tokens_valid_from, managed, identity_provider, role, as auth/read_stored does, in
-- their order.
-- Plan: primary keys, once for each bearer.
SELECT b.place,
       EXISTS (
           SELECT FROM public.revoked_token AS r WHERE r.id IN (b.token_id, b.session_id, 'account:' || b.user_id)
       ) AS revoked,
       (
           SELECT max(l.at)
             FROM public.logout AS l
            WHERE (l.subject, l.scope) IN ((b.subject, ''), (b.user_id, $1))
       ) AS tokens_valid_from,
       coalesce(
           (SELECT o.managed_by_identity_provider FROM public.organization AS o WHERE o.id = $1), FALSE
       ) AS managed,
       (SELECT o.identity_provider FROM public.organization AS o WHERE o.id = $1) AS identity_provider,
       (
           SELECT m.role FROM public.membership AS m WHERE m.organization_id = $1 AND m.account_id = b.user_id
       ) AS role
  FROM unnest($2::text[], $3::text[], $4::text[], $5::text[])
       WITH ORDINALITY AS b (user_id, token_id, session_id, subject, place)
 ORDER BY b.place;
