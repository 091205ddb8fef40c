-- What all users of an organization hold in all of its datasets, as counted.
-- $1 organization. Returns rows, bytes.
-- Plan: workspace's primary key.
SELECT coalesce(sum(w.held_rows), 0)::bigint AS rows, coalesce(sum(w.held_bytes), 0)::bigint AS bytes
  FROM public.workspace AS w
 WHERE w.organization_id = $1;
