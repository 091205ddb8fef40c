-- A role of the server that may become a reader of reports. Run by the owner. $1 role (its name).
-- Returns enters (it can log in), above (no policy would hold it: a superuser, one with BYPASSRLS, one that is a member
-- of the service's role or of the tables' owner), or no row.
SELECT r.rolcanlogin AS enters,
       r.rolsuper OR r.rolbypassrls
       OR EXISTS (
              SELECT
                FROM pg_class AS c
               WHERE c.oid IN ('public.account'::regclass, 'public.reader'::regclass)
                 AND pg_has_role(r.oid, c.relowner, 'MEMBER')
          )
       OR EXISTS (
              SELECT FROM pg_roles AS s WHERE s.rolname = 'vanguard_app' AND pg_has_role(r.oid, s.oid, 'MEMBER')
          ) AS above
  FROM pg_roles AS r
 WHERE r.rolname = $1;
