-- How many rows a version has. $1 organization. Returns rows. Plan: an index of the mirror alone.
SELECT count(*) AS rows FROM pfa.mirror AS m WHERE m.organization_id = $1;
