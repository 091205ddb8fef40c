-- How many lines of an organization the mirror has. $1 organization. Returns lines.
SELECT count(*) AS lines FROM pfa.mirror AS m WHERE m.organization_id = $1;
