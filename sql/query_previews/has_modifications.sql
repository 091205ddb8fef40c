-- Whether somebody has modifications in a dataset. $1 organization, $2 user. Returns drafted (boolean).
-- Plan: the first entry of the caller's part of the primary key.
SELECT EXISTS (SELECT FROM pfa.modification AS x WHERE x.organization_id = $1 AND x.user_id = $2) AS drafted;
