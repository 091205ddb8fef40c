-- What is stored about a token and its bearer, for one organization or for none.
-- $1 user, $2 organization (or NULL), $3 token_id.
-- One row: revoked (the token, or every token of a removed account), managed (the organization trusts its identity
-- provider alone), role (the stored membership's, or NULL). An organization that does not exist looks like one without
-- a membership.
SELECT EXISTS (
           SELECT FROM public.revoked_token AS r WHERE r.id IN ($3::text, 'account:' || $1::text)
       ) AS revoked,
       coalesce(
           (SELECT o.managed_by_identity_provider FROM public.organization AS o WHERE o.id = $2::text), FALSE
       ) AS managed,
       (
           SELECT m.role FROM public.membership AS m WHERE m.organization_id = $2::text AND m.account_id = $1::text
       ) AS role;
