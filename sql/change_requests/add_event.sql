-- Something happened to a request. $1 organization, $2 request_id (uuid), $3 kind (text), $4 iteration (integer),
-- $5 actor (or NULL: nobody), $6 at (timestamptz now), $7 text (or NULL), $8 row_key (text or NULL), $9 field (text or
-- NULL), $10 details (jsonb).
-- Returns id.
INSERT INTO public.request_event (organization_id, request_id, kind, iteration, actor, at, text, row_key, field,
                                  details)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
RETURNING id;
