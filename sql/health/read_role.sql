-- What the service acts as here: one that no policy and no missing grant would hold back is none for it, nor is one
-- that can become such a role.
-- No parameters. One row: role, superuser, exempt (from policies, by BYPASSRLS), owner (of the control tables),
-- everything (reads or writes all that there is), service (has what the service's role was granted).
SELECT r.rolname::text AS role, m.superuser, m.exempt, m.owner, m.everything,
       EXISTS (
           SELECT FROM pg_roles AS s WHERE s.rolname = 'vanguard_app' AND pg_has_role(r.oid, s.oid, 'USAGE')
       ) AS service
  FROM pg_roles AS r
 CROSS JOIN LATERAL (
           SELECT bool_or(s.rolsuper) AS superuser, bool_or(s.rolbypassrls) AS exempt,
                  bool_or(s.rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_read_server_files',
                                        'pg_write_server_files', 'pg_execute_server_program')) AS everything,
                  bool_or(s.oid IN (SELECT c.relowner
                                      FROM pg_class AS c
                                     WHERE c.relnamespace = 'public'::regnamespace
                                       AND c.relname IN ('account', 'retention'))) AS owner
             FROM pg_roles AS s
            WHERE pg_has_role(r.oid, s.oid, 'MEMBER')
       ) AS m
 WHERE r.rolname = current_user;
