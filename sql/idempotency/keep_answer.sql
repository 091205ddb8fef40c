-- Keep the answer of a claimed Idempotency-Key. $1 organization, $2 user, $3 key, $4 int status, $5 bytea body.
UPDATE public.idempotency_key
   SET status = $4, answer = $5
 WHERE organization_id = $1
   AND user_id = $2
   AND key = $3;
