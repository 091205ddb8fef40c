-- What a dataset's view of KPIs was made of: its comment. $1 schema. Returns shape; no row where there is no such view.
SELECT obj_description(c.oid, 'pg_class') AS shape
  FROM pg_catalog.pg_class AS c
 WHERE c.relnamespace = to_regnamespace($1::text)
   AND c.relname = 'kpi'
   AND c.relkind = 'm';
