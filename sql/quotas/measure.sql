-- What a user holds in a dataset, counted anew; the caller holds lock 2.
-- $1 organization, $2 dataset, $3 user. Returns rows, bytes.
UPDATE public.workspace AS w
   SET held_rows = n.rows, held_bytes = n.bytes, held_known = TRUE
  FROM (SELECT count(*) AS rows, coalesce(sum(pg_column_size(x.delta || '{}')), 0)::bigint AS bytes
          FROM pfa.modification AS x
         WHERE x.organization_id = $1
           AND x.user_id = $3) AS n
 WHERE w.organization_id = $1
   AND w.dataset = $2
   AND w.user_id = $3
RETURNING n.rows, n.bytes;
