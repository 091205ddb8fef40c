-- A new session. The caller holds lock 2 of its user.
-- $1 organization, $2 dataset, $3 user, $4 id (text), $5 mode (text), $6 rows (text[], or NULL), $7 title (text, or
-- NULL), $8 at (timestamptz now), $9 expires_at (timestamptz). Returns nothing.
INSERT INTO public.edit_session (organization_id, dataset, user_id, id, mode, rows, title, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);
