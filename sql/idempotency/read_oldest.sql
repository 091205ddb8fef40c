-- When the oldest of a user's keys was claimed. $1 organization, $2 user. Returns created_at, or NULL.
-- Plan: the primary key of idempotency_key; asked only where a user has as many as there may be.
SELECT min(k.created_at) AS created_at FROM public.idempotency_key AS k WHERE k.organization_id = $1 AND k.user_id = $2;
