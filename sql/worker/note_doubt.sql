-- Note why it is not certain that a pull brought all rows.
-- $1 organization, $2 run_id (uuid), $3 doubt (text). Returns id.
UPDATE public.sync_run AS r
   SET doubt = $3
 WHERE r.organization_id = $1
   AND r.id = $2
RETURNING r.id;
