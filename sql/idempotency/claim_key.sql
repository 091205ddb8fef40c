-- Claim an Idempotency-Key; waits for a transaction that is claiming the same one. An expired key is claimed anew.
-- $1 organization, $2 user, $3 idempotency_key, $4 digest (bytea: of the request), $5 at (timestamptz now), $6 before
-- (timestamptz: keys from before it are expired). Returns expired (bytes of the answer that an expired key had, NULL of
-- a new one), and what the user's keys hold beside it: keys, bytes; no row where it is taken.
-- A key that somebody has just forgotten is a new one, though it was there when the statement began: nobody has updated
-- its row (xmax).
WITH was AS (
    SELECT coalesce(octet_length(k.answer), 0) AS bytes
      FROM public.idempotency_key AS k
     WHERE k.organization_id = $1
       AND k.user_id = $2
       AND k.key = $3
)
INSERT INTO public.idempotency_key AS k (organization_id, user_id, key, request_digest, created_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (organization_id, user_id, key) DO UPDATE
   SET request_digest = excluded.request_digest, status = NULL, answer = NULL, answer_digest = NULL, refused = FALSE,
       created_at = excluded.created_at
 WHERE k.created_at < $6
RETURNING CASE WHEN k.xmax <> '0' THEN (SELECT w.bytes FROM was AS w) END AS expired,
          coalesce((SELECT a.keys FROM public.kept_answers AS a
                     WHERE a.organization_id = $1 AND a.user_id = $2), 0) AS keys,
          coalesce((SELECT a.bytes FROM public.kept_answers AS a
                     WHERE a.organization_id = $1 AND a.user_id = $2), 0) AS bytes;
