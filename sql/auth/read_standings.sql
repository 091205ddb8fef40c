-- What is stored about bearers of tokens in one organization, many at once: auth/read_stored for those who hold a
-- stream.
-- $1 organization, $2 users (text[]), $3 token_ids (text[]: of the same bearers, in the same order).
-- Returns place (from 1), revoked, managed, role, as auth/read_stored does, in their order.
-- Plan: primary keys, once for each bearer.
SELECT b.place,
       EXISTS (
           SELECT FROM public.revoked_token AS r WHERE r.id IN (b.token_id, 'account:' || b.user_id)
       ) AS revoked,
       coalesce(
           (SELECT o.managed_by_identity_provider FROM public.organization AS o WHERE o.id = $1), FALSE
       ) AS managed,
       (
           SELECT m.role FROM public.membership AS m WHERE m.organization_id = $1 AND m.account_id = b.user_id
       ) AS role
  FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS b (user_id, token_id, place)
 ORDER BY b.place;
