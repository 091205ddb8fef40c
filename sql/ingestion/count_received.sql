-- How many records were received in a time, and the last one of them. $1 organization, $2 base (the dataset's name
-- without a version), $3 since (timestamptz), $4 until (timestamptz: not itself).
-- Returns received (bigint), latest (text, NULL where there is none).
-- Plan: a range of the primary key.
SELECT count(*) AS received, max(r.received_at)::text AS latest
  FROM public.received AS r
 WHERE r.organization_id = $1
   AND r.dataset = $2
   AND r.received_at >= $3
   AND r.received_at < $4;
