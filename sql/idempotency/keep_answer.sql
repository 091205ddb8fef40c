-- Keep the answer of a claimed Idempotency-Key.
-- $1 organization, $2 user, $3 idempotency_key, $4 status (int), $5 body (bytea). Returns nothing.
UPDATE public.idempotency_key
   SET status = $4, answer = $5
 WHERE organization_id = $1
   AND user_id = $2
   AND key = $3;
