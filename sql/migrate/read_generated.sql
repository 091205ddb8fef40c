-- The generated columns of a dataset's mirror, with what each was made of, which its comment holds.
-- $1 schema. Returns column_name, type_name, made_of ('' where the comment is missing).
SELECT a.attname::text AS column_name, a.atttypid::regtype::text AS type_name,
       coalesce(col_description(c.oid, a.attnum), '') AS made_of
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
 WHERE n.nspname = $1::text
   AND c.relname = 'mirror'
   AND a.attgenerated = 's'
   AND NOT a.attisdropped
 ORDER BY a.attnum;
