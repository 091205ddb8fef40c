-- Claim an Idempotency-Key; waits for a transaction that is claiming the same one. An expired key is claimed anew.
-- $1 organization, $2 user, $3 idempotency_key, $4 digest (bytea: of the request), $5 at (timestamptz now), $6 before
-- (timestamptz: keys from before it are expired). Returns key, or no row where it is taken.
INSERT INTO public.idempotency_key AS k (organization_id, user_id, key, request_digest, created_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (organization_id, user_id, key) DO UPDATE
   SET request_digest = excluded.request_digest, status = NULL, answer = NULL, created_at = excluded.created_at
 WHERE k.created_at < $6
RETURNING k.key;
