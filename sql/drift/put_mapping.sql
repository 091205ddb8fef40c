-- What a field is read from, from now on. $1 organization, $2 base (the dataset's name without a version), $3 field,
-- $4 name (text, NULL: the field is null), $5 report_id (uuid), $6 user, $7 at (timestamptz now). Returns field.
INSERT INTO public.field_mapping (organization_id, dataset, field, name, report_id, mapped_by, mapped_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (organization_id, dataset, field) DO UPDATE
   SET name = excluded.name, report_id = excluded.report_id, mapped_by = excluded.mapped_by,
       mapped_at = excluded.mapped_at
RETURNING field;
