-- An invitation that can be accepted, and what its address is here. $1 organization, $2 invitation (uuid),
-- $3 at (timestamptz: now).
-- Returns email, known (whether an account has the address), managed (the organization's identity provider says who
-- belongs to it), or no row.
SELECT i.email,
       EXISTS (SELECT FROM public.account AS a WHERE a.email = i.email) AS known,
       o.managed_by_identity_provider AS managed
  FROM public.invitation AS i
  JOIN public.organization AS o ON o.id = i.organization_id
 WHERE i.organization_id = $1 AND i.id = $2 AND i.expires_at > $3;
