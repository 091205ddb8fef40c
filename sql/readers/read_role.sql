-- A role of the server that may become a reader of reports. Run by the owner. $1 role (its name).
-- Returns enters (it can log in), above (no policy would hold it: it is one of these, or a member of one: a superuser,
-- a role with BYPASSRLS or CREATEROLE, one that reads or writes everything, the service's role, the tables' owner), or
-- no row.
SELECT r.rolcanlogin AS enters,
       EXISTS (
           SELECT
             FROM pg_roles AS s
            WHERE pg_has_role(r.oid, s.oid, 'MEMBER')
              AND (s.rolsuper OR s.rolbypassrls OR s.rolcreaterole
                   OR s.rolname IN ('vanguard_app', 'pg_read_all_data', 'pg_write_all_data', 'pg_read_server_files',
                                    'pg_write_server_files', 'pg_execute_server_program')
                   OR s.oid IN (SELECT c.relowner
                                  FROM pg_class AS c
                                 WHERE c.oid IN ('public.account'::regclass, 'public.reader'::regclass)))
       ) AS above
  FROM pg_roles AS r
 WHERE r.rolname = $1;
