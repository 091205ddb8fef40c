-- What a field is read from, from now on, in place of what it was read from under any name.
-- $1 organization, $2 base (the dataset's name without a version), $3 field, $4 field_id (integer, 0: it goes by the
-- name), $5 name (text, NULL: the field is null), $6 report_id (uuid), $7 user, $8 at (timestamptz now). Returns field.
WITH before AS (
    DELETE FROM public.field_mapping AS m
     WHERE m.organization_id = $1
       AND m.dataset = $2
       AND (m.field_id = 0 AND m.field = $3 OR m.field_id = $4 AND m.field_id <> 0)
       AND (m.field, m.field_id) <> ($3, $4)
)
INSERT INTO public.field_mapping (organization_id, dataset, field, field_id, name, report_id, mapped_by, mapped_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (organization_id, dataset, field, field_id) DO UPDATE
   SET name = excluded.name, report_id = excluded.report_id, mapped_by = excluded.mapped_by,
       mapped_at = excluded.mapped_at
RETURNING field;
