-- The roles of an installation in a server of its own, as docker-compose.yml has it; run by the server's superuser,
-- with psql, in the database itself. Running it again gives both logins their password anew, and the owner what is not
-- its own yet: an installation of before, whose tables belong to the superuser, becomes one with an owner.
--
--     psql --dbname vanguard --set owner_password=... --set service_password=... --file roles.sql
\set ON_ERROR_STOP on
SET client_min_messages = warning;

-- What nobody logs in as: vanguard_app is what the service acts as, vanguard_read what reports are read as.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['vanguard_app', 'vanguard_read', 'vanguard_owner', 'vanguard_service'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = name) THEN
            EXECUTE format('CREATE ROLE %I', name);
        END IF;
    END LOOP;
END
$$;
ALTER ROLE vanguard_app NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS NOREPLICATION;
ALTER ROLE vanguard_read NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS NOREPLICATION;
-- Owns the database and all that is in it, and is no superuser: it migrates, and makes the schemas of contracts.
ALTER ROLE vanguard_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS NOREPLICATION
    PASSWORD :'owner_password';
GRANT vanguard_app TO vanguard_owner;
GRANT vanguard_read TO vanguard_owner WITH ADMIN OPTION;
-- The service logs in, and can be nobody but vanguard_app.
ALTER ROLE vanguard_service LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS NOREPLICATION
    PASSWORD :'service_password';
GRANT vanguard_app TO vanguard_service;

SELECT format('ALTER DATABASE %I OWNER TO vanguard_owner', current_database()) \gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database()) \gexec
SELECT format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO vanguard_app', current_database()) \gexec
SELECT format('GRANT CONNECT ON DATABASE %I TO vanguard_read', current_database()) \gexec

-- What an installation of before has made, but for what the extensions bring.
SELECT format('ALTER SCHEMA %I OWNER TO vanguard_owner', n.nspname)
  FROM pg_namespace AS n
 WHERE n.nspname !~ '^(pg_|information_schema$)' AND n.nspname <> 'public'
   AND n.nspowner <> 'vanguard_owner'::regrole \gexec
SELECT format('ALTER %s %s OWNER TO vanguard_owner',
              CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                             WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END, c.oid::regclass)
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname !~ '^(pg_|information_schema$)' AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'c')
   AND c.relowner <> 'vanguard_owner'::regrole
   AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                      AND (d.deptype = 'e' OR c.relkind = 'S' AND d.deptype IN ('a', 'i'))) \gexec
SELECT format('ALTER ROUTINE %s OWNER TO vanguard_owner', p.oid::regprocedure)
  FROM pg_proc AS p
  JOIN pg_namespace AS n ON n.oid = p.pronamespace
 WHERE n.nspname !~ '^(pg_|information_schema$)' AND p.prokind <> 'a' AND p.proowner <> 'vanguard_owner'::regrole
   AND NOT EXISTS (SELECT FROM pg_depend AS d
                    WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e') \gexec
SELECT format('ALTER AGGREGATE %s OWNER TO vanguard_owner', p.oid::regprocedure)
  FROM pg_proc AS p
  JOIN pg_namespace AS n ON n.oid = p.pronamespace
 WHERE n.nspname !~ '^(pg_|information_schema$)' AND p.prokind = 'a' AND p.proowner <> 'vanguard_owner'::regrole
   AND NOT EXISTS (SELECT FROM pg_depend AS d
                    WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e') \gexec
