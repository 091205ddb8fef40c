-- Change requests of which cells stayed behind are others than those that were approved, and are reviewed again.
-- $1 organization, $2 ids (uuid[]), $3 at (timestamptz). Returns id, iteration, commit_id.
UPDATE public.change_request AS r
   SET iteration = r.iteration + 1, updated_at = $3, state = 'pending_review',
       content = encode(sha256(convert_to(r.content || r.iteration, 'UTF8')), 'hex')
 WHERE r.organization_id = $1
   AND r.id = ANY ($2::uuid[])
RETURNING r.id, r.iteration, r.commit_id;
