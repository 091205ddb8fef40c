-- Forget a few of the organization's expired keys at each new one, so that no job has to. Rows that somebody holds
-- wait.
-- $1 organization, $2 before (timestamptz: keys from before it are expired). Returns nothing.
DELETE FROM public.idempotency_key AS k
 WHERE k.organization_id = $1
   AND (k.user_id, k.key) IN (
           SELECT old.user_id, old.key
             FROM public.idempotency_key AS old
            WHERE old.organization_id = $1
              AND old.created_at < $2
            ORDER BY old.created_at
            LIMIT 10
              FOR UPDATE SKIP LOCKED);
