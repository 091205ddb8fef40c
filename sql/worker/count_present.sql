-- How many rows the mirror has. $1 organization. Returns present.
-- Plan: an index of the mirror, read whole without its rows.
SELECT count(*) AS present FROM pfa.mirror AS m WHERE m.organization_id = $1;
