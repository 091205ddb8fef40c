-- How many of the staged rows are new, and how many differ from the mirror's.
-- $1 organization. Returns absent, present.
-- Plan: each staged row by the mirror's primary key, as in sift_staged.
SELECT count(*) FILTER (WHERE s.known IS NULL) AS absent, count(s.known) AS present
  FROM (SELECT (SELECT m.row_key
                  FROM pfa.mirror AS m
                 WHERE m.organization_id = $1 AND m.row_key = t.row_key
                 LIMIT 1) AS known
          FROM staged AS t) AS s;
