-- Keep the answer of a claimed Idempotency-Key, and count it: last of all, since the count is everybody's who sends
-- requests of this user.
-- $1 organization, $2 user, $3 idempotency_key, $4 status (int), $5 body (bytea, or NULL: too large), $6 body_digest
-- (bytea, or NULL: then the body is kept), $7 refused (boolean: nothing was written, so that it can be forgotten),
-- $8 more_keys (bigint), $9 more_bytes (bigint). Returns nothing.
WITH kept AS (
    UPDATE public.idempotency_key
       SET status = $4, answer = $5, answer_digest = $6, refused = $7
     WHERE organization_id = $1
       AND user_id = $2
       AND key = $3
)
INSERT INTO public.kept_answers AS a (organization_id, user_id, keys, bytes)
VALUES ($1, $2, $8, $9)
ON CONFLICT (organization_id, user_id) DO UPDATE
   SET keys = a.keys + excluded.keys, bytes = a.bytes + excluded.bytes;
