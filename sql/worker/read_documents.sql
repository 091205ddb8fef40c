-- The mirror's documents of these rows. $1 organization, $2 keys (text[]). Returns row_key, data.
SELECT m.row_key, m.data
  FROM pfa.mirror AS m
 WHERE m.organization_id = $1
   AND m.row_key = ANY ($2::text[]);
