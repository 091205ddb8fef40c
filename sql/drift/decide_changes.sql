-- Changes of a report are decided. $1 organization, $2 id (uuid of the report), $3 places (integer[], NULL for all that
-- are open), $4 decision, $5 name (text: the column that the field is read from). Returns place, field of each.
UPDATE public.drift_change AS c
   SET decision = $4, mapped_to = $5
 WHERE c.organization_id = $1
   AND c.report_id = $2
   AND c.decision IS NULL
   AND ($3::integer[] IS NULL OR array_position($3, c.place) IS NOT NULL)
RETURNING c.place, c.field;
