-- What a version of a dataset went through. $1 organization, $2 base (the dataset's name without a version), $3 major
-- (int), $4 version, $5 action, $6 from_state (or NULL), $7 to_state, $8 user, $9 reason (or NULL), $10 at
-- (timestamptz), $11 revision (bigint: of the dataset, or NULL). Returns id.
INSERT INTO public.dataset_transition
       (organization_id, dataset, major, version, action, from_state, to_state, actor, reason, at, revision)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
RETURNING id;
