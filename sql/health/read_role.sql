-- What the service acts as here: one that no policy and no missing grant would hold back is none for it.
-- No parameters. One row: role, superuser, exempt (from policies, by BYPASSRLS), owner (of the control tables),
-- service (has what the service's role was granted).
SELECT r.rolname::text AS role, r.rolsuper AS superuser, r.rolbypassrls AS exempt,
       EXISTS (
           SELECT
             FROM pg_class AS c
            WHERE c.relnamespace = 'public'::regnamespace
              AND c.relname IN ('account', 'retention')
              AND c.relowner = r.oid
       ) AS owner,
       EXISTS (
           SELECT FROM pg_roles AS s WHERE s.rolname = 'vanguard_app' AND pg_has_role(r.oid, s.oid, 'USAGE')
       ) AS service
  FROM pg_roles AS r
 WHERE r.rolname = current_user;
