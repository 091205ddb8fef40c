-- The rows that an event is about, a page of them in the order of the event. $1 organization, $2 dataset, $3 number
-- (bigint: of the event), $4 offset (bigint), $5 limit (bigint), $6 epoch (bigint: of the event). Returns row_count,
-- audience, for_admins, for_engineers, keys (text[]); no row where there is no such event of the dataset. Plan: the
-- primary key.
SELECT f.row_count, f.audience, f.for_admins, f.for_engineers, f.keys[$4::bigint + 1 : $4::bigint + $5::bigint] AS keys
  FROM public.feed AS f
 WHERE f.organization_id = $1
   AND f.dataset = $2
   AND f.number = $3
   AND (SELECT i.number FROM public.incarnation AS i) = $6::bigint;
