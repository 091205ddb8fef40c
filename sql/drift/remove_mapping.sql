-- A field is read as the contract, or the file of upstreams, says. $1 organization, $2 base (the dataset's name without
-- a version), $3 field, $4 field_id (integer, 0: it has none). Returns field; nothing where it was read so.
DELETE FROM public.field_mapping AS m
 WHERE m.organization_id = $1
   AND m.dataset = $2
   AND (m.field_id = 0 AND m.field = $3 OR m.field_id = $4 AND m.field_id <> 0)
RETURNING m.field;
