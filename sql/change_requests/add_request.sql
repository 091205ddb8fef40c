-- A new change request, in review. The caller holds lock 2 of its author.
-- $1 organization, $2 dataset, $3 id (uuid), $4 session_id (text), $5 author, $6 title, $7 description, $8 approvers
-- (text[]), $9 content (text), $10 validation (jsonb), $11 summary (jsonb), $12 base_revision (bigint), $13 at
-- (timestamptz now), $14 reverts (uuid, or NULL), $15 reverts_commit (uuid, or NULL), $16 left_out (jsonb).
-- Returns nothing.
INSERT INTO public.change_request (organization_id, dataset, id, session_id, author, title, description, approvers,
                                   content, validation, summary, base_revision, created_at, updated_at, reverts,
                                   reverts_commit, left_out)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13, $14, $15, $16);
