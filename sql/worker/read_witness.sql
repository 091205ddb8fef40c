-- The row that a pull of what was modified has to bring and has not; not one that a push has deleted.
-- $1 organization, $2 run_id (uuid). Returns witness (text: its key), NULL where it came, or none is known.
SELECT r.witness
  FROM public.sync_run AS r
 WHERE r.organization_id = $1
   AND r.id = $2
   AND NOT EXISTS (SELECT FROM pfa.history AS h
                    WHERE h.organization_id = $1 AND h.row_key = r.witness AND h.op = 'delete' AND h.source = 'push'
                      AND NOT EXISTS (SELECT FROM pfa.mirror AS m
                                       WHERE m.organization_id = $1 AND m.row_key = h.row_key));
