-- Forget a few of the organization's expired keys at each new one, so that no job has to: those of whoever has the
-- oldest. It waits for nobody: rows that somebody holds stay, and so does all of somebody whose count is held.
-- $1 organization, $2 before (timestamptz: keys from before it are expired). Returns nothing.
WITH oldest AS (
    SELECT k.user_id
      FROM public.idempotency_key AS k
     WHERE k.organization_id = $1
       AND k.created_at < $2
     ORDER BY k.created_at
     LIMIT 1
),
owner AS (
    SELECT a.user_id
      FROM oldest AS o
      JOIN public.kept_answers AS a ON a.organization_id = $1 AND a.user_id = o.user_id
       FOR UPDATE OF a SKIP LOCKED
),
expired AS (
    SELECT k.user_id, k.key
      FROM public.idempotency_key AS k
     WHERE k.organization_id = $1
       AND k.created_at < $2
       AND k.user_id = (SELECT w.user_id FROM owner AS w)
     ORDER BY k.created_at
     LIMIT 10
       FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM public.idempotency_key AS k
     WHERE k.organization_id = $1
       AND (k.user_id, k.key) IN (SELECT e.user_id, e.key FROM expired AS e)
    RETURNING k.user_id, coalesce(octet_length(k.answer), 0) AS bytes
)
UPDATE public.kept_answers AS a
   SET keys = a.keys - n.keys, bytes = a.bytes - n.bytes
  FROM (SELECT g.user_id, count(*) AS keys, sum(g.bytes)::bigint AS bytes FROM gone AS g GROUP BY g.user_id) AS n
 WHERE a.organization_id = $1
   AND a.user_id = n.user_id;
