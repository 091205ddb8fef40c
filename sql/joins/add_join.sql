-- A candidate is accepted. $1 organization, $2 id (uuid), $3 version, $4 child, $5 child_fields (text[]), $6 parent,
-- $7 parent_fields (text[]), $8 rationale, $9 confidence (numeric), $10 statistics (jsonb), $11 user,
-- $12 at (timestamptz now). Returns id.
INSERT INTO public.dataset_join (
    organization_id, id, version, child, child_fields, parent, parent_fields, rationale, confidence, statistics,
    accepted_by, accepted_at
)
VALUES ($1, $2, $3, $4, $5::text[], $6, $7::text[], $8, $9::numeric, $10, $11, $12)
RETURNING id;
