-- The rows that records are about, as they are, under locks 1 and 4.
-- $1 organization, $2 keys (text[]: each once). Returns row_key, data, event_at, processed_at of each that is there.
-- Plan: the mirror's primary key for each: while a dataset is filled for the first time, nothing is known of it, and
-- another index of the organization would look as good for all of them together.
SELECT m.row_key, m.data, m.event_at, m.processed_at
  FROM unnest($2::text[]) AS k (row_key)
 CROSS JOIN LATERAL (
           SELECT m.row_key, m.data, m.event_at, m.processed_at
             FROM pfa.mirror AS m
            WHERE m.organization_id = $1 AND m.row_key = k.row_key
            LIMIT 1
       ) AS m;
