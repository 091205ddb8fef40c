-- How much a mirror has. $1 organization, $2 most (rows that are counted).
-- Returns counted (rows of the organization, at most so many), rows (of all organizations, by statistics; 0 where there
-- are none), pages (of the table).
-- Plan: the first entries of an index of the organization's, and no row of anybody else.
SELECT (SELECT count(*)
          FROM (SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1 LIMIT $2) AS few) AS counted,
       greatest(0, c.reltuples)::bigint AS rows,
       pg_relation_size(c.oid) / current_setting('block_size')::bigint AS pages
  FROM pg_catalog.pg_class AS c
 WHERE c.oid = 'pfa.mirror'::regclass;
