-- The row that a pull of what was modified has to bring and has not. $1 organization, $2 run_id (uuid).
-- Returns witness (text: its key), NULL where it came, or none is known.
SELECT r.witness FROM public.sync_run AS r WHERE r.organization_id = $1 AND r.id = $2;
