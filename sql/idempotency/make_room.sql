-- Forget keys of a user who has no room for more: those that are expired, and the oldest refusals, which changed
-- nothing. A transaction of its own.
-- $1 organization, $2 user, $3 before (timestamptz: keys from before it are expired), $4 limit (bigint: of each).
-- Returns keys, bytes: what is held then; no row where nothing could be forgotten.
-- Plan: idempotency_key_age, idempotency_key_refusals.
WITH expired AS (
    SELECT k.key
      FROM public.idempotency_key AS k
     WHERE k.organization_id = $1
       AND k.created_at < $3
       AND k.user_id = $2
     ORDER BY k.created_at
     LIMIT $4
       FOR UPDATE SKIP LOCKED
),
refusals AS (
    SELECT k.key
      FROM public.idempotency_key AS k
     WHERE k.organization_id = $1
       AND k.user_id = $2
       AND k.refused
     ORDER BY k.created_at
     LIMIT $4
       FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM public.idempotency_key AS k
     WHERE k.organization_id = $1
       AND k.user_id = $2
       AND k.key IN (SELECT e.key FROM expired AS e UNION SELECT r.key FROM refusals AS r)
    RETURNING coalesce(octet_length(k.answer), 0) AS bytes
)
UPDATE public.kept_answers AS a
   SET keys = a.keys - n.keys, bytes = a.bytes - n.bytes
  FROM (SELECT count(*) AS keys, sum(g.bytes)::bigint AS bytes FROM gone AS g) AS n
 WHERE n.keys > 0
   AND a.organization_id = $1
   AND a.user_id = $2
RETURNING a.keys, a.bytes;
