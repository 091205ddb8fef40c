-- Rows of the version in use, for another one that is filled from them, in the order of their ids.
-- $1 organization, $2 after (text: beyond this id), $3 limit (bigint).
-- Returns row_key, data, event_at, processed_at, event_key, updated_at.
-- Plan: the mirror's primary key from the id on.
SELECT m.row_key, m.data, m.event_at, m.processed_at, m.event_key, m.updated_at
  FROM pfa.mirror AS m
 WHERE m.organization_id = $1
   AND m.row_key > $2
 ORDER BY m.row_key
 LIMIT $3;
