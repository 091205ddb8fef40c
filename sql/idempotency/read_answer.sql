-- The answer kept under an Idempotency-Key; NULL where it was too large.
-- $1 organization, $2 user, $3 idempotency_key, $4 before (timestamptz: keys from before it are expired).
-- Returns request_digest, status, answer.
SELECT k.request_digest, k.status, k.answer
  FROM public.idempotency_key AS k
 WHERE k.organization_id = $1
   AND k.user_id = $2
   AND k.key = $3
   AND k.created_at >= $4;
