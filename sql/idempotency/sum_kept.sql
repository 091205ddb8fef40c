-- Bytes of all answers that are kept for an organization. $1 organization. Returns bytes.
-- Plan: the primary key of kept_answers.
SELECT coalesce(sum(a.bytes), 0)::bigint AS bytes FROM public.kept_answers AS a WHERE a.organization_id = $1;
