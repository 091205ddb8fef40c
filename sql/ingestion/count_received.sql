-- How many records were received in a time, without those that somebody has put away in any version of the dataset, and
-- the last one of all. $1 organization, $2 base (the dataset's name without a version), $3 since (timestamptz),
-- $4 until (timestamptz: not itself). Returns received (bigint), latest (text, NULL where there is none).
-- Plan: a range of the primary key, and the records that were put away.
SELECT count(*) - (SELECT count(*)
                     FROM (SELECT DISTINCT q.first_seen_at, q.run_id, q.line
                             FROM public.quarantine AS q
                            WHERE q.organization_id = $1
                              AND q.dataset = ANY (ARRAY(SELECT d.name
                                                           FROM public.dataset AS d
                                                          WHERE d.organization_id = $1
                                                            AND d.base = $2))
                              AND q.discarded_at IS NOT NULL
                              AND q.first_seen_at >= $3
                              AND q.first_seen_at < $4) AS a
                     JOIN public.received AS p
                       ON p.organization_id = $1
                      AND p.dataset = $2
                      AND p.received_at = a.first_seen_at
                      AND p.run_id = a.run_id
                      AND p.line = a.line) AS received,
       max(r.received_at)::text AS latest
  FROM public.received AS r
 WHERE r.organization_id = $1
   AND r.dataset = $2
   AND r.received_at >= $3
   AND r.received_at < $4;
