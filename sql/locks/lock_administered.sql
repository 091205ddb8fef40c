-- Memberships: lock every organization that an account is ADMIN of, before the account goes; by id, so that two such
-- locks cannot wait for each other. $1 account (its id). Returns id.
-- All organizations: those that an account is ADMIN of, before the operator removes it.
SELECT o.id
  FROM public.organization AS o
 WHERE o.id IN (SELECT m.organization_id FROM public.membership AS m WHERE m.account_id = $1 AND m.role = 'ADMIN')
 ORDER BY o.id
   FOR NO KEY UPDATE;
