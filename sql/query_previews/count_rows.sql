-- How many rows a dataset's mirror has, if they are few. $1 organization, $2 most (bigint).
-- Returns counted, at most so many. Plan: the first entries of an index of the organization's.
SELECT count(*) AS counted
  FROM (SELECT FROM pfa.mirror AS m WHERE m.organization_id = $1 LIMIT $2) AS few;
