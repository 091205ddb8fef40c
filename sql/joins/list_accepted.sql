-- The joins that questions can take. $1 organization.
-- Returns id, version, child, child_fields, parent, parent_fields, confidence, fan_out (double precision: rows of the
-- child for one of the parent, on average) and most (int: at most), as they were when it was accepted, accepted_at
-- (timestamptz), in the order of datasets and fields.
-- Plan: an index of the organization's joins, which are few; that of accepted ones has the order.
SELECT j.id, j.version, j.child, j.child_fields, j.parent, j.parent_fields, j.confidence,
       coalesce((j.statistics #>> '{fanOut,average}')::double precision, 1) AS fan_out,
       coalesce((j.statistics #>> '{fanOut,greatest}')::double precision::int, 1) AS most, j.accepted_at
  FROM public.dataset_join AS j
 WHERE j.organization_id = $1
   AND j.state = 'accepted'
 ORDER BY j.child, j.child_fields, j.parent, j.parent_fields;
