-- Somebody approves this iteration of a request. The caller holds its lock. Approving again is harmless.
-- $1 organization, $2 request_id (uuid), $3 iteration (integer), $4 approver, $5 digest (text: what was seen), $6 at
-- (timestamptz now). Returns nothing.
INSERT INTO public.approval AS a (organization_id, request_id, iteration, approver, digest, at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (organization_id, request_id, iteration, approver) DO UPDATE SET digest = excluded.digest, at = excluded.at;
