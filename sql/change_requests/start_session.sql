-- A session of a request that was not drafted in one: it is submitted from the beginning.
-- $1 organization, $2 dataset, $3 user, $4 id (text), $5 title (text), $6 at (timestamptz now), $7 expires_at
-- (timestamptz). Returns nothing.
INSERT INTO public.edit_session (organization_id, dataset, user_id, id, mode, title, state, created_at, expires_at)
VALUES ($1, $2, $3, $4, 'full_table', $5, 'submitted', $6, $7);
