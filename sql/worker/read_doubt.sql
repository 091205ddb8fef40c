-- Why it is not certain that a pull brought all rows. $1 organization, $2 run_id (uuid).
-- Returns doubt, NULL where nothing contradicts it.
SELECT r.doubt FROM public.sync_run AS r WHERE r.organization_id = $1 AND r.id = $2;
