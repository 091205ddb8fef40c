-- The rows that records are about, as they are, under locks 1 and 4.
-- $1 organization, $2 keys (text[]). Returns row_key, data, event_at, processed_at of each that is there.
-- Plan: the mirror's primary key.
SELECT m.row_key, m.data, m.event_at, m.processed_at
  FROM pfa.mirror AS m
 WHERE m.organization_id = $1
   AND m.row_key = ANY ($2::text[]);
