-- About how many rows the mirror has, by its statistics; 0 where there are none.
-- No parameters. Returns row_count.
SELECT greatest(0, c.reltuples)::bigint AS row_count
  FROM pg_catalog.pg_class AS c
 WHERE c.oid = 'pfa.mirror'::regclass;
