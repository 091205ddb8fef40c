-- What is stored about a token and its bearer, for one organization or for none.
-- $1 user, $2 organization (or NULL), $3 token_ids (text[]: of the token, and of the one that it renews), $4 subject
-- (the bearer among those of all providers).
-- One row: revoked (the token, or every token of a removed account), tokens_valid_from (those of before have ended, or
-- NULL), operator, managed (the organization takes its identity provider's tokens only), identity_provider (the only
-- one whose tokens count there, or NULL), role (the stored membership's, or NULL). An organization that does not exist
-- looks like one without a membership.
SELECT EXISTS (
           SELECT FROM public.revoked_token AS r WHERE r.id = ANY ($3::text[] || ('account:' || $1::text))
       ) AS revoked,
       (
           SELECT max(l.at)
             FROM public.logout AS l
            WHERE (l.subject, l.scope) IN (($4::text, ''), ($1::text, $2::text))
       ) AS tokens_valid_from,
       coalesce((SELECT a.operator FROM public.account AS a WHERE a.id = $1::text), FALSE) AS operator,
       coalesce(o.managed_by_identity_provider, FALSE) AS managed,
       o.identity_provider,
       m.role
  FROM (VALUES (1)) AS one
  LEFT JOIN public.organization AS o ON o.id = $2::text
  LEFT JOIN public.membership AS m ON m.organization_id = $2::text AND m.account_id = $1::text;
