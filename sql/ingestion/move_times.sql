-- Later records said what rows had already: the rows go on in time, and nothing else of them changes.
-- $1 organization, $2 rows (jsonb: [{id, event_at, processed_at}]). Returns row_key of each.
-- Plan: the mirror's primary key; no index has these columns.
UPDATE pfa.mirror AS m
   SET event_at = r.event_at, processed_at = r.processed_at
  FROM jsonb_to_recordset($2::jsonb) AS r (id text, event_at timestamptz, processed_at timestamptz)
 WHERE m.organization_id = $1
   AND m.row_key = r.id
RETURNING m.row_key;
