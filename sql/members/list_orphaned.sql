-- Organizations that would be without an ADMIN if this account were none; run it under their locks.
-- $1 account (its id), $2 organizations (text[]). Returns id, by id.
SELECT o.id
  FROM unnest($2::text[]) AS o (id)
 WHERE NOT EXISTS (
           SELECT FROM public.membership AS m
            WHERE m.organization_id = o.id AND m.role = 'ADMIN' AND m.account_id <> $1
       )
 ORDER BY o.id;
